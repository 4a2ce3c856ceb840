"""``recon-prepare``: index a data folder, compute what a training starts from, or simulate raw data from images."""

from __future__ import annotations

import argparse
import inspect
import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from rich.table import Table
from tqdm import tqdm

from data_prep import LoDoPaBDataset, bundled_mri, coil_maps, index_folder, simulate_kspace, write_fastmri
from pipelines.command import Parser, run_command, terminal
from pipelines.prepare_ct import cache_ct, index_ct, simulate_ct
from pipelines.run_folder import make_folder
from recon.errors import InputError

CHALLENGES = ("singlecoil", "multicoil")
SPLITS = ("train", "val", "test")
TASKS = ("mri", "ct")
OF_TASK = {"mri": ("slice_axis", "matrix", "band_limit", "coils", "noise"), "ct": ("photons",)}


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
    add("--photons", type=float, default=4096, help="of CT, for each detector pixel (default %(default)s)")
    add("--slice-axis", type=int, choices=(0, 1, 2), help="axis of the slices (default: 2 for NIfTI, 0 for .npy)")
    add("--matrix", type=int, default=256, help="rows and columns of the k-space (default %(default)s)")
    add("--band-limit", type=int, help="columns of true k-space, for images that a scanner interpolated")
    add("--coils", type=int, default=0, help="receive coils with fixed maps; 0 is single-coil (default %(default)s)")
    add("--noise", type=float, default=0.005, help="standard deviation relative to the maximum (default %(default)s)")
    add("--seed", type=int, default=0, help="of phase and noise (default %(default)s)")
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
    folders = sorted(data.glob(f"{challenge}_*")) if data.is_dir() else []
    if not folders:
        raise InputError(
            f"{data} has no folder {challenge}_train, {challenge}_val or {challenge}_test: give its parent"
        )
    table = Table("folder", "volumes", "slices", "k-space", "image", "acquisitions", "targets")
    for folder in folders:
        volumes = index_folder(folder, challenge)
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


def _simulate(arguments: argparse.Namespace) -> None:
    challenge = "multicoil" if arguments.coils else "singlecoil"
    if not arguments.images:
        _write_sample(arguments, challenge)
        return
    if not arguments.noise >= 0 or arguments.coils < 0:
        raise InputError("--noise and --coils must be 0 or more: correct the flag")
    folder = arguments.out / f"{challenge}_{arguments.split}"
    names = [path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".npy") for path in arguments.images]
    for name in names:
        if names.count(name) > 1 or (folder / f"{name}.h5").exists():
            raise InputError(f"{folder / name}.h5 would be written twice or over: rename the image or the folder")
    make_folder(folder)
    for path, name in tqdm(list(zip(arguments.images, names, strict=True)), desc="simulating", disable=None):
        magnitude, spacing = _read_images(path, arguments.slice_axis)
        seed = f"{arguments.seed}:{name}"  # every volume has its own phase and noise
        kspace = simulate_kspace(
            magnitude, arguments.matrix, arguments.band_limit, arguments.coils, arguments.noise, seed
        )
        extent = [arguments.matrix * side for side in spacing[1:]]
        if arguments.band_limit is not None:
            extent[1] *= magnitude.shape[2] / arguments.band_limit
        maps = coil_maps(arguments.coils, *kspace.shape[-2:]).numpy() if arguments.coils else None
        write_fastmri(folder / f"{name}.h5", kspace, "simulated", name, extent, spacing[0], maps)
    print(f"Written, simulated from magnitude: {folder}")


def _write_sample(arguments: argparse.Namespace, challenge: str) -> None:
    """The bundled sample, all its splits, as it is; its settings are fixed."""
    if [key for key in _changed(arguments) if key != "coils"] or arguments.coils not in (0, 4):
        raise InputError("without images the bundled sample is written; its only choice is --coils 0 or 4")
    make_folder(arguments.out)
    shutil.copytree(bundled_mri(challenge=challenge), arguments.out, dirs_exist_ok=True)
    print(f"Bundled sample, simulated from magnitude: {arguments.out}")


def _read_images(path: Path, slice_axis: int | None) -> tuple[np.ndarray, tuple[float, float, float]]:
    """A volume as (slices, rows, columns), and its voxel size in mm along these axes."""
    try:
        if path.suffix == ".npy":
            volume, spacing, axis = np.load(path, allow_pickle=False), (1.0, 1.0, 1.0), 0
        else:
            image = nibabel.load(path)
            volume, spacing, axis = np.asanyarray(image.dataobj), image.header.get_zooms()[:3], 2  # type: ignore[attr-defined]
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError, EOFError):
        raise InputError(f"{path} is not a readable NIfTI or .npy volume: give an image file") from None
    if volume.ndim != 3:
        raise InputError(f"{path} has {volume.ndim} dimensions: give a volume with three")
    order = [axis if slice_axis is None else slice_axis]
    order += [other for other in range(3) if other != order[0]]
    return volume.transpose(order), tuple(float(spacing[i]) for i in order)  # type: ignore[return-value]


if __name__ == "__main__":
    raise SystemExit(main())
