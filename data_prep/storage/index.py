"""The index: what was found in files, kept as JSON, so that each file is validated once."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from data_prep.storage.cache import NAME_PART, cache_folder, reason, replace_file
from recon.errors import InputError

VERSION = 4  # raise it when a volume's class or its validation changes: old indices are then built anew

Described = TypeVar("Described")


def describe_files(
    store: Path,
    about: Mapping[str, str],
    groups: Sequence[tuple[Path, ...]],
    read: Callable[..., Described],
    restore: Callable[..., Described],
    progress: bool,
    unit: str = "file",
) -> list[Described]:
    """Describe volumes of one or more files each; those that were read before come from the index.

    Args:
        store: the JSON file that keeps the index.
        about: what the JSON file says of itself, for a reader.
        groups: the files of each volume; the first one's name tells the volumes apart.
        read: takes the files of a volume, validates them and returns its description, a dataclass.
        restore: takes what JSON kept of the dataclass, without what is a path, and the files.
        progress: show a progress bar while files are read.
        unit: what the progress bar counts.

    Returns:
        One description for each group.

    Raises:
        InputError: the first bad file.
    """
    known = _load(store)
    found = {group: _reuse(group, known.get(group[0].name), restore) for group in groups}
    entries = {group[0].name: known[group[0].name] for group, volume in found.items() if volume is not None}
    todo = [group for group, volume in found.items() if volume is None]
    title = f"index {groups[0][0].parent.name}"
    try:
        for group in tqdm(todo, desc=title, unit=unit, disable=None if progress and todo else True):
            stamp = _stamp(group)
            found[group] = volume = read(*group)
            entries[group[0].name] = {"stamp": stamp, "volume": _to_json(volume)}
    finally:  # what was read before a bad file or Ctrl-C need not be read again
        if todo or entries.keys() != known.keys():
            _save(store, about, entries)
    return [volume for volume in found.values() if volume is not None]


def sizes(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    """JSON's values with (rows, columns) under these keys as tuples of two whole numbers again."""
    return {**values, **{key: (int(values[key][0]), int(values[key][1])) for key in keys}}


def index_file(folder: Path, kind: str) -> Path:
    """Return the JSON file that keeps the index of a folder.

    Args:
        folder: holds the files.
        kind: what they are read as, for instance singlecoil.
    """
    key = hashlib.sha256(f"{Path(folder).resolve()}\n{kind}".encode(errors="surrogateescape")).hexdigest()[:16]
    return cache_folder() / "index" / f"{Path(folder).resolve().name[:NAME_PART]}-{key}.json"


def _stamp(group: Sequence[Path]) -> list[int]:
    """Size and time of each file."""
    return [number for path in group for number in file_stamp(path)]


def file_stamp(path: Path) -> tuple[int, int]:
    """Size in bytes and modification time in ns, by which a changed file is noticed.

    Raises:
        InputError: the file is not there any more.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): restore it or leave it out.") from error
    return status.st_size, status.st_mtime_ns


def _to_json(volume: Any) -> dict[str, Any]:
    """The dataclass without its paths: the folder may be mounted elsewhere next time."""
    return {key: value for key, value in asdict(volume).items() if not isinstance(value, Path)}


def _reuse(
    group: tuple[Path, ...], entry: dict[str, Any] | None, restore: Callable[..., Described]
) -> Described | None:
    """Return the indexed volume if the files are those that were read, else None."""
    try:
        if entry is None or entry["stamp"] != _stamp(group):
            return None
        return restore(dict(entry["volume"]), *group)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _load(store: Path) -> dict[str, Any]:
    """Return the entries of the index by file name; none where there are none or they are damaged."""
    try:
        content = json.loads(store.read_text(encoding="utf-8"))
        entries = content["files"] if content["version"] == VERSION else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _save(store: Path, about: Mapping[str, str], entries: dict[str, dict[str, Any]]) -> None:
    with contextlib.suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(store) as temporary:
            temporary.write_text(
                json.dumps({"version": VERSION, **about, "files": entries}, indent=1), encoding="utf-8"
            )
