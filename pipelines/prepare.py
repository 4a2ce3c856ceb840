"""``recon-prepare``: index a data folder, or simulate fastMRI files from images."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from data_prep import bundled_mri, coil_maps, index_folder, simulate_kspace, write_fastmri
from pipelines.command import Parser, run_command
from pipelines.run_folder import make_folder
from recon.errors import InputError

CHALLENGES = ("singlecoil", "multicoil")


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``recon-prepare``."""
    parser = Parser(prog="recon-prepare", description="Prepare data for recon-train.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="index | simulate")

    index = commands.add_parser("index", help="check every fastMRI file of a folder and remember what is in it")
    index.add_argument("data", type=Path, help="a folder with singlecoil_train, singlecoil_val, ...")
    index.add_argument("--challenge", choices=CHALLENGES, default="singlecoil", help="(default %(default)s)")

    simulate = commands.add_parser("simulate", help="make fastMRI files (k-space and target) from magnitude images")
    add = simulate.add_argument
    add("images", nargs="*", type=Path, help="NIfTI or .npy volumes; none: the bundled brain sample")
    add("--out", type=Path, required=True, help="root folder; volumes go to <out>/<challenge>_<split>")
    add("--split", choices=("train", "val", "test"), default="train", help="(default %(default)s)")
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
    if arguments.command == "index":
        _index(arguments.data, arguments.challenge)
    else:
        _simulate(arguments)


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
    Console(width=None if sys.stdout.isatty() else 120).print(table)


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
    own = build_parser().parse_args(["simulate", "--out", "."])
    changed = [key for key, value in vars(own).items() if key not in ("out", "coils") and vars(arguments)[key] != value]
    if changed or arguments.coils not in (0, 4):
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
