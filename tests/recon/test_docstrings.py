"""The examples in the docstrings of the metrics and of the physics say what is true."""

import doctest
import importlib

import pytest

MODULES = ("metrics.quality", "metrics.equivariance", "metrics.classification", "physics.ct", "physics.mri")


@pytest.mark.parametrize("name", [*MODULES, "physics.movement"])
def test_examples(name):
    found = doctest.testmod(importlib.import_module(f"recon.{name}"))
    assert found.attempted > 1
    assert found.failed == 0
