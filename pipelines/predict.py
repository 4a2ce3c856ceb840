"""``recon-predict``: reconstruct files of k-space or of sinograms with a trained network, one file for each volume."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace
from tqdm import tqdm

from data_prep import FastMRIDataset, LoDoPaBDataset, parse_header
from data_prep.nifti import nifti_description
from data_prep.volume import open_volume, unreadable
from pipelines.checkpoints import build_task, find_checkpoint, load_weights
from pipelines.command import Parser, run_command, size_flag
from pipelines.data import ReconstructionDataset, check_image_sizes
from pipelines.devices import find_device
from pipelines.reconstruction import Job, reconstruct_all
from pipelines.run_folder import make_folder
from pipelines.task import ReconstructionTask
from recon.errors import InputError, check_choice

SUFFIXES = {"hdf5": ".h5", "nifti": ".nii.gz"}
INPUTS = {"mri": ("fastMRI files", "*.h5"), "ct": ("LoDoPaB observations", "observation_*.hdf5")}
DETAILS = """\
masks:    A file with a mask of its own (fastMRI's test files) is masked with that. A file without one is taken as
          fully sampled: it gets the run's mask, seeded by the file's name as in recon-evaluate. Several coils are
          combined by the root of the sum of squares, whatever the run was trained on.
hdf5:     DIR/NAME.h5 with the dataset "reconstruction" (slices, rows, columns), float32, in the file's units:
          fastMRI's submission format, which fastmri.evaluate reads.
nifti:    DIR/NAME.nii.gz (columns, rows, slices), float32, in the file's units; voxel size in mm from the file's
          header (a slice's thickness; gaps are not told), 1 mm where the header does not tell it. fastMRI files do
          not tell how the patient lay, so the orientation is a convention, that of a straight axial slice: columns
          go to the patient's left, rows to posterior, slices to superior. The voxel where the acquired field is
          centred (half the rows, columns and slices, rounded down) is at 0, 0, 0 mm, however the image is cropped.
CT:       A run on CT reads LoDoPaB's observations (observation_*.hdf5): hdf5 holds mu / MU_MAX, as LoDoPaB's ground
          truth does; nifti HU, turned as one looks at it, with the geometry's pixels and slices of 1 mm.
go on:    A volume that this very run and input have written into DIR is skipped, so that the same command goes on
          after an interruption. Any other file of its name is never overwritten.
"""


class Network(NamedTuple):
    """A trained network, its run's settings, and what identifies both."""

    task: ReconstructionTask
    config: Namespace
    digest: str


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``recon-predict``."""
    parser = Parser(
        prog="recon-predict",
        description="Reconstruct fastMRI files, or LoDoPaB's observations, with a trained network.",
        epilog=DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder of recon-train (its best.ckpt), or one of its checkpoints (.ckpt)")
    add("inputs", nargs="+", metavar="INPUT", help="files of k-space (*.h5) or sinograms (*.hdf5), or folders of them")
    add("--out", required=True, metavar="DIR", help="the folder to write to")
    add("--format", default="hdf5", help="hdf5 or nifti (default %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    add("--batch-size", type=int, default=1, help="slices that run at once (default 1, as recon-evaluate saves them)")
    add("--dataset.image_size", dest="image_size", type=size_flag, metavar="'[ROWS, COLUMNS]'",
        help="crop or zero-pad the images to this size, as in recon-train (default: as the run does)")  # fmt: skip
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_predict, argv)


def _predict(argv: list[str]) -> None:
    arguments = build_parser().parse_args(argv)
    check_choice("format", arguments.format, SUFFIXES)
    if arguments.batch_size < 1:
        raise InputError(f"--batch-size is {arguments.batch_size}: give 1 or more")
    if "" in (arguments.run, arguments.out, *arguments.inputs):
        raise InputError("RUN, INPUT and --out cannot be empty: give paths")
    device = find_device(arguments.device)
    network = open_network(Path(arguments.run), arguments.image_size)
    files = find_files(arguments.inputs, network.config.task)
    out = Path(arguments.out)
    checking = tqdm(files, "checking", disable=None, leave=False)
    jobs = {path.name: plan(network, path, out, arguments.format) for path in checking}
    todo = [job for job in jobs.values() if job is not None]
    make_folder(out)

    if there := [name for name, job in jobs.items() if job is None]:
        print(f"skipped, because {out} holds what this run makes of them: {_listed(there)}", file=sys.stderr)
    if arguments.format == "nifti" and (unknown := [job.path.name for job in todo if job.voxel_size_mm is None]):
        print(f"written with voxels of 1 mm, because the header tells no size: {_listed(unknown)}", file=sys.stderr)
    if todo:
        reconstruct_all(network.task.to(device).eval(), todo, arguments.batch_size)
        print(f"Written: {len(todo)} of {len(jobs)} volumes, to {out}")


def find_files(inputs: Sequence[str], task: str = "mri") -> list[Path]:
    """The files that are named, and those in the folders that are named.

    Args:
        inputs: files and folders.
        task: a key of INPUTS.

    Raises:
        InputError: there is no such file, a folder holds none, or two have one name.
    """
    files: list[Path] = []
    kind, pattern = INPUTS[task]
    for given in map(Path, inputs):
        if not given.exists():
            raise InputError(f"there is no file or folder {given}: give {kind} ({pattern}) or a folder of them")
        found = sorted(p for p in given.glob(pattern) if not p.name.startswith(".")) if given.is_dir() else [given]
        if not found:
            inside = [f", such as {path.parent}" for path in sorted(given.glob(f"*/{pattern}"))[:1]]
            raise InputError(f"{given} holds no {kind} ({pattern}): give the folder that does{''.join(inside)}")
        files += found
    names: dict[str, Path] = {}
    for path in files:
        if path.stem in names:
            raise InputError(
                f"{names[path.stem]} and {path} have one name, so that one would be written over the other: "
                "give each its own --out folder"
            )
        names[path.stem] = path
    return files


def open_network(path: Path, image_size: Sequence[int] | None = None) -> Network:
    """The network of a run folder (its best checkpoint) or of one checkpoint of a run, without the run's data.

    Args:
        path: the run folder, or a ``.ckpt`` file in its ``checkpoints`` folder.
        image_size: another size of the images than the run's.

    Raises:
        InputError: not a run folder, a broken checkpoint, or one of another network.
    """
    _, checkpoint, config = find_checkpoint(path)
    if image_size is not None:
        config.dataset.image_size = image_size
    task = build_task(config)
    load_weights(task, checkpoint)
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    settings = [config.clamp, config.network.as_dict(), _dataset_settings(config)]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return Network(task, config, digest.hexdigest())


def plan(network: Network, path: Path, out: Path, file_format: str) -> Job | None:
    """Check all that can be checked before a volume is reconstructed.

    Args:
        network: what reconstructs it.
        path: a fastMRI file, or one of LoDoPaB's observations.
        out: the folder to write to.
        file_format: a key of SUFFIXES.

    Returns:
        The job; None where it is done already.

    Raises:
        InputError: not such a file, an image that the network cannot take, a mask that cannot be made, or a file
            in the place of the result that this job did not write.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    result = out / f"{path.stem}{SUFFIXES[file_format]}"
    source = f"{network.digest} {path.name} {status.st_size} {status.st_mtime_ns}"
    made_by = f"recon-predict {hashlib.sha256(source.encode()).hexdigest()[:32]}"
    if result.exists():
        if _made_by(result) == made_by:
            return None
        raise InputError(
            f"{result} is there already and is not what this run makes of {path}: give another --out, or remove it"
        )
    opened: tuple[ReconstructionDataset, tuple[float, float, float] | None] = (
        _open_sinograms(network, path) if network.config.task == "ct" else _open_kspace(network, path)
    )
    return Job(opened[0], result, made_by, opened[1])


def _open_sinograms(network: Network, path: Path) -> tuple[LoDoPaBDataset, tuple[float, float, float]]:
    """The file, and its voxels in mm: slices are of 1 mm, since LoDoPaB's are of many people."""
    dataset = LoDoPaBDataset(path, None, cache=False, progress=False, **_dataset_settings(network.config))
    check_image_sizes(dataset, network.task.network)
    height, width = (1000 * side for side in dataset.volumes[0].geometry.pixel_size)
    return dataset, (height, width, 1.0)


def _open_kspace(network: Network, path: Path) -> tuple[FastMRIDataset, tuple[float, float, float] | None]:
    """The file, and its voxels in mm, where the header tells them."""
    with open_volume(path) as file:
        challenge = "multicoil" if getattr(file.get("kspace"), "ndim", 3) == 4 else "singlecoil"
    dataset = FastMRIDataset(path, None, challenge, progress=False, **_dataset_settings(network.config))
    check_image_sizes(dataset, network.task.network)
    if not dataset.volumes[0].has_mask:
        try:
            dataset.mask(0)
        except InputError as error:
            raise InputError(f"{path} cannot have the run's mask: {error}") from None
    with open_volume(path) as file:
        header = parse_header(file["ismrmrd_header"][()], path)
    return dataset, header.voxel_size_mm


def _made_by(path: Path) -> str:
    if path.suffix != ".h5":
        return nifti_description(path)
    with open_volume(path) as file:
        return str(file.attrs.get("made_by"))


def _dataset_settings(config: Namespace) -> dict[str, Any]:
    """The run's settings of masks or filters, and of sizes; the challenge is each file's own."""
    masks, filters = ("mask_type", "center_fractions", "accelerations"), ("window", "frequency_scaling")
    return {key: config.dataset[key] for key in ("image_size", *(filters if config.task == "ct" else masks))}


def _listed(names: Sequence[str]) -> str:
    """Names for one line of text, the first few of many."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


if __name__ == "__main__":
    raise SystemExit(main())
