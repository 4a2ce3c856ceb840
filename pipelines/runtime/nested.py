"""Nested mappings of settings, as YAML and JSON hold them, and their dotted keys: ``network.blur``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Value = Any
"""What stands in YAML or JSON: None, a truth value, a number, words, a list, or a mapping of such."""
Tree = Mapping[str, Value]
"""Settings or figures, nested as deeply as they are."""


def _never(value: Value) -> bool:
    return False


def leaves(
    tree: Tree, is_leaf: Callable[[Mapping[str, Value]], bool] = _never, prefix: str = ""
) -> Iterator[tuple[str, Value]]:
    """The dotted keys and the values that are no mappings, in order; a key that stands twice comes twice.

    Args:
        tree: to go through. A mapping of nothing gives nothing.
        is_leaf: which mappings are values themselves.
        prefix: before every key.
    """
    for key, value in tree.items():
        if isinstance(value, Mapping) and not is_leaf(value):
            yield from leaves(value, is_leaf, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def keys(tree: Tree) -> list[str]:
    """The dotted keys of :func:`leaves`."""
    return [key for key, _ in leaves(tree)]


def flat(tree: Tree) -> dict[str, Value]:
    """The values by dotted keys."""
    return dict(leaves(tree))


def get(tree: Tree, key: str) -> Value:
    """The value at a dotted key.

    Raises:
        KeyError: there is none.
    """
    value: Value = tree
    for part in key.split("."):
        value = value[part]
    return value


def overlay(tree: Tree, values: Tree) -> dict[str, Value]:
    """A copy with other values at these dotted keys; mappings that lack on the way are made."""
    result = dict(tree)
    for key, value in values.items():
        *path, last = key.split(".")
        place = result
        for part in path:
            place[part] = dict(place.get(part) or {})
            place = place[part]
        place[last] = value
    return result
