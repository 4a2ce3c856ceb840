"""The examples in docstrings: they run, and no formula is without one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import recon
import recon.metrics
from recon.physics import ct, fan_beam, geometry, movement, mri, photons, rotation

ROOT = Path(recon.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def examples(module: ModuleType) -> dict[str, doctest.DocTest]:
    """The docstrings of a module that have examples, by name."""
    return {test.name: test for test in doctest.DocTestFinder().find(module) if test.examples}


def public_names(module: ModuleType) -> set[str]:
    """The functions and classes that a module defines for others."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, monkeypatch):
    """In the plain torch form, which is the definition and need not be compiled first."""
    monkeypatch.setenv("RECON_KERNELS", "0")
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.DONT_ACCEPT_TRUE_FOR_1)
    said: list[str] = []
    for test in examples(importlib.import_module(name)).values():
        runner.run(test, out=said.append)
    assert not runner.failures, "".join(said)


def test_every_metric_has_an_example():
    for name in recon.metrics.__all__:
        value = getattr(recon.metrics, name)
        assert f"{value.__module__}.{name}" in examples(importlib.import_module(value.__module__)), name


@pytest.mark.parametrize(
    "module", [ct, fan_beam, geometry, mri, movement, photons, rotation], ids=lambda module: module.__name__
)
def test_every_function_of_physics_has_an_example(module):
    found = examples(module)
    assert public_names(module)
    for name in public_names(module):
        assert f"{module.__name__}.{name}" in found, name
