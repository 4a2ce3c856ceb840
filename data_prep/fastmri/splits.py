"""Splits of small data sets: by a list of files, or subject by subject in folds; in whatever folders the files lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from data_prep.fastmri.folder import index_folder, split_folder
from data_prep.fastmri.volume import Volume
from data_prep.storage.cache import open_file, reason
from data_prep.storage.notes import note
from data_prep.storage.strict_yaml import strict_yaml
from recon.errors import InputError, nearest

SPLITS = ("train", "val", "test")
LEAST_FOLDS = 3  # one to test on, one to validate on, one to train on


def split_volumes(
    data: Path,
    challenge: str,
    split: str,
    split_by: str | None,
    folds: int | None,
    fold: int | None,
    progress: bool = True,
) -> list[Volume]:
    """Validate and describe the files of one split, whichever of the folders of the challenge they lie in.

    In k-fold cross-validation the subjects, sorted by name, are dealt out to the folds in turn. Of run `fold`, that
    fold is tested on, the next one (cyclically) validated on, and the others are trained on: all files of a subject are
    always together.

    Args:
        data: the root folder, which holds one or more of `<challenge>_train`, `_val` and `_test`.
        challenge: singlecoil or multicoil.
        split: train, val or test.
        split_by: a YAML file with the lists train, val and test of names of files; None for folds.
        folds: how many; None for a list.
        fold: which run of the cross-validation, from 0; None for the first.
        progress: show a progress bar while files are read.

    Returns:
        The volumes, sorted by name.

    Raises:
        InputError: both ways or numbers that make no split, too few subjects, a list that names a file that is not
            there or one twice, none for this split; bad files (see `read_volume`).
    """
    if split_by is not None and folds is not None:
        raise InputError("dataset.split_by and dataset.folds both say how to split: leave one of them out")
    if folds is None and fold is not None:
        raise InputError(f"dataset.fold is {fold}, of how many? give dataset.folds, or leave dataset.fold out")
    fold = fold or 0
    if folds is not None and not (folds >= LEAST_FOLDS and 0 <= fold < folds):
        raise InputError(
            f"dataset.folds is {folds} and dataset.fold {fold}: give {LEAST_FOLDS} folds or more, and a fold from 0 to "
            "one less"
        )
    volumes = _all_volumes(Path(data), challenge, progress)
    if split_by is not None:
        chosen = _listed(volumes, Path(split_by), split)
    else:
        assert folds is not None
        chosen = _of_fold(volumes, folds, fold, split, data)
    return sorted(chosen, key=lambda volume: volume.name)


def describe_split(settings: Mapping[str, object]) -> str:
    """Say in words how the data were split; empty where each split has its folder."""
    if settings.get("folds") is not None:
        return f"fold {settings.get('fold')} of {settings.get('folds')} by subject"
    return f"files as in {settings.get('split_by')}" if settings.get("split_by") is not None else ""


def _all_volumes(data: Path, challenge: str, progress: bool) -> list[Volume]:
    folders = [folder for split in SPLITS if (folder := data / f"{challenge}_{split}").is_dir()]
    found: dict[str, Volume] = {}
    for folder in folders or [split_folder(data, challenge, "train")]:  # which says what there is
        for volume in index_folder(folder, challenge, progress):
            if volume.name in found:
                raise InputError(f"{found[volume.name].path} and {volume.path} have one name: rename one of them")
            found[volume.name] = volume
    return list(found.values())


def _of_fold(volumes: Sequence[Volume], folds: int, fold: int, split: str, data: Path) -> list[Volume]:
    subjects = sorted({volume.subject for volume in volumes})
    if len(subjects) < folds:
        raise InputError(
            f"{data} has files of {len(subjects)} subjects (attribute patient_id), too few for {folds} folds: "
            + ("lower dataset.folds" if len(subjects) >= LEAST_FOLDS else "give a list (dataset.split_by)")
            + ", or import the files with --subject"
        )
    tested, validated = fold, (fold + 1) % folds
    wanted = {"test": [tested], "val": [validated]}.get(
        split, [n for n in range(folds) if n not in (tested, validated)]
    )
    chosen = {subject for number, subject in enumerate(subjects) if number % folds in wanted}
    return [volume for volume in volumes if volume.subject in chosen]


def _listed(volumes: Sequence[Volume], path: Path, split: str) -> list[Volume]:
    lists = _read_lists(path)
    known = {volume.name: volume for volume in volumes}
    for name in [name for names in lists.values() for name in names]:
        if name not in known:
            near = nearest(name, known)
            hint = f" (did you mean {near}?)" if near else ""
            raise InputError(f"{path} names {name}{hint}, which is not among the data: correct the list")
    for subject in sorted({volume.subject for volume in volumes}):
        where = [part for part in SPLITS if any(known[name].subject == subject for name in lists.get(part, ()))]
        if len(where) > 1:
            note(f"{path} puts files of the subject {subject} into {' and '.join(where)}: figures will be too good")
    if not lists.get(split):
        raise InputError(f"{path} lists no files under {split}: add some")
    return [known[name] for name in lists[split]]


def _read_lists(path: Path) -> dict[str, list[str]]:
    """Read a YAML file of lists train, val and test of names of files, without suffix or with it.

    Raises:
        InputError: it cannot be read, holds something else, or has a file twice.
    """
    try:
        with open_file(path) as file:
            content = strict_yaml(file.read().decode())
    except (OSError, InputError) as error:
        raise InputError(f"the list {path} cannot be used ({reason(error)}): mend dataset.split_by") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InputError(f"the list {path} is not valid YAML: mend it") from None
    lists = content if isinstance(content, dict) else {}
    if not lists or not all(part in SPLITS and isinstance(names, list) for part, names in lists.items()):
        raise InputError(f"{path} is no list of files: give lists of names under {', '.join(SPLITS)} alone")
    found = {part: [str(name).removesuffix(".h5") for name in names] for part, names in lists.items()}
    names = [name for part in found.values() for name in part]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path} names {name} twice: leave one of them out")
    return found
