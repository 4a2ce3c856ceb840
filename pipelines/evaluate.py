"""``recon-evaluate``: quality and equivariance of any number of runs, side by side."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jsonargparse import Namespace
from torch import Tensor

from data_prep import FastMRIDataset, write_hdf5
from pipelines.checkpoints import build_task, load_weights
from pipelines.command import Parser, run_command
from pipelines.config import load
from pipelines.data import check_image_sizes, open_dataset
from pipelines.protocols import Row, measure
from pipelines.run_folder import check_run_folder, environment, make_folder, write_csv, write_json
from pipelines.summary import print_table, summarise
from pipelines.task import ReconstructionTask
from pipelines.train import describe_data
from recon.errors import InputError


class Run(NamedTuple):
    """A trained network, ready to be measured, and the data to measure it on."""

    name: str
    config: Namespace
    task: ReconstructionTask
    dataset: FastMRIDataset


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``recon-evaluate``."""
    parser = Parser(
        prog="recon-evaluate",
        description="Measure the quality (PSNR, SSIM, NMSE) and the shift equivariance of trained runs, in one table. "
        "Each run is measured on the data it was trained for, unless --data says otherwise.",
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="a run folder of recon-train, or one of its checkpoints (.ckpt)")
    add("--shifts", type=int, default=16, help="circular shifts drawn for each slice (default %(default)s; 0: none)")
    add("--max-shift", type=int, default=16, help="largest shift, in pixels (default %(default)s)")
    add("--data", help="another data folder (the default is each run's own)")
    add("--split", choices=("train", "val", "test"), help="another split (the default is each run's own)")
    add("--seed", type=int, default=0, help="of the shifts (default %(default)s)")
    add("--batch-size", type=int, default=4, help="how many shifted images run at once (default %(default)s)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    add("--save-reconstructions", action="store_true", help="write reconstructions/RUN/VOLUME.h5, as fastMRI does")
    add("--out", help="folder for results.csv and summary.json (default: evaluation/<time>)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_evaluate, argv)


def _evaluate(argv: list[str]) -> None:
    arguments = build_parser().parse_args(argv)
    if arguments.shifts < 0 or arguments.max_shift < 1 or arguments.batch_size < 1:
        raise InputError("--shifts must be 0 or more, --max-shift and --batch-size 1 or more: correct the flag")
    device = find_device(arguments.device)
    runs = [open_run(Path(run), arguments.data, arguments.split) for run in arguments.runs]
    names = [run.name for run in runs]
    runs = [run._replace(name=name) for run, name in zip(runs, _distinct(names), strict=True)]
    out = Path(arguments.out) if arguments.out else Path("evaluation") / time.strftime("%Y%m%d-%H%M%S")
    make_folder(out)

    table: list[tuple[str, ...]] = []
    summaries = {}
    for run in runs:
        print(f"{run.name}: {len(run.dataset)} slices of {describe_data(run.config)}", file=sys.stderr)
        run.task.to(device).eval()
        save = _saver(out / "reconstructions" / run.name, run.dataset) if arguments.save_reconstructions else None
        rows = measure(
            run.task, run.dataset, arguments.shifts, arguments.max_shift, arguments.seed, arguments.batch_size, save
        )
        table += [(run.name, *map(str, row)) for row in rows]
        summaries[run.name] = summarise(rows) | {"data": describe_data(run.config)}
    write_csv(out / "results.csv", ("run", *Row._fields), table)
    settings = {key: getattr(arguments, key) for key in ("shifts", "max_shift", "seed", "batch_size")}
    write_json(out / "summary.json", {"settings": settings, "environment": environment(str(device)), "runs": summaries})
    print_table(summaries, "; ".join(dict.fromkeys(describe_data(run.config) for run in runs)))
    print(f"Written: {out / 'results.csv'}, {out / 'summary.json'}")


def open_run(path: Path, data: str | None = None, split: str | None = None) -> Run:
    """Open a run folder (its best checkpoint) or one checkpoint of a run.

    Args:
        path: the run folder, or a ``.ckpt`` file in its ``checkpoints`` folder.
        data: another data folder than the run's own.
        split: another split than the run's own.

    Raises:
        InputError: not a run folder, a broken checkpoint, one of another network, or data that cannot be read.
    """
    checkpoint = path if path.suffix == ".ckpt" else path / "checkpoints" / "best.ckpt"
    folder = check_run_folder(path.parent.parent if path.suffix == ".ckpt" else path)
    config = load(folder / "config.yaml")
    config.data = data or config.data
    config.evaluation.split = split or config.evaluation.split
    task = build_task(config)
    load_weights(task, checkpoint)
    dataset = open_dataset(config, config.evaluation.split)
    check_image_sizes(dataset, task.network)
    name = folder.resolve().name + (f"-{path.stem}" if path.suffix == ".ckpt" else "")
    return Run(name, config, task, dataset)


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Raises:
        InputError: there is no such device.
    """
    try:
        if name.partition(":")[0] not in ("auto", "cpu", "cuda", "mps"):
            raise RuntimeError(name)
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(f"there is no device {name!r} here: give cpu, or cuda where there is a GPU") from None
    return device


def _distinct(names: list[str]) -> list[str]:
    """Number the names that occur more than once, past names that are taken."""
    given: list[str] = []
    for name in names:
        candidates = [name] if names.count(name) == 1 else [f"{name}-{i}" for i in range(1, len(names) + 1)]
        taken = {*given, *names} if names.count(name) > 1 else set()
        given.append(next((candidate for candidate in candidates if candidate not in taken), f"{name}-{len(given)}"))
    return given


def _saver(folder: Path, dataset: FastMRIDataset) -> Callable[[int, Tensor], None]:
    make_folder(folder)

    def save(volume: int, reconstruction: Tensor) -> None:
        write_hdf5(folder / f"{dataset.volumes[volume].name}.h5", {"reconstruction": reconstruction.numpy()})

    return save


if __name__ == "__main__":
    raise SystemExit(main())
