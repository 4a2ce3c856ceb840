"""``recon-prepare``: index a data folder, compute what a training starts from, or simulate raw data from images."""

from __future__ import annotations

import argparse
import inspect
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table
from tqdm import tqdm

from data_prep import (
    MASK_TYPES,
    LoDoPaBDataset,
    Undersampling,
    bundled_mri,
    check_mask,
    coil_maps,
    index_folder,
    make_mask,
    simulate_kspace,
    write_fastmri,
)
from data_prep.fastmri.dataset import undersampled
from data_prep.storage.cache import reason
from data_prep.storage.nifti import nifti_name, read_nifti
from pipelines.reconstruction.prepare_ct import cache_ct, index_ct, simulate_ct
from pipelines.runtime.bounds import COILS, NOISE, PHOTONS, SEED, SIDE
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.shell import Parser, real, run_command, terminal, whole
from pipelines.tasks import say_aloud
from recon.errors import InputError

CHALLENGES = ("singlecoil", "multicoil")
SPLITS = ("train", "val", "test")
TASKS = ("mri", "ct")
OF_MRI = ("slice_axis", "matrix", "band_limit", "coils", "noise", "acceleration", "center_fraction", "mask_type")
OF_TASK = {"mri": OF_MRI, "ct": ("photons",)}


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``recon-prepare``."""
    parser = Parser(prog="recon-prepare", description="Prepare data for recon-train.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="index | cache | simulate")

    index = commands.add_parser("index", help="check every file of a folder and remember what is in it")
    index.add_argument("data", type=Path, help="a folder with singlecoil_train, ..., or of LoDoPaB's files")
    index.add_argument("--task", choices=TASKS, default="mri", help="(default %(default)s)")
    index.add_argument("--challenge", choices=CHALLENGES, default="singlecoil", help="of MRI (default %(default)s)")

    cache = commands.add_parser("cache", help="compute the filtered back-projections that a CT training starts from")
    add, defaults = cache.add_argument, inspect.signature(LoDoPaBDataset).parameters
    add("--task", choices=("ct",), default="ct", help="(default %(default)s)")
    add("--data", type=Path, help="folder of LoDoPaB's files (none: the bundled sample)")
    add("--split", choices=SPLITS, action="append", help="may be given again (default: all there are)")
    add("--dataset.window", dest="window", default=defaults["window"].default, help="(default %(default)s)")
    add("--dataset.frequency_scaling", dest="frequency_scaling", type=float,
        default=defaults["frequency_scaling"].default, help="(default %(default)s)")  # fmt: skip

    simulate = commands.add_parser("simulate", help="make fastMRI or LoDoPaB files (raw data and target) from images")
    add = simulate.add_argument
    add("images", nargs="*", type=Path, help="NIfTI or .npy; CT: in HU, NIfTI or folders of DICOM; none: the sample")
    add("--task", choices=TASKS, default="mri", help="(default %(default)s)")
    add("--out", type=Path, required=True, help="root folder; MRI volumes go to <out>/<challenge>_<split>")
    add("--split", choices=SPLITS, default="train", help="(default %(default)s)")
    add("--photons", type=real(*PHOTONS), default=4096, help="of CT, for each detector pixel (default %(default)s)")
    add("--slice-axis", type=int, choices=(0, 1, 2), help="axis of the slices (default: 2 for NIfTI, 0 for .npy)")
    add("--matrix", type=whole(*SIDE), default=256, help="rows and columns of the k-space (default %(default)s)")
    add("--band-limit", type=whole(*SIDE), help="columns of true k-space, for images that a scanner interpolated")
    add(
        "--coils",
        type=whole(*COILS),
        default=0,
        help="receive coils with fixed maps; 0 is single-coil (default %(default)s)",
    )
    add(
        "--noise",
        type=real(*NOISE),
        default=0.005,
        help="standard deviation relative to the maximum (default %(default)s)",
    )
    add("--acceleration", type=int, help="undersample so many times, as fastMRI's test files: a mask, no target")
    add("--center-fraction", type=float, default=0.08, help="of the mask (default %(default)s)")
    add("--mask-type", choices=MASK_TYPES, default="random", help="(default %(default)s)")
    add("--seed", type=whole(*SEED), default=0, help="of phase and noise (default %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_prepare, argv)


def _prepare(argv: list[str]) -> None:
    arguments = build_parser().parse_args(argv)
    if arguments.command == "cache":
        cache_ct(arguments)
    elif arguments.command == "index" and arguments.task == "ct":
        index_ct(arguments.data)
    elif arguments.command == "index":
        _index(arguments.data, arguments.challenge)
    else:
        _check_task(arguments)
        (simulate_ct if arguments.task == "ct" else _simulate)(arguments)


def _check_task(arguments: argparse.Namespace) -> None:
    """Refuse flags of the other task, and any but --out where the bundled sample is written."""
    for task, keys in OF_TASK.items():
        for key in _changed(arguments):
            if key in keys and task != arguments.task:
                raise InputError(f"--{key.replace('_', '-')} is for --task {task}: leave it out")
    if arguments.task == "ct" and not arguments.images and _changed(arguments) != ["task"]:
        raise InputError("without images the bundled sample is written, as it is: leave the other flags out")


def _changed(arguments: argparse.Namespace) -> list[str]:
    """The flags of simulate that were given another value than the default, but --out."""
    own = build_parser().parse_args(["simulate", "--out", "."])
    return [key for key, value in vars(own).items() if key != "out" and vars(arguments)[key] != value]


def _index(data: Path, challenge: str) -> None:
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
    table = Table("folder", "volumes", "slices", "k-space", "image", "acquisitions", "targets")
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
            str(sum(volume.n_slices for volume in volumes)),
            *(", ".join(size) for size in sizes),
            ", ".join(sorted({volume.acquisition for volume in volumes})),
            f"{sum(volume.has_target for volume in volumes)}/{len(volumes)}",
        )
    terminal(120).print(table)


def _check_simulation(arguments: argparse.Namespace) -> None:
    """Refuse flags that do not go together."""
    if arguments.acceleration is not None:
        check_mask(arguments.mask_type, [arguments.center_fraction], [arguments.acceleration])
    elif {"center_fraction", "mask_type"} & set(_changed(arguments)):
        raise InputError("--center-fraction and --mask-type are of an undersampled file: give --acceleration too")


def _simulate(arguments: argparse.Namespace) -> None:
    challenge = "multicoil" if arguments.coils else "singlecoil"
    if not arguments.images:
        _write_sample(arguments, challenge)
        return
    _check_simulation(arguments)
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


def _simulate_file(arguments: argparse.Namespace, image: Path, path: Path) -> None:
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


def _write_sample(arguments: argparse.Namespace, challenge: str) -> None:
    """The bundled sample, all its splits, as it is; its settings are fixed."""
    if [key for key in _changed(arguments) if key != "coils"] or arguments.coils not in (0, 4):
        raise InputError("without images the bundled sample is written; its only choice is --coils 0 or 4")
    make_folder(arguments.out)
    shutil.copytree(bundled_mri(challenge=challenge), arguments.out, dirs_exist_ok=True)
    print(f"Bundled sample, simulated from magnitude: {arguments.out}")


def _read_images(path: Path, slice_axis: int | None) -> tuple[np.ndarray, tuple[float, float, float]]:
    """A volume as (slices, rows, columns), and its voxel size in mm along these axes."""
    spacing, axis = [1.0, 1.0, 1.0], 0
    if path.suffix == ".npy":
        try:
            volume = np.load(path, mmap_mode="r", allow_pickle=False)  # refuses a header that says more than there is
        except (OSError, ValueError, EOFError, OverflowError) as error:
            raise InputError(f"{path} is not a readable .npy volume ({reason(error)}): give an image file") from error
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


if __name__ == "__main__":
    raise SystemExit(main())
