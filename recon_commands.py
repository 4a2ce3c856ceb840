"""Where the installed commands start: a module that no other package is named like, so that it can tell a foreign one.

Each command is a function of :mod:`pipelines.commands.entry` of the same name.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = ("recon", "data_prep", "pipelines", "configs")
BAD_INPUT = 2


def train() -> int:
    """``recon-train``."""
    return _start("train")


def evaluate() -> int:
    """``recon-evaluate``."""
    return _start("evaluate")


def predict() -> int:
    """``recon-predict``."""
    return _start("predict")


def prepare() -> int:
    """``recon-prepare``."""
    return _start("prepare")


def tune() -> int:
    """``recon-tune``."""
    return _start("tune")


def export() -> int:
    """``recon-export``."""
    return _start("export")


def _start(command: str) -> int:
    for package in PACKAGES:
        found = _folder(package)
        if found != HERE / package:
            where = "nowhere" if found is None else f"in {found.parent}"
            print(
                f"error: Python finds the package {package} {where}, not in {HERE}: "
                "leave folders that hold a package of that name out of PYTHONPATH",
                file=sys.stderr,
            )
            return BAD_INPUT
    return int(getattr(importlib.import_module("pipelines.commands.entry"), command)())


def _folder(package: str) -> Path | None:
    """Where the package lies that an import would take; a single file counts by its name without the ending."""
    spec = find_spec(package)
    if spec is None:
        return None
    place = next(iter(spec.submodule_search_locations or []), None) or spec.origin
    return None if place is None else Path(place).resolve()
