"""YAML that says each thing once: a mapping with a key twice would silently lose the first of them."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import yaml

from pipelines.runtime.nested import Value
from pipelines.runtime.nested import keys as keys_of
from recon.errors import InputError


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Value]:
        """The mapping of a node; what it merges in (``<<``) may be overwritten, what it says itself may not."""
        seen: set[str | None] = set()
        for key_node, _ in node.value:
            key = None if key_node.tag.endswith(":merge") else getattr(key_node, "value", None)
            if isinstance(key, str) and key in seen:
                line = key_node.start_mark.line + 1
                raise InputError(f"the key {key} stands twice (line {line}): leave one of them out")
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep)


def refuse_repeated_keys(text: str) -> None:
    """Refuse YAML in which a mapping has a key twice.

    Raises:
        InputError: names the key.
        yaml.YAMLError: it is no YAML.
    """
    yaml.load(text, Loader=_StrictLoader)  # a SafeLoader


def read_yaml(path: Path, what: str, hint: str, example: str) -> dict[str, Value]:
    """The keys of a YAML file.

    Args:
        path: the file.
        what: it is, such as "the configuration".
        hint: what to do where it is no YAML, such as "give another --config".
        example: of such a file.

    Raises:
        InputError: it cannot be read, is no YAML, holds no keys, or has a key twice, nested or dotted.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{what} {path} is not a file: {hint}")
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # a SafeLoader
        keys = keys_of(content) if isinstance(content, dict) else []
    except OSError as error:
        raise InputError(f"cannot read {what} {path}: {error.strerror}") from None
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except RecursionError:
        raise InputError(f"{path} holds itself or is nested too deeply: mend it or {hint}") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError):  # also a date or a number that there is not
        raise InputError(f"{path} is not valid YAML: mend it or {hint}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no keys: give a YAML file such as {example}")
    for number, key in enumerate(keys):
        if key in keys[:number]:
            raise InputError(f"{path}: the key {key} stands twice, nested and dotted: leave one of them out")
    return content
