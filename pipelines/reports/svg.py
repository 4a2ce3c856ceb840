"""A drawing of matplotlib made an element for inside a page: its colours and font, ids of its own, few digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.etree import ElementTree

DIGITS = 3  # of a coordinate, in points
_NOT_SHOWN = ("style", "metadata")


def for_a_page(drawing: str, name: str, colours: Mapping[str, str]) -> str:
    """The ``<svg>`` element alone, which takes the size that the page gives it.

    Args:
        drawing: SVG as matplotlib writes it.
        name: before every id, so that none stands twice in a page.
        colours: what stands in the place of a colour, such as ``{"#010203": "currentColor"}``.
    """
    root = ElementTree.fromstring(drawing)
    del root.attrib["width"], root.attrib["height"]
    for element in root.iter():
        for child in [child for child in element if _local(child.tag) in _NOT_SHOWN]:
            element.remove(child)
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _value(_local(key), value, name, colours) for key, value in element.items()}
        element.text, element.tail = _shown(element.text), _shown(element.tail)
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """Without the namespace: HTML has none."""
    return name.rpartition("}")[2]


def _shown(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _value(key: str, value: str, name: str, colours: Mapping[str, str]) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "style":
        return "; ".join(_declarations(value, name, colours))
    if key == "href":
        return f"#{name}-{value[1:]}" if value.startswith("#") else "".join(value.split())
    return _reference(" ".join(map(_rounded, value.split())), name)


def _declarations(style: str, name: str, colours: Mapping[str, str]) -> Iterator[str]:
    for declaration in filter(str.strip, style.split(";")):
        key, value = (part.strip() for part in declaration.split(":", 1))
        value = "inherit" if key == "font-family" else _reference(colours.get(value, value), name)
        yield f"{key}: {value}"


def _reference(value: str, name: str) -> str:
    return value.replace("url(#", f"url(#{name}-")


def _rounded(word: str) -> str:
    """A number, perhaps behind a function's name and bracket or before the closing one."""
    function, bracket, number = word.rpartition("(")
    end = ")" if number.endswith(")") else ""
    try:
        value = round(float(number.removesuffix(")")), DIGITS)
    except ValueError:
        return word
    return f"{function}{bracket}{int(value) if value.is_integer() else value}{end}"
