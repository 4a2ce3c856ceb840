"""Trained networks that come with the package: ``zoo:NAME`` stands for one's run folder wherever a RUN is asked for."""

from __future__ import annotations

from pathlib import Path

from data_prep.storage.packaged import packaged_file
from recon.errors import InputError, check_choice

PREFIX = "zoo:"
ZOO = Path(str(packaged_file("pipelines/zoo")))


def zoo_names() -> list[str]:
    """The names that may stand after ``zoo:``."""
    return sorted(path.parent.name for path in ZOO.glob("*/config.yaml"))


def in_zoo(path: Path) -> bool:
    """Whether this is ``zoo:NAME``, or a file or folder of the package's networks."""
    resolved = path.resolve()
    return str(path).startswith(PREFIX) or ZOO.resolve() in (resolved, *resolved.parents)


def run_path(path: Path) -> Path:
    """The run folder that ``zoo:NAME`` stands for; any other path as it is.

    Raises:
        InputError: the package has no network of this name; lists those that it has.
    """
    if not str(path).startswith(PREFIX):
        return path
    name = str(path).removeprefix(PREFIX)
    check_choice("network of the zoo", name, zoo_names())
    return ZOO / name


def refuse_zoo(flag: str, path: Path) -> None:
    """Refuse to train where the package's own networks lie.

    Raises:
        InputError: says how a training can start from one of them.
    """
    if in_zoo(path):
        raise InputError(
            f"{flag} {path} is of the package, whose networks are not trained on: start a new training from one "
            f"with --init {PREFIX}NAME, and give it a folder of your own"
        )
