"""The MRI half of ``recon-prepare``: fastMRI folders checked, simulated from images, or imported."""

from __future__ import annotations

import shutil
from argparse import Action, Namespace
from collections.abc import Collection
from pathlib import Path

import numpy as np
from rich.table import Table
from tqdm import tqdm

from data_prep import (
    MASK_TYPES,
    Undersampling,
    bundled_mri,
    check_mask,
    coil_maps,
    index_folder,
    make_mask,
    simulate_kspace,
    write_fastmri,
)
from data_prep.fastmri.volume import undersampled
from data_prep.storage.nifti import nifti_name, read_nifti
from data_prep.storage.numpy_file import read_npy
from pipelines.reconstruction.import_mri import import_files, import_flags
from pipelines.reconstruction.preparation import AddFlag, Preparation
from pipelines.runtime.bounds import COILS, NOISE, SIDE
from pipelines.runtime.notes import say_aloud
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.shell import real, terminal, whole
from recon.errors import InputError

CHALLENGES = ("singlecoil", "multicoil")


def _index_flags(add: AddFlag) -> list[Action]:
    return [add("--challenge", choices=CHALLENGES, default="singlecoil", help="(default %(default)s)")]


def _index(arguments: Namespace) -> None:
    data, challenge = arguments.data, arguments.challenge
    folders = {
        kind: sorted(path for path in data.glob(f"{kind}_*") if path.is_dir()) if data.is_dir() else []
        for kind in CHALLENGES
    }
    if not folders[challenge]:
        for other in (kind for kind in CHALLENGES if folders[kind]):
            raise InputError(f"{data} has {folders[other][0].name}, but no {challenge}_*: give --challenge {other}")
        raise InputError(
            f"{data} has no folder {challenge}_train, {challenge}_val or {challenge}_test: give its parent"
        )
    table = Table("folder", "volumes", "subjects", "slices", "k-space", "image", "acquisitions", "targets")
    for folder in folders[challenge]:
        volumes = index_folder(folder, challenge)
        say_aloud(undersampled(volumes))
        sizes = [
            sorted({f"{rows} x {columns}" for rows, columns in column})
            for column in ([v.kspace_size for v in volumes], [v.image_size for v in volumes])
        ]
        table.add_row(
            folder.name,
            str(len(volumes)),
            str(len({volume.subject for volume in volumes})),
            str(sum(volume.n_slices for volume in volumes)),
            *(", ".join(size) for size in sizes),
            ", ".join(sorted({volume.acquisition for volume in volumes})),
            f"{sum(volume.has_target for volume in volumes)}/{len(volumes)}",
        )
    terminal(120).print(table)


def _simulate_flags(add: AddFlag) -> list[Action]:
    return [
        add("--slice-axis", type=int, choices=(0, 1, 2), help="axis of the slices (default: 2 for NIfTI, 0 for .npy)"),
        add("--matrix", type=whole(*SIDE), default=256, help="rows and columns of the k-space (default %(default)s)"),
        add(
            "--band-limit",
            type=whole(*SIDE),
            help="columns of true k-space, for images that a scanner interpolated",
        ),
        add(
            "--coils",
            type=whole(*COILS),
            default=0,
            help="receive coils with fixed maps; 0 is single-coil (default %(default)s)",
        ),
        add(
            "--noise",
            type=real(*NOISE),
            default=0.005,
            help="standard deviation relative to the maximum (default %(default)s)",
        ),
        add("--acceleration", type=int, help="undersample so many times, as fastMRI's test files: a mask, no target"),
        add("--center-fraction", type=float, default=0.08, help="of the mask (default %(default)s)"),
        add("--mask-type", choices=MASK_TYPES, default="random", help="(default %(default)s)"),
    ]


def _check_simulation(arguments: Namespace, given: Collection[str]) -> None:
    """Refuse flags that do not go together."""
    if arguments.acceleration is not None:
        check_mask(arguments.mask_type, [arguments.center_fraction], [arguments.acceleration])
    elif {"center_fraction", "mask_type"} & set(given):
        raise InputError("--center-fraction and --mask-type are of an undersampled file: give --acceleration too")


def _simulate(arguments: Namespace, given: Collection[str]) -> None:
    challenge = "multicoil" if arguments.coils else "singlecoil"
    if not arguments.images:
        _write_sample(arguments, given, challenge)
        return
    _check_simulation(arguments, given)
    folder = arguments.out / f"{challenge}_{arguments.split}"
    names = [nifti_name(path).removesuffix(".npy") for path in arguments.images]
    for name in names:
        if names.count(name) > 1 or (folder / f"{name}.h5").exists():
            raise InputError(f"{folder / name}.h5 would be written twice or over: rename the image or the folder")
    make_folder(folder)
    for path, name in tqdm(list(zip(arguments.images, names, strict=True)), desc="simulating", disable=None):
        try:
            _simulate_file(arguments, path, folder / f"{name}.h5")
        except InputError as error:
            if str(path) in str(error) or str(folder) in str(error):
                raise
            raise InputError(f"{path}: {error}") from None
    print(f"Written, simulated from magnitude: {folder}")


def _simulate_file(arguments: Namespace, image: Path, path: Path) -> None:
    magnitude, spacing = _read_images(image, arguments.slice_axis)
    seed = f"{arguments.seed}:{path.stem}"  # every volume has its own phase and noise
    kspace = simulate_kspace(magnitude, arguments.matrix, arguments.band_limit, arguments.coils, arguments.noise, seed)
    extent = [arguments.matrix * side for side in spacing[1:]]
    if arguments.band_limit is not None:
        extent[1] *= magnitude.shape[2] / arguments.band_limit
    columns, undersampling = kspace.shape[-1], None
    if arguments.acceleration is not None:
        pair = (arguments.center_fraction,), (arguments.acceleration,)
        mask = make_mask(arguments.mask_type, columns, *pair, tuple(map(ord, path.name)))  # as recon-evaluate draws it
        undersampling = Undersampling(mask.numpy(), arguments.acceleration, round(columns * arguments.center_fraction))
    maps = coil_maps(arguments.coils, *kspace.shape[-2:]).numpy() if arguments.coils else None
    write_fastmri(path, kspace, "simulated", path.stem, extent, spacing[0], maps, undersampling)


def _write_sample(arguments: Namespace, given: Collection[str], challenge: str) -> None:
    """The bundled sample, all its splits, as it is; its settings are fixed."""
    if {*given} - {"coils"} or arguments.coils not in (0, 4):
        raise InputError("without images the bundled sample is written; its only choice is --coils 0 or 4")
    make_folder(arguments.out)
    shutil.copytree(bundled_mri(challenge=challenge), arguments.out, dirs_exist_ok=True)
    print(f"Bundled sample, simulated from magnitude: {arguments.out}")


def _read_images(path: Path, slice_axis: int | None) -> tuple[np.ndarray, tuple[float, float, float]]:
    """A volume as (slices, rows, columns), and its voxel size in mm along these axes."""
    spacing, axis = [1.0, 1.0, 1.0], 0
    if path.suffix == ".npy":
        volume = read_npy(path)
    else:
        image, volume = read_nifti(path)
        spacing, axis = [float(side) for side in image.header.get_zooms()[:3]], 2
        if not all(np.isfinite(side) and side > 0 for side in spacing):
            raise InputError(f"{path} has voxels of {spacing} mm: correct its header")
    if volume.ndim != 3:
        raise InputError(f"{path} has {volume.ndim} dimensions: give a volume with three")
    order = [axis if slice_axis is None else slice_axis]
    order += [other for other in range(3) if other != order[0]]
    return volume.transpose(order), tuple(spacing[i] for i in order)  # type: ignore[return-value]


PREPARE = Preparation(
    images="NIfTI or .npy",
    written="volumes go to <out>/singlecoil_<split> or multicoil_<split>",
    index=_index,
    simulate=_simulate,
    index_flags=_index_flags,
    simulate_flags=_simulate_flags,
    imported="ISMRMRD, MATLAB (.mat), NumPy (.npy) or HDF5",
    imports=import_files,
    import_flags=import_flags,
)
