"""The files that ``recon-predict`` is given: which there are, and of what kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep import InputFiles
from recon.errors import InputError


class Input(NamedTuple):
    """One volume to reconstruct.

    Attributes:
        path: the file, or the folder of its slices.
        kind: how it is read.
    """

    path: Path
    kind: InputFiles

    @property
    def name(self) -> str:
        """What its reconstruction is called, without suffix."""
        return self.kind.name(self.path)


def find_inputs(given: Sequence[str], kinds: Sequence[InputFiles]) -> list[Input]:
    """The files that are named, and those in the folders that are named; of slices in files of their own the folder.

    Args:
        given: files and folders.
        kinds: what the task reads.

    Raises:
        InputError: there is no such file, a folder holds none or several kinds, or two have one name.
    """
    found: list[Input] = []
    for path in map(Path, given):
        if not path.exists():
            raise InputError(f"there is no file or folder {path}: give {_listed(kinds)}, or a folder of them")
        found += _inside(path, kinds) if path.is_dir() else [_alone(path, kinds)]
    names: dict[str, Path] = {}
    for each in found:
        if each.name in names:
            raise InputError(
                f"{names[each.name]} and {each.path} have one name, so that one would be written over the other: "
                "give each its own --out folder"
            )
        names[each.name] = each.path
    return found


def _inside(folder: Path, kinds: Sequence[InputFiles]) -> list[Input]:
    by_kind = [(kind, paths) for kind in kinds if (paths := kind.find(folder))]
    if not by_kind:
        inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(kind.find(path) for kind in kinds)]
        hint = f", such as {inner[0]}" if inner else ""
        raise InputError(f"{folder} holds no {_listed(kinds)}: give the folder that does{hint}")
    if len(by_kind) > 1:
        examples = " and ".join(f"{kind.listed}, such as {paths[0].name}" for kind, paths in by_kind)
        raise InputError(f"{folder} mixes {examples}: give each kind its own folder")
    kind, paths = by_kind[0]
    return [Input(path, kind) for path in kind.to_open(folder, paths)]


def _alone(path: Path, kinds: Sequence[InputFiles]) -> Input:
    for kind in kinds:
        kind.refuse(path)
    return Input(path, next((kind for kind in kinds if kind.takes(path)), kinds[0]))  # who says what is wrong with it


def _listed(kinds: Sequence[InputFiles]) -> str:
    return " or ".join(kind.listed for kind in kinds)
