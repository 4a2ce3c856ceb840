"""The CT half of ``recon-prepare``: LoDoPaB files checked, back-projected beforehand, or simulated from HU volumes."""

from __future__ import annotations

import inspect
import shutil
from argparse import Action, Namespace
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from data_prep import (
    CTVolume,
    LoDoPaBDataset,
    bundled_ct,
    cache_folder,
    center_crop,
    ct_splits,
    fbp_images,
    find_ct_volumes,
    open_hu,
    read_hu,
    simulate_observation,
    volume_name,
    write_lodopab,
)
from data_prep.lodopab.volume import N_SAMPLES, PARTS
from pipelines.reconstruction.import_ct import import_files, import_flags
from pipelines.reconstruction.preparation import AddFlag, Preparation
from pipelines.runtime.bounds import PHOTONS
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.shell import real, terminal
from recon.errors import InputError
from recon.physics.ct import LODOPAB


def _index(arguments: Namespace) -> None:
    """Check every LoDoPaB file of a folder, and print what there is.

    Raises:
        InputError: no files, or the first bad one.
    """
    table = _table()
    for split in ct_splits(arguments.data):
        table.add_row(split, *_cells(find_ct_volumes(arguments.data, split)))
    _print(table)


def _cache_flags(add: AddFlag) -> list[Action]:
    defaults = inspect.signature(LoDoPaBDataset).parameters
    return [
        add("--dataset.window", dest="window", default=defaults["window"].default, help="(default %(default)s)"),
        add("--dataset.frequency_scaling", dest="frequency_scaling", type=float,
            default=defaults["frequency_scaling"].default, help="(default %(default)s)"),
    ]  # fmt: skip


def _cache(arguments: Namespace) -> None:
    """Compute the filtered back-projections that a training would compute when it starts.

    Raises:
        InputError: bad files, a bad filter, or no space.
    """
    data = bundled_ct() if arguments.data is None else arguments.data
    table = _table("filtered back-projections")
    for split in arguments.split or ct_splits(data):
        volumes = find_ct_volumes(data, split)
        paths = fbp_images(volumes, arguments.window, arguments.frequency_scaling)
        size = sum(path.stat().st_size for path in paths) / 1e9
        table.add_row(split, *_cells(volumes), f"{size:.2f} GB")
    _print(table)
    print(f"Kept in {cache_folder() / 'fbp'}")


def _simulate_flags(add: AddFlag) -> list[Action]:
    return [add("--photons", type=real(*PHOTONS), default=4096, help="for each detector pixel (default %(default)s)")]


def _simulate(arguments: Namespace, given: Collection[str]) -> None:
    """Make LoDoPaB files from volumes in HU (NIfTI, or folders of DICOM slices), or write the bundled sample.

    Each volume gets files of its own, of at most 128 slices. As LoDoPaB does, the centre of 362 x 362 pixels is taken
    for 0.26 m x 0.26 m, whatever the pixel size, and rows run from the patient's right to left.

    Raises:
        InputError: an unreadable volume or one that is too small, or files that are there already.
    """
    if not arguments.images and given:
        raise InputError("without images the bundled sample is written, as it is: leave the other flags out")
    make_folder(arguments.out)
    if not arguments.images:
        shutil.copytree(bundled_ct(), arguments.out, dirs_exist_ok=True)
        print(f"Bundled sample, simulated from CT images: {arguments.out}")
        return
    if any(arguments.out.glob(f"*_{PARTS[arguments.split]}_*.hdf5")):
        raise InputError(f"{arguments.out} holds files of the split {arguments.split} already: give another --out")
    number = 0
    for path in arguments.images:
        hu = _centre(path)
        for start in range(0, len(hu), N_SAMPLES):
            _simulate_file(path, hu[start : start + N_SAMPLES], number, arguments)
            number += 1
    print(f"Written, simulated from CT images: {arguments.out}")


def _simulate_file(path: Path, hu: np.ndarray, number: int, arguments: Namespace) -> None:
    name, photons = volume_name(arguments.split, number), arguments.photons
    try:
        images, observations = simulate_observation(hu, name, LODOPAB, photons, arguments.seed, progress=True)
    except InputError as error:
        raise InputError(f"{path}, to be written as {error}") from None
    write_lodopab(arguments.out, arguments.split, number, images, observations, photons)


def _centre(path: Path) -> np.ndarray:
    """The centre of a volume as (slices, 362, 362): from right to left, from front to back, as LoDoPaB's."""
    volume, size = open_hu(path), (LODOPAB.rows, LODOPAB.columns)
    if min(volume.image_size) < LODOPAB.rows:
        shape = volume.shape
        raise InputError(f"{path} has shape {shape}: give axial slices of {size[0]} x {size[1]} pixels or more")
    return np.ascontiguousarray(center_crop(read_hu(volume), size))


def _table(*more: str) -> Table:
    return Table("split", "files", "slices", "sinogram", "image", "ground truth", *more)


def _cells(volumes: Sequence[CTVolume]) -> list[str]:
    first = volumes[0]
    return [
        str(len(volumes)),
        str(sum(volume.n_slices for volume in volumes)),
        "{} x {}".format(*first.sinogram_size),
        "{} x {}".format(*first.image_size),
        f"{sum(volume.has_target for volume in volumes)}/{len(volumes)}",
    ]


def _print(table: Table) -> None:
    terminal(120).print(table)


PREPARE = Preparation(
    images="in HU, NIfTI or folders of DICOM",
    written="files go to <out>; those of simulate are as LoDoPaB's",
    index=_index,
    simulate=_simulate,
    cache=_cache,
    simulate_flags=_simulate_flags,
    cache_flags=_cache_flags,
    imported="raw counts in HDF5 data exchange",
    imports=import_files,
    import_flags=import_flags,
)
