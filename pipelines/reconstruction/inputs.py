"""The files that ``recon-predict`` is given: which there are, and of what kind."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from data_prep import fastmri_files
from data_prep.hounsfield.dicom import dicom_files, is_slice
from data_prep.storage.cache import reason
from data_prep.storage.nifti import NIFTI, is_nifti, nifti_name
from recon.errors import InputError

KSPACE, SINOGRAMS, VOLUMES, SERIES = (
    "fastMRI files (*.h5)",
    "LoDoPaB observations (observation_*.hdf5)",
    "NIfTI volumes (*.nii, *.nii.gz)",
    "DICOM slices",
)
KINDS = {"mri": (KSPACE,), "ct": (SINOGRAMS, VOLUMES, SERIES)}
PATTERNS = {SINOGRAMS: ("observation_*.hdf5",), VOLUMES: tuple(f"*{suffix}" for suffix in NIFTI)}


def find_files(inputs: Sequence[str], task: str = "mri") -> list[Path]:
    """The files that are named, and those in the folders that are named; of DICOM slices the folder itself.

    Args:
        inputs: files and folders.
        task: a key of KINDS.

    Raises:
        InputError: there is no such file, a folder holds none or several kinds, or two have one name.
    """
    files: list[Path] = []
    for given in map(Path, inputs):
        if not given.exists():
            raise InputError(f"there is no file or folder {given}: give {_listed(task)}, or a folder of them")
        files += _inside(given, task) if given.is_dir() else [_alone(given, task)]
    names: dict[str, Path] = {}
    for path in files:
        name = output_name(path)
        if name in names:
            raise InputError(
                f"{names[name]} and {path} have one name, so that one would be written over the other: "
                "give each its own --out folder"
            )
        names[name] = path
    return files


def output_name(path: Path) -> str:
    """What the reconstruction of a file or of a folder of slices is called, without suffix."""
    if path.is_dir():
        return path.name
    return nifti_name(path) if is_nifti(path) else path.stem


def in_hu(path: Path) -> bool:
    """Whether it holds images in HU, not what a scanner measured."""
    return path.is_dir() or is_nifti(path)


def _inside(folder: Path, task: str) -> list[Path]:
    found = {kind: paths for kind, paths in _by_kind(folder, task).items() if paths}
    if not found:
        deeper = [path for path in sorted(folder.iterdir()) if path.is_dir() and any(_by_kind(path, task).values())]
        hint = f", such as {deeper[0]}" if deeper else ""
        raise InputError(f"{folder} holds no {_listed(task)}: give the folder that does{hint}")
    if len(found) > 1:
        examples = " and ".join(f"{kind}, such as {paths[0].name}" for kind, paths in found.items())
        raise InputError(f"{folder} mixes {examples}: give each kind its own folder")
    kind, paths = found.popitem()
    if kind != SERIES:
        return paths
    return [folder.resolve() if folder.name in ("", "..") else folder]  # for the name


def _by_kind(folder: Path, task: str) -> dict[str, list[Path]]:
    if task == "mri":
        return {KSPACE: fastmri_files(folder)}
    try:
        visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({reason(error)}): give another one") from error
    found = {
        kind: [path for path in visible if any(fnmatchcase(path.name.lower(), p) for p in PATTERNS[kind])]
        for kind in KINDS[task]
        if kind != SERIES
    }
    return found | {SERIES: dicom_files(folder)}


def _alone(path: Path, task: str) -> Path:
    if task == "ct" and is_slice(path):
        raise InputError(f"{path} is one DICOM slice: give the folder of its series, {path.parent}")
    return path


def _listed(task: str) -> str:
    return " or ".join(KINDS[task])
