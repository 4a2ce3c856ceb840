"""An index of a folder of fastMRI files: each file validated once, remembered as JSON."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from data_prep.cache import cache_folder, reason, replace_file
from data_prep.volume import N_DIMS, Volume, read_volume
from recon.errors import InputError, check_choice

VERSION = 1  # raise it when Volume or its validation changes: old indices are then built anew


def split_folder(data: Path, challenge: str, split: str) -> Path:
    """Return `<data>/<challenge>_<split>`, for instance knee/singlecoil_train.

    Args:
        data: the root folder of the data set.
        challenge: singlecoil or multicoil.
        split: train, val or test.

    Raises:
        InputError: the folder does not exist; tells what does.
    """
    check_choice("challenge", challenge, N_DIMS)
    folder = Path(data) / f"{challenge}_{split}"
    if os.path.isdir(folder):
        return folder
    try:
        found = sorted(child.name for child in os.scandir(data) if child.is_dir())
    except OSError as error:
        raise InputError(
            f"The data folder {data} cannot be read ({reason(error)}): give the folder that holds {folder.name}."
        ) from error
    listed = ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
    raise InputError(
        f"{data} has no folder {folder.name} (expected {challenge}_train, {challenge}_val, {challenge}_test; "
        f"found {listed or 'no folders'}): give the folder that holds them, or another challenge."
    )


def find_volumes(data: Path, challenge: str, split: str | None, progress: bool = True) -> list[Volume]:
    """Validate and describe the files of one split, of one folder, or a single file.

    Args:
        data: with a split, the root folder that holds `<challenge>_<split>`; without, a folder of *.h5 files or one
            such file.
        challenge: singlecoil or multicoil.
        split: train, val or test; None where `data` says it all.
        progress: show a progress bar while the files of a folder are read.

    Returns:
        The volumes, sorted by name.

    Raises:
        InputError: no such file or folder, no files in it, or the first bad file (see `read_volume`).
    """
    check_choice("challenge", challenge, N_DIMS)
    data = Path(data)
    if split is not None:
        return index_folder(split_folder(data, challenge, split), challenge, progress)
    if os.path.isdir(data):
        return index_folder(data, challenge, progress)
    if os.path.exists(data):
        return [read_volume(data, challenge)]
    raise InputError(f"There is no file or folder {data}: give a folder of fastMRI files (*.h5), or one such file.")


def index_folder(folder: Path, challenge: str, progress: bool = True) -> list[Volume]:
    """Validate and describe all fastMRI files of a folder.

    What was found is kept as JSON in the cache folder with each file's size and modification time, so that only
    new and changed files are read again. A cache that cannot be read or written costs time and nothing else.

    Args:
        folder: a folder of *.h5 files, one volume each.
        challenge: singlecoil or multicoil.
        progress: show a progress bar while files are read.

    Returns:
        The volumes, sorted by name.

    Raises:
        InputError: no such folder, no files in it, or the first bad file (see `read_volume`).
    """
    check_choice("challenge", challenge, N_DIMS)
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(f"There is no folder {folder}: give a folder of fastMRI files (*.h5).")
    files = sorted(path for path in folder.glob("*.h5") if not path.name.startswith("."))
    if not files:
        raise InputError(f"{folder} holds no fastMRI files (*.h5): give the folder that does.")
    store = index_file(folder, challenge)
    known = _load(store)
    entries: dict[str, dict[str, Any]] = {}
    volumes = {path.name: volume for path in files if (volume := _reuse(path, known.get(path.name))) is not None}
    entries.update({name: known[name] for name in volumes})
    todo = [path for path in files if path.name not in volumes]
    try:
        for path in tqdm(todo, desc=f"index {folder.name}", unit="file", disable=None if progress and todo else True):
            stamp = _stamp(path)
            volumes[path.name] = read_volume(path, challenge)
            entries[path.name] = {"stamp": stamp, "volume": _to_json(volumes[path.name])}
    finally:  # what was read before a bad file or Ctrl-C need not be read again
        if todo or entries.keys() != known.keys():
            _save(store, folder, challenge, entries)
    return [volumes[path.name] for path in files]


def index_file(folder: Path, challenge: str) -> Path:
    """Return the JSON file that keeps the index of a folder."""
    key = hashlib.sha256(f"{Path(folder).resolve()}\n{challenge}".encode()).hexdigest()[:16]
    return cache_folder() / "index" / f"{Path(folder).resolve().name}-{key}.json"


def _stamp(path: Path) -> list[int]:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): restore or remove it.") from error
    return [status.st_size, status.st_mtime_ns]


def _to_json(volume: Volume) -> dict[str, Any]:
    values = asdict(volume)
    del values["path"]  # the folder may be mounted elsewhere next time
    return values


def _reuse(path: Path, entry: dict[str, Any] | None) -> Volume | None:
    """Return the remembered volume if the file is the one that was read, else None."""
    try:
        if entry is None or entry["stamp"] != _stamp(path):
            return None
        values = dict(entry["volume"])
        sizes = {key: (int(values[key][0]), int(values[key][1])) for key in ("kspace_size", "image_size")}
        return Volume(**{**values, **sizes, "path": path})
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _load(store: Path) -> dict[str, Any]:
    """Return the remembered entries by file name; none where there are none or they are damaged."""
    try:
        content = json.loads(store.read_text(encoding="utf-8"))
        entries = content["files"] if content["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _save(store: Path, folder: Path, challenge: str, entries: dict[str, dict[str, Any]]) -> None:
    content = {"version": VERSION, "folder": str(folder.resolve()), "challenge": challenge, "files": entries}
    with contextlib.suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(store) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
