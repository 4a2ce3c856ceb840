"""The files of LoDoPaB-CT: where they are, and which lack."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_prep.lodopab.volume import PARTS, CTVolume, read_ct_volume
from data_prep.storage.cache import reason
from data_prep.storage.index import describe_files, index_file, sizes
from data_prep.storage.notes import note
from recon.errors import InputError, check_choice

COPY = re.compile(r" ?\(\d+\)$")  # what a browser adds to a name that is there already


def ct_splits(data: Path) -> list[str]:
    """Return the splits, among train, val and test, of which a root folder has observations.

    Raises:
        InputError: it has none; tells what there is.
    """
    found = [split for split, part in PARTS.items() if _of_part(Path(data), "observation", part)]
    if not found:
        raise _nothing(Path(data), "train")
    return found


def find_ct_volumes(data: Path, split: str | None, progress: bool = True) -> list[CTVolume]:
    """Validate and describe LoDoPaB's files of one split, of one folder, or a single one.

    A split's files lie in `data` itself, or in folders that are called as their zip files:
    `observation_train/observation_train_000.hdf5` and `ground_truth_train/ground_truth_train_000.hdf5`. What was
    found is kept as JSON in the cache folder, so that only new and changed files are read again.

    Args:
        data: with a split, the root folder; without, a folder of observations or one file of them, with or without
            their ground truth in one of the places above.
        split: train, val, test, or None where `data` says it all.
        progress: show a progress bar while files are read.

    Returns:
        The volumes, sorted by name, all of one geometry.

    Raises:
        InputError: no such folder, no files in it, one of a pair without the other, sizes that differ between files,
            or the first bad file (see `read_ct_volume`).
    """
    data = Path(data)
    if split is None and os.path.isfile(data):
        return [read_ct_volume(*_with_target(data))]
    paths = _folder(data) if split is None else _split(data, split)
    groups = [_with_target(path) for path in paths]
    alone = [path for path, *target in groups if split is not None and not target]
    if alone:
        raise InputError(f"{alone[0]} has no {_target_name(alone[0])} beside it: copy or unpack the ground truth too.")
    about = {"folder": str(data.resolve()), "split": split or "none"}
    store = index_file(data, f"lodopab-{split}")
    volumes = describe_files(store, about, groups, read_ct_volume, _restore, progress)
    for volume in volumes:
        if volume.sinogram_size != volumes[0].sinogram_size:
            here, there = ("{} x {}".format(*found.sinogram_size) for found in (volume, volumes[0]))
            raise InputError(
                f"{volume.path} has sinograms of {here} and {volumes[0].path.name} of {there} (angles x detectors): "
                "keep one size in a folder."
            )
    return volumes


def _split(data: Path, split: str) -> list[Path]:
    """The observations of a split, which has as many files of ground truth."""
    check_choice("split", split, PARTS)
    part = PARTS[split]
    observations, targets = (_of_part(data, kind, part) for kind in ("observation", "ground_truth"))
    observations, targets = _tell_oddities(observations), [path for path in targets if not COPY.search(path.stem)]
    if not observations:
        raise _nothing(data, part)
    names = {path.stem for path in observations}
    for target in targets:
        name = target.stem.replace("ground_truth", "observation", 1)
        if name not in names:
            raise InputError(f"{target} has no {name}.hdf5 beside it: copy or unpack the observations too.")
    return observations


def _nothing(data: Path, part: str) -> InputError:
    return InputError(
        f"{data} has no files observation_{part}_*.hdf5 (found {_listed(data)}): give the folder that LoDoPaB's zip "
        "files were unpacked to."
    )


def _of_part(data: Path, kind: str, part: str) -> list[Path]:
    """The files of a kind and a part, in the root folder and in a folder of their own.

    Raises:
        InputError: one file lies in both.
    """
    name = f"{kind}_{part}"
    found: dict[str, Path] = {}
    for path in _hdf5(data, f"{name}_") + _hdf5(data / name, f"{name}_"):
        twin = found.setdefault(path.stem, path)
        if os.path.realpath(path) != os.path.realpath(twin):
            raise InputError(f"{twin} and {path} have one name: move one of them out of {data}.")
    return sorted(found.values(), key=lambda path: path.name)


def _tell_oddities(paths: Sequence[Path]) -> list[Path]:
    """The files of a split without copies that a browser named; says aloud what these are, and which numbers lack."""
    kept = [path for path in paths if not COPY.search(path.stem)]
    if copies := [path for path in paths if path not in kept]:
        note(f"left out, as copies that a browser made: {copies[0]}{_and_more(copies)}.")
    numbers = {int(end) for path in kept if (end := path.stem.rpartition("_")[2]).isdecimal()}
    if lacking := sorted(set(range(max(numbers, default=0))) - numbers):
        first = f"{kept[0].stem.rpartition('_')[0]}_{lacking[0]:03d}.hdf5"
        note(f"{kept[0].parent} has no {first}{_and_more(lacking)}, but files of higher numbers.")
    return kept


def _and_more(found: Sequence[object]) -> str:
    return f" and {len(found) - 1} more" if len(found) > 1 else ""


def _folder(data: Path) -> list[Path]:
    """The observations of a folder."""
    if not os.path.isdir(data):
        raise InputError(f"There is no file or folder {data}: give a folder of LoDoPaB's observations, or one file.")
    found = [path for path in _hdf5(data) if not path.name.startswith("ground_truth_")]
    if not found:
        raise InputError(f"{data} holds no observations (*.hdf5, found {_listed(data)}): give the folder that does.")
    return found


def _hdf5(folder: Path, start: str = "") -> list[Path]:
    """The HDF5 files of a folder whose names begin so, in small or capital letters; none if there is no folder."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.name.startswith(start) and path.suffix.lower() == ".hdf5" and not path.name.startswith(".")
    )


def _listed(folder: Path) -> str:
    """What is in a folder, for an error message."""
    try:
        found = sorted(child.name for child in os.scandir(folder))
    except OSError as error:
        raise InputError(f"The data folder {folder} cannot be read ({reason(error)}): give LoDoPaB's.") from error
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "") or "nothing"


def _with_target(path: Path) -> tuple[Path, ...]:
    """The observations and, where there is one, their ground truth."""
    name = _target_name(path)
    folder = name.rpartition("_")[0]
    folders = [path.parent, path.parent / folder]
    if path.parent.name.startswith("observation_"):
        folders += [path.parent.parent, path.parent.parent / folder]
    places = [place / name for place in folders]
    if not any(map(os.path.isfile, places)):  # in capital letters?
        places = [found for place in folders for found in _hdf5(place) if found.name.lower() == name.lower()]
    return path, *[place for place in places if os.path.isfile(place)][:1]


def _target_name(path: Path) -> str:
    return f"ground_truth_{path.stem.removeprefix('observation_')}.hdf5"


def _restore(values: dict[str, Any], path: Path, target_path: Path | None = None) -> CTVolume:
    return CTVolume(**{**sizes(values, "sinogram_size", "image_size"), "path": path, "target_path": target_path})
