"""The bundled samples: real images made into fastMRI and LoDoPaB files on first use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.resources import as_file
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from data_prep.fastmri.simulation import coil_maps, simulate_kspace, write_fastmri
from data_prep.fastmri.volume import N_DIMS
from data_prep.lodopab.simulation import simulate_observation, write_lodopab
from data_prep.lodopab.volume import volume_name
from data_prep.storage.cache import cache_folder, reason, temporary_sibling
from data_prep.storage.packaged import CT_PHYSICS, packaged_file, packaged_hash
from recon.errors import InputError, check_choice

MATRIX = 256
N_COILS = {"singlecoil": 0, "multicoil": 4}
CT_SUBJECTS = {"chest_a": "train", "chest_b": "val", "chest_c": "test"}

# what decides the content of the files
MRI_SOURCES = (
    *(
        f"data_prep/{name}"
        for name in (
            "samples/mri_brain.h5",
            "bundled.py",
            "fastmri/simulation.py",
            "fastmri/kspace_file.py",
            "fastmri/headers.py",
            "slices/crop.py",
            "slices/seeds.py",
        )
    ),
    "recon/physics/mri.py",
    "recon/physics/measured_columns.py",
)
CT_SOURCES = (
    *(
        f"data_prep/{name}"
        for name in ("samples/ct_chest.h5", "bundled.py", "lodopab/simulation.py", "slices/seeds.py")
    ),
    *CT_PHYSICS,
)


class Subject(NamedTuple):
    """One dataset of data_prep/samples/mri_brain.h5 (see PROVENANCE.md there).

    Attributes:
        name: the dataset, and the volume's file name.
        split: train, val or test.
        patient: the person; brain1 and brain1_val are slices of the same.
        band_limit: columns of true k-space, where the scanner interpolated the images.
    """

    name: str
    split: str
    patient: str
    band_limit: int | None


SUBJECTS = (
    Subject("colin27", "train", "colin27", None),
    Subject("brain1", "train", "brain1", 192),
    Subject("brain1_val", "val", "brain1", 192),
    Subject("brain2", "test", "brain2", 192),
)


def bundled_mri(cache: Path | None = None, challenge: str = "singlecoil") -> Path:
    """Return a root folder of fastMRI files simulated from the bundled images, made on first use.

    `<challenge>_train` holds colin27 and brain1, `<challenge>_val` brain1_val, `<challenge>_test` brain2 (with
    target). The folder appears whole or not at all, also when several processes make it at once, and its name
    changes with the simulation's code and images, so that stale files are never used.

    Args:
        cache: the folder to keep it in; None means `cache_folder()`.
        challenge: singlecoil, or multicoil with 4 fixed coil maps, which the files keep.

    Raises:
        InputError: the cache cannot be written.
    """
    check_choice("challenge", challenge, N_DIMS)
    return _made_once(cache, f"mri-{challenge}-{packaged_hash(MRI_SOURCES)}", lambda folder: _write(folder, challenge))


def bundled_ct(cache: Path | None = None) -> Path:
    """Return a folder of LoDoPaB files simulated from the bundled chest CTs, made on first use.

    Three persons: train_000 holds chest_a (44 slices), validation_000 chest_b and test_000 chest_c (9 each), 362 x 362
    with 1000 x 513 observations of 4096 photons. As in LoDoPaB, an image's rows run along the left-right axis: it is
    the transpose of the bundled one. The folder appears whole or not at all, and its name changes with the
    simulation's code and images.

    Args:
        cache: the folder to keep it in; None means `cache_folder()`.

    Raises:
        InputError: the cache cannot be written.
    """
    return _made_once(cache, f"ct-{packaged_hash(CT_SOURCES)}", _write_ct)


def _made_once(cache: Path | None, name: str, write: Callable[[Path], None]) -> Path:
    """Return the folder of this name; `write` fills it if it is not there."""
    parent = Path(cache if cache is not None else cache_folder()) / "samples"
    root = parent / name
    if os.path.isdir(root):
        return root
    temporary = temporary_sibling(root)
    try:
        temporary.mkdir(parents=True)
        write(temporary)
        _publish(temporary, root)
    except (OSError, InputError) as error:
        raise InputError(
            f"The bundled sample cannot be written to {parent} ({reason(error.__cause__ or error)}): "
            "free space there, or set RECON_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root


def _publish(temporary: Path, root: Path) -> None:
    """Move the finished folder to its place, unless another process was first."""
    try:
        os.rename(temporary, root)
    except OSError:
        if not os.path.isdir(root):
            raise


def _write(folder: Path, challenge: str) -> None:
    n_coils = N_COILS[challenge]
    maps = coil_maps(n_coils, MATRIX, MATRIX).numpy() if n_coils else None
    with as_file(packaged_file("data_prep/samples/mri_brain.h5")) as path, h5py.File(path, "r") as file:
        for subject in SUBJECTS:
            images = file[subject.name]
            rows_mm, columns_mm = images.attrs["voxel_mm"]
            if subject.band_limit is not None:  # the same extent in fewer columns
                columns_mm = columns_mm * images.shape[2] / subject.band_limit
            kspace = simulate_kspace(images[()], MATRIX, subject.band_limit, n_coils=n_coils, seed=subject.name)
            split = folder / f"{challenge}_{subject.split}"
            split.mkdir(exist_ok=True)
            write_fastmri(
                split / f"{subject.name}.h5",
                kspace,
                acquisition=str(images.attrs["contrast"]),
                patient_id=subject.patient,
                field_of_view_mm=(MATRIX * rows_mm, MATRIX * columns_mm),
                thickness_mm=float(images.attrs["slice_mm"]),
                maps=maps,
            )


def _write_ct(folder: Path) -> None:
    with as_file(packaged_file("data_prep/samples/ct_chest.h5")) as path, h5py.File(path, "r") as file:
        for subject, split in CT_SUBJECTS.items():
            transposed = np.ascontiguousarray(file[subject][()].transpose(0, 2, 1))
            ground_truth, observation = simulate_observation(transposed, volume_name(split, 0), progress=True)
            write_lodopab(folder, split, 0, ground_truth, observation)
