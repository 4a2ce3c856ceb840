"""``recon-evaluate``: quality and equivariance of any number of runs, side by side, in one report."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypeVar

import torch
from annotated_types import Len
from pydantic import Field

from pipelines.commands.model_flags import ModelFlags, add_model_flags, check_model_flags, model_of
from pipelines.measuring.devices import fastest_batch, find_devices
from pipelines.measuring.evaluation import PARTS, Evaluation, check_same
from pipelines.measuring.kind import AnyRun, Measured, RunFacts
from pipelines.measuring.settings import Settings
from pipelines.runs.config import settings_of
from pipelines.runs.foreign import weights_digest
from pipelines.runs.open import open_runs
from pipelines.runs.zoo import run_path
from pipelines.runtime.bounds import BATCH_SIZE, MAX_SHIFT, NOISE, SEED, SHIFTS
from pipelines.runtime.run_folder import (
    Environment,
    environment,
    make_folder,
    read_environment,
    remove_leftovers,
    resumed,
    write_json,
)
from pipelines.runtime.shell import Interrupted, Parser, command_line, real, run_command, size_flag, whole
from pipelines.runtime.stored import Count, damaged, read_figures, read_json
from pipelines.tasks import TASKS, describe_data
from recon.errors import InputError, check_choice

PROTOCOL_HELP = """\
protocols of reconstruction:
  plain            quality of each volume or image, overall and by acquisition, beside the baselines
  equivariance     equivariance, dPSNR and quality over circular shifts drawn for each slice
  all-phases       equivariance for every shift modulo the total stride, of each volume's middle slice
  any-shift        the object moves by quarters and tenths of a pixel; compared before the magnitude
  noise            white noise added to the input (--noise-levels): quality and equivariance
  flip             input flipped vertically and horizontally: quality and equivariance
  outside          equivariance on white noise, photographs and other modalities' images
  physical-shift   the object moves before the acquisition, by whole pixels and fractions of one
  realistic-shift  new content enters at the border; compared on the interior
  local-change     a bright spot is added near the border: how much the rest of the image changes
  margins          how clear the choice of phases was, and which inputs came nearest to a tie
  (any-shift and local-change are for networks that get k-space alone; noise, flip, outside and realistic-shift acquire
  a changed object for them, and are not for networks that get a sinogram)
protocols of classifiers:
  plain            accuracy, overall and by class, and what is confused with what
  circular-shift   accuracy, worst case, consistency and change of the logits over circular shifts of each image
  view-shift       the same where the view moves and content enters: of the larger image, or zeros
  flip             images flipped along both axes, and circular shifts of them
  erase            a random 3 x 3 patch erased, and circular shifts
  margins          as above
"""


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``recon-evaluate``."""
    parser = Parser(
        prog="recon-evaluate",
        description="Measure how good trained runs are, and how they behave when the patient moves: results.csv, "
        "summary.json and report.html. Each run is measured on the data it was trained for, unless --data says "
        "otherwise.",
        epilog=PROTOCOL_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", nargs="*", metavar="RUN",
        help="a run folder of recon-train, one of its checkpoints (.ckpt), or a network that comes with the package: "
        "zoo:mri, zoo:ct or zoo:fashion_mnist")  # fmt: skip
    add("--protocols", nargs="+", metavar="NAME", help="what to measure (default: all below of the runs' kind)")
    add(
        "--shifts",
        type=whole(*SHIFTS),
        default=16,
        help="circular shifts drawn for each slice (default %(default)s; 0: none)",
    )
    add("--max-shift", type=whole(*MAX_SHIFT), default=16, help="largest shift, in pixels (default %(default)s)")
    add(
        "--noise-levels",
        type=real(*NOISE),
        nargs="+",
        default=[0.1, 0.5],
        help="of normalised inputs (default 0.1 0.5)",
    )
    add("--data", help="another data folder (the default is each run's own)")
    add("--split", choices=("train", "val", "test"), help="another split (the default is each run's own)")
    add("--dataset.image_size", dest="image_size", type=size_flag, metavar="'[ROWS, COLUMNS]'",
        help="crop or zero-pad the images to this size (the default is each run's own)")  # fmt: skip
    add("--dataset.challenge", dest="challenge", help="singlecoil or multicoil (the default is each run's own)")
    add("--seed", type=whole(*SEED), default=0, help="of the shifts and the noise (default %(default)s)")
    add("--batch-size", type=whole(*BATCH_SIZE), help="shifted images at once (default: 1 on a CPU, measured on a GPU)")
    add("--devices", nargs="+", default=["auto"], help="cpu, cuda:0 cuda:1, ... (default: all GPUs, else the CPU)")
    add("--save-reconstructions", action="store_true", help="write reconstructions/RUN/VOLUME.h5, as fastMRI does")
    add("--out", help="a new folder for all this (default: evaluation/<time>)")
    add("--resume", metavar="OUT", help="go on with an interrupted evaluation")
    add_model_flags(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_evaluate, argv)


def _evaluate(argv: list[str]) -> None:
    arguments, before = _arguments(argv)
    if before is not None and not (Path(arguments.out) / PARTS).exists():
        print(f"{arguments.out} is complete: see {Path(arguments.out) / 'report.html'}")
        return
    devices = find_devices(arguments.devices)
    other = {key: getattr(arguments, key) for key in ("image_size", "challenge") if getattr(arguments, key)}
    runs = open_runs(arguments.runs, arguments.data, arguments.split, other, model_of(arguments))
    smallest = min(run.dataset.smallest_side for run in runs)
    if arguments.max_shift >= smallest:
        raise InputError(f"--max-shift is {arguments.max_shift}, but an image has a side of {smallest}: give less")
    out = Path(arguments.out) if arguments.out else Path("evaluation") / time.strftime("%Y%m%d-%H%M%S")
    inputs = _inputs(runs)
    machine = environment(", ".join(map(str, devices)))
    _choose_protocols(arguments, runs)
    if before is None:
        arguments.batch_size = arguments.batch_size or fastest_batch(runs, devices[0], runs[0].kind.cpu_batch)
        arguments.threads = torch.get_num_threads()
        _new_folder(out)
        paths = [str(run_path(Path(run)).resolve()) for run in arguments.runs]
        keep = vars(arguments) | {"out": str(out), "runs": paths}
        (out / PARTS).mkdir()
    else:
        check_same(before.inputs, inputs)
        remove_leftovers(out)
        torch.set_num_threads(arguments.threads)  # the last bit of a sum may depend on it
        keep, machine = vars(arguments), resumed(before.environment, machine)
    write_json(out / "evaluation.json", {"arguments": keep, "inputs": inputs, "environment": machine})

    settings = Settings(
        arguments.shifts, arguments.max_shift, arguments.seed, arguments.batch_size, tuple(arguments.noise_levels)
    )
    evaluation = Evaluation(out, runs, arguments.protocols, settings, arguments.save_reconstructions)
    for run in runs if evaluation.n_done < evaluation.n_parts else ():
        print(f"{run.name}: {len(run.dataset)} images of {describe_data(run.config)}", file=sys.stderr)
    try:
        evaluation.run(devices)
        _write(evaluation, out, arguments, devices, machine)
    except KeyboardInterrupt:
        done = f"{evaluation.n_done} of {evaluation.n_parts} parts are saved"
        raise Interrupted(f"{done}; go on with: {command_line('recon-evaluate', '--resume', out)}") from None


Content = TypeVar("Content")


@dataclass(frozen=True)
class Arguments(ModelFlags):
    """The flags, as evaluation.json keeps them."""

    runs: list[str]
    protocols: list[str]
    shifts: Count
    max_shift: Count
    noise_levels: list[float]
    data: str | None
    split: str | None
    image_size: Annotated[list[Count], Len(2, 2)] | None
    challenge: str | None
    seed: Count
    batch_size: Count
    devices: list[str]
    save_reconstructions: bool
    out: str
    resume: None
    threads: Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True)
class Kept:
    """What evaluation.json keeps, for an evaluation to be gone on with."""

    arguments: Arguments
    inputs: dict[str, str | list[int]]
    environment: Environment


def _arguments(argv: list[str]) -> tuple[argparse.Namespace, Kept | None]:
    """The arguments, and what an interrupted evaluation kept of itself."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.resume is None:
        _check(arguments)
        return arguments, None
    path = Path(arguments.resume) / "evaluation.json"
    try:
        before = read_json(path, Kept)
    except InputError as error:
        raise InputError(f"{arguments.resume} is no folder of recon-evaluate to go on with: {error}") from None
    stored = asdict(before.arguments)
    given = [key for key, value in vars(arguments).items() if value != parser.get_default(key)]
    changed = [key for key in given if key not in ("runs", "resume", "devices")]
    if changed or arguments.runs:
        what = f"--{changed[0].replace('_', '-')}" if changed else "the runs"
        raise InputError(f"--resume goes on with the evaluation's own settings: leave out {what}")
    stored |= {"devices": arguments.devices if "devices" in given else stored["devices"], "out": arguments.resume}
    arguments = argparse.Namespace(**stored)
    try:
        _check(arguments)
    except InputError as error:
        raise damaged(path, str(error)) from None
    return arguments, before


def _check(arguments: argparse.Namespace) -> None:
    check_model_flags(arguments)
    if not arguments.runs and arguments.model is None:
        raise InputError("give at least one RUN, a folder that recon-train made; recon-evaluate --help explains")
    batch_size = 1 if arguments.batch_size is None else arguments.batch_size
    if arguments.shifts < 0 or arguments.max_shift < 1 or batch_size < 1 or arguments.seed < 0:
        raise InputError("--shifts and --seed must be 0 or more, --max-shift and --batch-size 1 or more")
    if not all(0 < level < float("inf") for level in arguments.noise_levels):
        raise InputError("--noise-levels must be positive: the input's own standard deviation is 1")
    names = [f"{level:g}" for level in arguments.noise_levels]
    if len(set(names)) < len(names):
        raise InputError(f"--noise-levels {' '.join(names)} names a level twice: leave one out")
    if arguments.data is not None:
        arguments.data = str(Path(arguments.data).resolve())
    for protocol in arguments.protocols or ():
        check_choice("protocol", protocol, dict.fromkeys(name for row in TASKS.values() for name in row.kind.protocols))


def _choose_protocols(arguments: argparse.Namespace, runs: Sequence[AnyRun]) -> None:
    """All that can be measured of some run, where none is named."""
    kind = runs[0].kind
    usable = {run.name: kind.usable_protocols(run.dataset) for run in runs}
    if arguments.protocols is None:
        arguments.protocols = [name for name in kind.protocols if any(name in names for names in usable.values())]
    for protocol in arguments.protocols:
        check_choice(f"protocol for the task {runs[0].config.task}", protocol, kind.protocols)
        missing = [run for run, names in usable.items() if protocol not in names]
        if len(missing) == len(runs):
            raise InputError(f"protocol {protocol} cannot be measured of {', '.join(missing)}: leave it out")
    if arguments.save_reconstructions and not kind.saves_images:
        raise InputError("--save-reconstructions is for reconstruction: leave it out for classifiers")


def _new_folder(out: Path) -> None:
    if out.is_dir() and any(out.iterdir()):
        hint = f", or go on with it by {command_line('--resume', out)}" if (out / "evaluation.json").exists() else ""
        raise InputError(f"{out} is not empty: give another --out{hint}")
    make_folder(out)


def _inputs(runs: Sequence[AnyRun]) -> dict[str, str | list[int]]:
    """What the figures depend on beside the settings: the checkpoints and the files, recognised again later."""
    found: dict[str, str | list[int]] = {}
    for run in runs:
        place = f"the network {run.name}" if run.checkpoint is None else str(run.checkpoint.resolve())
        found[place] = weights_digest(run)
        found[f"the configuration of {run.name}"] = json.dumps(
            {key: value for key, value in settings_of(run.config).items() if key not in ("trainer", "threads")},
            sort_keys=True,
        )
        for path in run.dataset.files:
            status = path.stat()
            found[str(path.resolve())] = [status.st_size, status.st_mtime_ns]
    return found


def _facts(run: AnyRun) -> RunFacts:
    """What a report tells of a run beside its figures."""
    curves: list[dict[str, str]] = []
    machine = Environment()
    if run.folder is not None:
        curves = _beside(run.folder / "metrics.csv", read_figures, curves)
        machine = _beside(run.folder / "environment.json", read_environment, machine)
    return RunFacts(run.name, settings_of(run.config), curves, describe_data(run.config), machine)


def _beside(path: Path, read: Callable[[Path], Content], nothing: Content) -> Content:
    """What a file beside the figures says; a checkpoint of a run without a whole epoch has none."""
    try:
        return read(path) if path.exists() else nothing
    except InputError as error:
        print(f"left out of the report: {error}", file=sys.stderr)
        return nothing


def _write(
    evaluation: Evaluation,
    out: Path,
    arguments: argparse.Namespace,
    devices: Sequence[torch.device],
    machine: Environment,
) -> None:
    """The table, the summary and the report, from the parts."""
    runs = evaluation.runs
    kind = evaluation.kind
    notes = {run.name: describe_data(run.config) for run in runs}
    summaries = {
        run.name: kind.summarise(list(evaluation.rows(number)), run.dataset) | {"data": notes[run.name]}
        for number, run in enumerate(runs)  # one run's rows at a time: they are millions
    }
    evaluation.write_table(out / "results.csv")
    keys = ("protocols", "shifts", "max_shift", "noise_levels", "seed", "batch_size", "threads")
    settings = {key: getattr(arguments, key) for key in keys}
    write_json(out / "summary.json", {"settings": settings, "environment": machine, "runs": summaries})
    measured = Measured([_facts(run) for run in runs], summaries, evaluation.rows, settings, machine)
    kind.write_report(out / "report.html", runs, measured, evaluation.settings, devices[0])
    evaluation.clear()
    kind.print_tables(summaries, "; ".join(dict.fromkeys(notes.values())), type(runs[0].dataset))
    print(f"Written: {out / 'results.csv'}, {out / 'summary.json'}\nReport:  {out / 'report.html'}")


if __name__ == "__main__":
    raise SystemExit(main())
