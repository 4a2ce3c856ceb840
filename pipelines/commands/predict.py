"""``recon-predict``: reconstruct k-space, sinograms or CT images in HU with a trained network, each to a file."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from jsonargparse import Namespace
from tqdm import tqdm

from data_prep.lodopab.volume import N_PHOTONS
from data_prep.storage.hdf5 import open_volume, unreadable
from data_prep.storage.nifti import nifti_description
from pipelines.measuring.devices import find_device
from pipelines.reconstruction.inputs import Input, find_inputs
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.task import ReconstructionTask
from pipelines.reconstruction.volumes import Job, reconstruct_all
from pipelines.runs.checkpoints import build_task, find_checkpoint, load_weights
from pipelines.runtime.bounds import BATCH_SIZE, PHOTONS
from pipelines.runtime.nested import Value
from pipelines.runtime.notes import say_aloud
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.shell import Parser, real, run_command, size_flag, whole
from pipelines.tasks import TASKS, TaskRow, measurement_settings
from recon.errors import InputError, check_choice

SUFFIXES = {"hdf5": ".h5", "nifti": ".nii.gz"}
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
scans:    A run on CT also reads measured scans with a geometry of their own, as recon-prepare import --task ct writes
          them. Each slice is back-projected by the scan's own geometry onto its own grid, with the run's filter, and
          divided by the scan's mu_max. hdf5 and nifti hold the attenuation in 1/m. There is no target. Networks with
          the sinogram inside do not take them.
HU:       A run on CT also reads images in HU: NIfTI volumes, and folders of the axial DICOM slices of one series
          (written as FOLDER.h5 or FOLDER.nii.gz). Each slice is measured anew, simulated as LoDoPaB's were: parallel
          beam, 1000 angles, --photons for each detector pixel, noise that depends on the volume's name and the slice
          alone. The body keeps its true size (the header's pixel size), the detector spans the image's diagonal with
          pixels as wide as the image's, and all of the image is reconstructed on its own grid: nothing is resampled
          or cropped. So a wide body lets fewer photons through than LoDoPaB's 26 cm, and is noisier. Values are cut
          to -1001 .. 3071 HU. nifti holds HU, in a NIfTI input's own axes and affine, or with that of the DICOM
          headers (columns, rows, slices); hdf5 holds mu / MU_MAX, these axes reversed, and the affine as attribute.
          PSNR and SSIM compare with the image itself.
go on:    A volume that this very run and input have written into DIR is skipped, so that the same command goes on
          after an interruption. Any other file of its name is never overwritten.
"""


class Network(NamedTuple):
    """A trained network, its run's settings, and what identifies both."""

    task: ReconstructionTask
    config: Namespace
    digest: str

    @property
    def row(self) -> TaskRow:
        """Of the table of tasks."""
        return TASKS[self.config.task]


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``recon-predict``."""
    parser = Parser(
        prog="recon-predict",
        description="Reconstruct fastMRI files, or LoDoPaB's observations and CT images in HU, with a trained network.",
        epilog=DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", metavar="RUN",
        help="a run folder of recon-train (its best.ckpt), one of its checkpoints (.ckpt), or a network that comes "
        "with the package: zoo:mri or zoo:ct")  # fmt: skip
    add("inputs", nargs="+", metavar="INPUT",
        help="files of k-space (*.h5), of sinograms (*.hdf5, or *.h5 of recon-prepare import) or of images in HU "
        "(*.nii, *.nii.gz), folders of them, or a folder of DICOM slices")  # fmt: skip
    add("--out", required=True, metavar="DIR", help="the folder to write to")
    add("--format", default="hdf5", help="hdf5 or nifti (default %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    add(
        "--batch-size",
        type=whole(*BATCH_SIZE),
        default=1,
        help="slices that run at once (default 1, as recon-evaluate saves them)",
    )
    add("--dataset.image_size", dest="image_size", type=size_flag, metavar="'[ROWS, COLUMNS]'",
        help="crop or zero-pad the images to this size, as in recon-train (default: as the run does)")  # fmt: skip
    add(
        "--photons",
        type=real(*PHOTONS),
        help=f"for each detector pixel, of images in HU (default {N_PHOTONS:g}, LoDoPaB's)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_predict, argv)


def _predict(argv: list[str]) -> None:
    arguments = build_parser().parse_args(argv)
    check_choice("format", arguments.format, SUFFIXES)
    if "" in (arguments.run, arguments.out, *arguments.inputs):
        raise InputError("RUN, INPUT and --out cannot be empty: give paths")
    device = find_device(arguments.device)
    network = open_network(Path(arguments.run), arguments.image_size)
    inputs = find_inputs(arguments.inputs, network.row.inputs)
    out = Path(arguments.out)
    _check_flags(arguments, inputs)
    checking = tqdm(inputs, "checking", disable=None, leave=False)
    photons = arguments.photons or N_PHOTONS
    jobs = {each.path.name: plan(network, each, out, arguments.format, photons) for each in checking}
    todo = [job for job in jobs.values() if job is not None]
    for kind in dict.fromkeys(type(job.dataset) for job in todo):
        say_aloud(kind.notes_on([job.dataset.volumes[0] for job in todo if type(job.dataset) is kind]))
    make_folder(out)

    if there := [name for name, job in jobs.items() if job is None]:
        print(f"skipped, because {out} holds what this run makes of them: {_listed(there)}", file=sys.stderr)
    if arguments.format == "nifti":
        unknown = [job.path.name for job in todo if job.dataset.voxel_size_mm() is None]
        if unknown:
            print(f"written with voxels of 1 mm, because the header tells no size: {_listed(unknown)}", file=sys.stderr)
    if todo:
        reconstruct_all(network.task.to(device).eval(), todo, arguments.batch_size)
        print(f"Written: {len(todo)} of {len(jobs)} volumes, to {out}")


def _check_flags(arguments: argparse.Namespace, inputs: Sequence[Input]) -> None:
    """Refuse flags that say nothing of these files."""
    images = any(each.kind.simulated for each in inputs)
    kept = [each.path for each in inputs if "image_size" not in each.kind.settings]
    if arguments.photons is not None and not 0 < arguments.photons < float("inf"):
        raise InputError(f"--photons is {arguments.photons}: give the photons for each detector pixel, such as 4096")
    if arguments.photons is not None and not images:
        raise InputError("--photons is for images in HU: leave it out, what was measured has its noise already")
    if arguments.image_size is not None and kept:
        raise InputError(f"--dataset.image_size is not for images in HU or scans, as {kept[0]}: they keep their size")


def open_network(path: Path, image_size: Sequence[int] | None = None) -> Network:
    """The network of a run folder (its best checkpoint) or of one checkpoint of a run, without the run's data.

    Args:
        path: the run folder, a ``.ckpt`` file in its ``checkpoints`` folder, or ``zoo:NAME``.
        image_size: another size of the images than the run's.

    Raises:
        InputError: not a run folder, a broken checkpoint, one of another network, or one that makes no images.
    """
    _, checkpoint, config = find_checkpoint(path)
    row = TASKS[config.task]
    if not row.inputs:
        tasks = " or ".join(name for name, other in TASKS.items() if other.inputs)
        raise InputError(f"{path} is a run of {config.task}, which makes no images: give a run of {tasks}")
    if image_size is not None:
        config.dataset.image_size = image_size
    task = build_task(config)
    load_weights(task, checkpoint)
    with checkpoint.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    network = config.network.as_dict()
    if network["name"] == next(iter(row.networks)):
        del network["name"]  # as before there were names: what was made then is recognised
    settings = [config.clamp, network, _input_settings(config)]
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return Network(task, config, digest.hexdigest())


def plan(network: Network, given: Input, out: Path, file_format: str, n_photons: float = N_PHOTONS) -> Job | None:
    """Check all that can be checked before a volume is reconstructed.

    Args:
        network: what reconstructs it.
        given: a file (or a folder of slices) that the network's task reads.
        out: the folder to write to.
        file_format: a key of SUFFIXES.
        n_photons: for each detector pixel, of a volume in HU.

    Returns:
        The job; None where it is done already.

    Raises:
        InputError: not such a file, an image that the network cannot take, a mask that cannot be made, or a file
            in the place of the result that this job did not write.
    """
    path, result = given.path, out / f"{given.name}{SUFFIXES[file_format]}"
    source = " ".join([network.digest, *_stamps(path), *([f"{n_photons:g}"] if given.kind.simulated else [])])
    made_by = f"recon-predict {hashlib.sha256(source.encode(errors='surrogateescape')).hexdigest()[:32]}"
    if result.exists():
        if result.samefile(path):
            raise InputError(f"{path} would be written over with its own reconstruction: give another --out than {out}")
        if _made_by(result) == made_by:
            return None
        raise InputError(f"{result} is there already and is not what this run makes of {path}: give another --out")
    settings = _input_settings(network.config) | measurement_settings(network.config)
    multiple = network.task.total_stride
    dataset = given.kind.open(path, settings, multiple, n_photons)
    RECONSTRUCTION.check_data(dataset, network.task)
    return Job(dataset, result, made_by)


def _stamps(path: Path) -> list[str]:
    """What a changed file, or a changed file in a folder, is noticed by."""
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except OSError as error:
        raise unreadable(path, error) from error
    return [path.name] * path.is_dir() + [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]


def _made_by(path: Path) -> str:
    if path.suffix != ".h5":
        return nifti_description(path)
    with open_volume(path) as file:
        return str(file.attrs.get("made_by"))


def _input_settings(config: Namespace) -> dict[str, Value]:
    """The run's settings that decide what the network is given of a file; the challenge is each file's own."""
    return {key: config.dataset[key] for kind in TASKS[config.task].inputs for key in kind.settings}


def _listed(names: Sequence[str]) -> str:
    """Names for one line of text, the first few of many."""
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


if __name__ == "__main__":
    raise SystemExit(main())
