"""Kill and resume: a training killed at random moments and at each file operation ends as if nothing had been.

    python -m benchmarks.chaos --moments 50 --operations all

A tiny training on k-space of noise is killed (SIGKILL: nothing can be tidied up), then resumed until it ends, and
compared with the one that nobody killed: all weights of last.ckpt and best.ckpt bitwise, the rows of metrics.csv but
for their seconds, and no temporary file left. It is killed at random moments, and before and after each operation on a
file of its folder: opened for writing, renamed, removed, a folder made. The libraries are loaded once, and each trial
is a fork. Prints a table in Markdown; exit code 1 if a run ended otherwise.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from tqdm import tqdm

from benchmarks.fastmri_files import write_volumes
from benchmarks.forks import ready_to_fork
from pipelines.commands import train
from pipelines.runtime.shell import Parser, run_command
from pipelines.tuning.ledger import read_rows
from recon.errors import InputError

OPERATIONS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}
"""As Python's audit events name them; os.replace is os.rename, os.unlink os.remove."""
SIDE = 32
FLAGS = [
    *("--task=mri", "--network.widths=[4,6]", "--network.norm=instance", "--dataset.batch_size=2", "--threads=1"),
    *("--dataset.n_workers=0", "--trainer.max_epochs=2", "--trainer.accelerator=cpu", "--trainer.devices=1"),
    *(
        "--trainer.enable_progress_bar=false",
        "--evaluation.shifts=1",
        "--evaluation.split=val",
        "--dataset.max_shift=2",
    ),
]
Hook = Callable[[], None]


class Trial(NamedTuple):
    """A run that was killed and resumed.

    Attributes:
        moment: when it was killed, for the table.
        killed: False where it had ended before.
        wrong: what differs from the run that nobody killed; empty where nothing does.
    """

    moment: str
    killed: bool
    wrong: list[str]


def _fork(argv: Sequence[str], log: Path, hook: Hook | None = None) -> int:
    """Run recon-train in a fork of this process; gives its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process:
        return process
    _train(argv, log, hook)


def _train(argv: Sequence[str], log: Path, hook: Hook | None) -> NoReturn:
    code = 1
    try:
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(target, stream)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        if hook is not None:
            hook()
        code = train.main(list(argv))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _end(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Operations:
    """Hears of each operation on a file of a folder, and kills this process at one of them.

    Args:
        folder: whose files count.
        number: of the operation to be killed at, from 0; -1 for none.
        after: kill when it is done, and not before it is.
        names: where what is heard is written, a line each; None: nowhere.
    """

    def __init__(self, folder: Path, number: int = -1, after: bool = False, names: Path | None = None) -> None:
        self.folder, self.number, self.after = str(folder), number, after
        self.heard = -1
        self.names = None if names is None else os.open(names, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def listen(self) -> None:
        """From here on."""
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in OPERATIONS or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        if not path.startswith(self.folder) or (event == "open" and not _writes(arguments[2])):
            return
        self.heard += 1
        if self.names is not None:
            told = os.fsdecode(arguments[1]) if event == "os.rename" else path  # where it goes says more
            os.write(self.names, f"{event} {os.path.relpath(told, self.folder)}\n".encode())
        if self.heard == self.number and not self.after:
            _die()
        elif self.heard == self.number:
            sys.setprofile(lambda frame, what, argument: _die())  # at the next call or return, when it is done


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


class Chaos:
    """Trains, kills and resumes in a folder, inside :func:`benchmarks.forks.ready_to_fork`.

    Args:
        folder: for the data and the runs.
        seed: of the data and the moments.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        for split in ("train", "val"):
            write_volumes(folder / "data" / f"singlecoil_{split}", 2, 2, (SIDE, SIDE), (SIDE, SIDE), seed=seed)
        self.flags = [*FLAGS, f"--data={folder / 'data'}"]
        self.log, names = folder / "output.txt", folder / "operations.txt"
        self.whole, heard = folder / "whole", folder / "heard"
        for run, hook in ((self.whole, None), (heard, _Operations(heard, names=names).listen)):
            start = time.monotonic()
            code = _end(_fork([*self.flags, f"--out={run}"], self.log, hook))
            if code:
                raise RuntimeError(f"a training that nobody killed ended with exit code {code}: {self.log.read_text()}")
            self.seconds = time.monotonic() - start
        self.operations = names.read_text().splitlines()

    def at_random(self) -> Trial:
        """Kill at a random moment of the run."""
        run, moment = self.folder / "random", self.random.uniform(0, self.seconds)
        process = _fork([*self.flags, f"--out={run}"], self.log)
        time.sleep(moment)
        os.kill(process, signal.SIGKILL)
        return self._resumed(run, f"after {moment:.2f} s", _end(process))

    def at_operation(self, number: int, after: bool) -> Trial:
        """Kill before or after an operation."""
        run = self.folder / "operation"
        process = _fork([*self.flags, f"--out={run}"], self.log, _Operations(run, number, after).listen)
        name = re.sub("[0-9a-f]{12}", "*", self.operations[number])
        return self._resumed(run, f"{'after' if after else 'before'} {name} ({number})", _end(process))

    def _resumed(self, run: Path, moment: str, code: int) -> Trial:
        """Go on with a run until it ends, compare it, and remove it."""
        if code not in (0, -signal.SIGKILL):
            return Trial(moment, False, [f"exit code {code} in the place of a kill"])
        wrong = []
        if code:
            argv = [f"--resume={run}"] if (run / "config.yaml").exists() else [*self.flags, f"--out={run}"]
            code = _end(_fork(argv, self.log))
            wrong += [f"--resume ended with exit code {code}: {self.log.read_text()[-300:]}"] if code else []
            killed = True
        else:
            killed = False
        wrong += differences(self.whole, run)
        run.rename(self.folder / f"done-{time.monotonic_ns()}")
        return Trial(moment, killed, wrong)


def differences(whole: Path, run: Path) -> list[str]:
    """What sets a run folder apart from that of the same run that nobody killed."""
    wrong = []
    for name in ("last", "best"):
        try:
            paths = [folder / "checkpoints" / f"{name}.ckpt" for folder in (whole, run)]
            states = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
        except (OSError, RuntimeError, EOFError) as error:
            wrong.append(f"{name}.ckpt: {error}")
            continue
        same = states[0].keys() == states[1].keys()
        if not same or not all(torch.equal(states[0][key], states[1][key]) for key in states[0]):
            wrong.append(f"other weights in {name}.ckpt")
    rows = [[row | {"seconds": 0} for row in read_rows(folder)] for folder in (whole, run)]
    if rows[0] != rows[1]:
        epochs = [[int(row.get("epoch", -1)) for row in table] for table in rows]
        wrong.append(f"other rows in metrics.csv: epochs {epochs[1]}, not {epochs[0]}")
    left = sorted(path.name for path in run.rglob("*") if path.suffix in (".tmp", ".part"))
    wrong += [f"{len(left)} temporary files are left, such as {left[0]}"] if left else []
    lost = [path.name for path in whole.iterdir() if not (run / path.name).exists()]
    return wrong + [f"{name} is missing" for name in lost]


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, resume, compare and print the table."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.chaos", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--moments", type=int, default=50, help="random ones (default %(default)s)")
    parser.add_argument("--operations", default="all", help="so many, evenly spread, or all (default all)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default %(default)s)")
    arguments = parser.parse_args(argv)
    most = arguments.operations
    if arguments.moments < 0 or not (most == "all" or most.isdigit()):
        raise InputError("--moments must be 0 or more, --operations a number or all")
    with tempfile.TemporaryDirectory() as temporary, ready_to_fork(Path(temporary) / "cache"):
        chaos = Chaos(Path(temporary), arguments.seed)
        n = len(chaos.operations)
        step = 1 if most == "all" else max(n // max(int(most), 1), 1)
        numbers = range(0, n, step) if most != "0" else ()
        kinds: dict[str, list[Trial]] = {"at a random moment": [], "before an operation": [], "after an operation": []}
        work = [chaos.at_random] * arguments.moments
        kinds["at a random moment"] = [trial() for trial in tqdm(work, "random moments", disable=None)]
        for number in tqdm(numbers, "operations", disable=None):
            kinds["before an operation"].append(chaos.at_operation(number, after=False))
            kinds["after an operation"].append(chaos.at_operation(number, after=True))
    _print(kinds, chaos, arguments.seed)


def _print(kinds: dict[str, list[Trial]], chaos: Chaos, seed: int) -> None:
    print("| killed | trials | killed before its end | ended the same | otherwise |")
    print("|---|---|---|---|---|")
    wrong = [trial for trials in kinds.values() for trial in trials if trial.wrong]
    for name, trials in kinds.items():
        other = sum(bool(trial.wrong) for trial in trials)
        print(f"| {name} | {len(trials)} | {sum(t.killed for t in trials)} | {len(trials) - other} | {other} |")
    names = Counter(line.split()[0] for line in chaos.operations)
    listed = ", ".join(f"{count} {name}" for name, count in names.items())
    print(f"\nSeed {seed}; a run of {chaos.seconds:.1f} s with {len(chaos.operations)} operations ({listed}).")
    for trial in wrong:
        print(f"{trial.moment}: {'; '.join(trial.wrong)}", file=sys.stderr)
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
