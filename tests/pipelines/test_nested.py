"""Nested settings and their dotted keys."""

from __future__ import annotations

import pytest

from pipelines.runtime.nested import flat, get, keys, leaves, overlay

CONFIG = {"network": {"blur": None, "widths": [1, {"a": 2}]}, "seed": 0, "empty": {}}


def test_dotted_keys_lead_to_the_values():
    assert flat(CONFIG) == {"network.blur": None, "network.widths": [1, {"a": 2}], "seed": 0}
    assert all(get(CONFIG, key) is value for key, value in flat(CONFIG).items())
    with pytest.raises(KeyError):
        get(CONFIG, "network.width")


def test_a_key_that_stands_twice_is_seen_twice():
    assert keys({"network": {"blur": 1}, "network.blur": 3}) == ["network.blur", "network.blur"]


def test_some_mappings_are_values():
    space = {"network": {"blur": {"choice": [1, 3]}}}
    assert dict(leaves(space, lambda value: "choice" in value)) == {"network.blur": {"choice": [1, 3]}}


def test_overlay_leaves_the_original_alone():
    changed = overlay(CONFIG, {"network.blur": 3, "seed": 1, "new.deep.key": 2})
    expected = {"network": {"blur": 3, "widths": [1, {"a": 2}]}, "seed": 1, "empty": {}, "new": {"deep": {"key": 2}}}
    assert changed == expected
    assert CONFIG["network"]["blur"] is None
    assert overlay(CONFIG, flat(CONFIG)) == CONFIG
