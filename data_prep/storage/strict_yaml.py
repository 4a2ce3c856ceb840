"""YAML that says each thing once: a mapping with a key twice would silently lose the first of them."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml

from recon.errors import InputError


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node; what it merges in (``<<``) may be overwritten, what it says itself may not."""
        seen: set[str | None] = set()
        for key_node, _ in node.value:
            key = None if key_node.tag.endswith(":merge") else getattr(key_node, "value", None)
            if isinstance(key, str) and key in seen:
                line = key_node.start_mark.line + 1
                raise InputError(f"the key {key} stands twice (line {line}): leave one of them out")
            seen.add(key if isinstance(key, str) else None)
        return super().construct_mapping(node, deep)


def strict_yaml(text: str) -> Any:
    """Return what YAML says.

    Raises:
        InputError: a mapping has a key twice; names the key.
        yaml.YAMLError: it is no YAML.
    """
    return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader
