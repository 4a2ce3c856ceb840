"""What a sweep costs beside its trainings: recon-tune against the same trainings, each started as a fresh process.

    python -m benchmarks.tuning --trials 6 --epochs 4

The trials are small networks on the bundled brain images, none of them pruned. The whole of recon-tune is timed: its
checks, Ray's start, the trials, the measurement of the best one and the page. Then each trial's own config.yaml is
trained again by recon-train, in its own process with the same threads, as many side by side, in the same order.
Prints a table in Markdown; exit code 1 if a row of a trial's metrics.csv differs from its fresh process's.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from data_prep import bundled_mri
from pipelines.runtime.shell import Parser, run_command
from pipelines.tuning.ledger import Ledger, Row, read_rows
from recon.errors import InputError

SPACE = """\
optimizer.lr: {{loguniform: [1.0e-4, 1.0e-2]}}
network.sampling: {{choice: [stride, lpf, aps]}}
network.widths: [8, 16]
trainer: {{max_epochs: {epochs}, limit_train_batches: {batches}}}
evaluation.shifts: 1
"""
COMMAND = [sys.executable, "-m"]


class Spent(NamedTuple):
    """Seconds since the sweep's start at which the trials could begin, the last of them ended, and all was done."""

    prepared: float
    trained: float
    done: float


def sweep(folder: Path, space: Path, trials: int, concurrent: int, seed: int) -> Spent:
    """Run recon-tune, with one thread for each trial, and note when it says what."""
    flags = ["--task=mri", f"--space={space}", f"--out={folder}", f"--samples={trials}", f"--seed={seed}"]
    flags += ["--scheduler=none", f"--concurrent={concurrent}"]
    start = time.perf_counter()
    prepared = trained = start
    with subprocess.Popen([*COMMAND, "pipelines.commands.tune", *flags], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Sweep folder"):
                prepared = time.perf_counter()
            elif line.startswith("["):  # a trial has ended
                trained = time.perf_counter()
    if process.returncode:
        raise SystemExit(process.returncode)
    return Spent(prepared - start, trained - start, time.perf_counter() - start)


def fresh_processes(runs: Sequence[Path], out: Path, concurrent: int) -> float:
    """Seconds to train the run folders' configurations again, each in its own process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}  # as Ray has it for a trial of one CPU

    def train(run: Path) -> None:
        flags = [f"--config={run / 'config.yaml'}", f"--out={out / run.name}"]
        subprocess.run(
            [*COMMAND, "pipelines.commands.train", *flags], env=environment, check=True, stdout=subprocess.DEVNULL
        )

    start = time.perf_counter()
    with ThreadPoolExecutor(concurrent) as pool:
        list(pool.map(train, runs))
    return time.perf_counter() - start


def without_seconds(run: Path) -> list[Row]:
    """All that decides whether two runs are the same."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_rows(run)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its table."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.tuning", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=6, help="(default %(default)s)")
    parser.add_argument("--epochs", type=int, default=4, help="of each trial (default %(default)s)")
    parser.add_argument("--batches", type=int, default=22, help="in an epoch, of two slices (default %(default)s)")
    parser.add_argument("--concurrent", type=int, default=2, help="trials side by side (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the points and the trainings (default %(default)s)")
    arguments = parser.parse_args(argv)
    if min(arguments.trials, arguments.epochs, arguments.batches, arguments.concurrent) < 1:
        raise InputError("--trials, --epochs, --batches and --concurrent must be at least 1")
    bundled_mri()  # made once, before anything is timed
    with tempfile.TemporaryDirectory() as temporary:
        folder, space = Path(temporary) / "sweep", Path(temporary) / "space.yaml"
        space.write_text(SPACE.format(epochs=arguments.epochs, batches=arguments.batches))
        spent = sweep(folder, space, arguments.trials, arguments.concurrent, arguments.seed)
        runs = [Ledger(folder).run_folder(number) for number in range(arguments.trials)]
        fresh = fresh_processes(runs, Path(temporary) / "fresh", arguments.concurrent)
        different = [
            run.name for run in runs if without_seconds(run) != without_seconds(folder.parent / "fresh" / run.name)
        ]
        epochs = sum(len(read_rows(run)) for run in runs)
    print("| | before the trials (s) | trials (s) | after the trials (s) | together (s) |")
    print("|---|---|---|---|---|")
    parts = (spent.prepared, spent.trained - spent.prepared, spent.done - spent.trained, spent.done)
    print(f"| recon-tune | {' | '.join(f'{part:.1f}' for part in parts)} |")
    print(f"| recon-train, fresh processes | | {fresh:.1f} | | {fresh:.1f} |")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("ray", "torch", "pytorch-lightning"))
    print(
        f"\nThe sweep takes {100 * (spent.done / fresh - 1):+.1f} % of the fresh processes' time. {arguments.trials} "
        f"trials, {epochs} epochs of {arguments.batches} batches in all, {arguments.concurrent} side by side, one "
        f"thread each, seed {arguments.seed}; {os.cpu_count()} CPU cores ({platform.machine()}); {versions}."
    )
    if different:
        print(f"The rows of metrics.csv differ in trials {', '.join(different)}.", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
