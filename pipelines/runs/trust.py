"""Code that a configuration names is run only where the user has named it, too: run folders come from others."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from data_prep.storage.folder import cache_folder
from pipelines.runtime.nested import Value
from recon.errors import InputError

_named: set[str] = set()  # in this process


def trust(factory: str, args: Mapping[str, Value]) -> None:
    """Note that the user named a factory on the command line, in this process and in the user's cache."""
    _named.add(factory)
    with contextlib.suppress(OSError):  # a cache that cannot be written to forgets
        for mark in (_mark(factory), _mark(factory, args)):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def trust_in_sweep(factory: str) -> None:
    """Let a sweep's trial call a factory with whatever arguments its space has, if the user has named it before."""
    if _mark(factory).exists():
        _named.add(factory)


def check_trusted(factory: str, args: Mapping[str, Value]) -> None:
    """Refuse code that nobody but a file has named.

    Raises:
        InputError: neither this command nor an earlier one of this user named the factory, with these arguments.
    """
    if factory not in _named and not _mark(factory, args).exists():
        raise InputError(
            f"a file names the code {factory} with the arguments {json.dumps(dict(args))}, which you have not run by "
            f"yourself: if you trust it, name it once with --model {factory} and these --model-args, in recon-train or "
            "recon-evaluate"
        )


def _mark(factory: str, args: Mapping[str, Value] | None = None) -> Path:
    words = factory if args is None else f"{factory} {json.dumps(dict(args), sort_keys=True)}"
    return cache_folder() / "models" / hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()
