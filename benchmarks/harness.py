"""The one way of comparing: cases in turn, the same results, memory of each in a process of its own, one table.

The first case is the yardstick. Every turn runs all cases one after the other; times are medians over the turns, with
the quartiles, and ratios are those of each turn, which a machine that becomes slower in between does not change.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from pipelines.measuring.devices import find_device
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.memory import give_back_freed_memory
from pipelines.runtime.shell import Parser
from recon.errors import InputError

LIBRARIES = ["benchmarks.harness", "data_prep", "fastmri.data.subsample", "matplotlib.figure", "recon.networks"]
PACKAGES = ("torch", "monai", "numba")

T = TypeVar("T")
Run = Callable[[], Sequence[Sequence[Tensor]]]
"""What is timed. It returns what is compared, in parts such as output and gradients, each taken as one vector."""


class Case(NamedTuple):
    """One of those that are compared.

    Attributes:
        name: for the table.
        prepare: makes the run; called in the subprocess that measures memory as well, so it must be picklable.
        same_as: the case whose results this one must have; None where it computes something else.
        limit: of their relative difference; None where it is shown but not judged.
    """

    name: str
    prepare: Callable[[], Run]
    same_as: str | None = None
    limit: float | None = None


class Outcome(NamedTuple):
    """What a case took.

    Attributes:
        seconds: of each turn.
        ratio: to the first case, the median over the turns.
        peak: MB that a run adds to what it starts from, at its most; None where it cannot be read.
        difference: from the results of `case.same_as`.
        notes: more columns of the table.
    """

    case: Case
    seconds: np.ndarray
    ratio: float
    peak: float | None
    difference: float | None
    notes: dict[str, str] = {}

    @property
    def failed(self) -> bool:
        """Whether the results are further apart than they may be."""
        return self.difference is not None and self.case.limit is not None and not self.difference <= self.case.limit


def compare(cases: Sequence[Case], repeats: int, device: torch.device) -> list[Outcome]:
    """Measure cases in turn, and the memory of each in a process of its own."""
    outcomes = take_turns(cases, repeats, device)
    gc.collect()
    return [outcome._replace(peak=alone(partial(peak, outcome.case.prepare, device))) for outcome in outcomes]


def take_turns(
    cases: Sequence[Case], repeats: int, device: torch.device, budget: float = float("inf")
) -> list[Outcome]:
    """Measure cases in turn, without their memory.

    The results that are compared are those of each case's first run, with TF32 off. Two turns warm up.

    Args:
        cases: the first one is the yardstick.
        repeats: timed turns.
        device: is waited for.
        budget: seconds after which no further turn starts; one there is always.
    """
    start = time.perf_counter()
    runs = [case.prepare() for case in cases]
    with exact_arithmetic():
        results = {case.name: _kept(run()) for case, run in zip(cases, runs, strict=True)}
    differences = [
        None if case.same_as is None else relative_difference(results[case.name], results[case.same_as])
        for case in cases
    ]
    del results
    times = interleave(runs, repeats, device, budget - (time.perf_counter() - start))
    ratios = map(float, np.median(times / times[:, :1], axis=0))
    rows = zip(cases, times.T, ratios, differences, strict=True)
    return [Outcome(case, seconds, ratio, None, difference) for case, seconds, ratio, difference in rows]


def interleave(
    runs: Sequence[Callable[[], object]],
    repeats: int,
    device: torch.device | None = None,
    budget: float = float("inf"),
) -> np.ndarray:
    """Seconds ``(turns, runs)`` of runs that take turns: ``repeats`` or, within ``budget`` seconds, at least one."""
    start = time.perf_counter()

    def turn() -> list[float]:
        return [seconds(run, device) for run in runs]

    turn()
    turns = []
    for _ in tqdm(range(repeats), disable=None, leave=False):
        turns.append(turn())
        if time.perf_counter() - start > budget:
            break
    return np.array(turns)


def seconds(function: Callable[[], object], device: torch.device | None = None) -> float:
    """How long it took; a GPU is waited for."""
    wait = torch.cuda.synchronize if device is not None and device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def relative_difference(some: Sequence[Sequence[Tensor]], others: Sequence[Sequence[Tensor]]) -> float:
    """The largest |a - b| / |b| over the parts of two results; inf where shapes differ."""
    return max(_difference(a, b) for a, b in zip(some, others, strict=True))


def _difference(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    if [a.shape for a in some] != [b.shape for b in others]:
        return float("inf")
    a, b = (torch.cat([tensor.double().flatten() for tensor in tensors]) for tensors in (some, others))
    error, size = float((a - b).norm()), float(b.norm())
    return (error / size if size else float("inf")) if error else 0.0


def _kept(result: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    return [[tensor.detach().cpu().clone() for tensor in part] for part in result]


def alone(function: Callable[[], T]) -> T:
    """Call it in a process of its own, in which the libraries are loaded and nothing has run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    with ProcessPoolExecutor(1, context, torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.submit(function).result()


def memory(what: str) -> float:
    """MB of this process, from /proc: VmRSS is what it has, VmHWM the most it ever had."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(what)).split()[1]) / 1024


def peak(prepare: Callable[[], Run], device: torch.device) -> float | None:
    """MB that a run adds; the first one loads libraries and loops, and makes what stays (an optimiser's state)."""
    run = prepare()
    run()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        allocated = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - allocated) / 2**20
    if not Path("/proc/self/clear_refs").exists():
        return None
    give_back_freed_memory()  # or it would count as had before
    Path("/proc/self/clear_refs").write_text("5")  # the most it ever had is what it has now
    before = memory("VmRSS")
    run()
    return memory("VmHWM") - before


class Options(NamedTuple):
    """What every benchmark is told."""

    repeats: int
    seed: int
    device: torch.device
    out: Path | None


def make_parser(name: str, description: str | None, repeats: int) -> Parser:
    """A parser with the flags that all have."""
    parser = Parser(prog=f"python -m benchmarks.{name}", description=(description or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=repeats, help="timed turns (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data and weights (default %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    parser.add_argument("--out", type=Path, help="file to write the tables to as well, in Markdown")
    return parser


def read_options(arguments: Any) -> Options:
    """The flags of :func:`make_parser`.

    Raises:
        InputError: there is no such device, or nothing to repeat.
    """
    if arguments.repeats < 1:
        raise InputError("--repeats must be at least 1")
    return Options(arguments.repeats, arguments.seed, find_device(arguments.device), arguments.out)


def machine(options: Options) -> str:
    """Processor, cores, versions, threads and seed, in one line."""
    model = platform.processor() or platform.machine()
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    if options.device.type == "cuda":
        model = f"{torch.cuda.get_device_name(options.device)}; {model}"
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    threads = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{model}, {threads}; {versions}; seed {options.seed}; medians of {options.repeats} interleaved turns"


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:
        return "none"


def report(tables: dict[str, list[Outcome]], options: Options) -> None:
    """Print the tables, by title, and write them to `options.out`.

    Raises:
        SystemExit: with code 1, the results of a pair are further apart than their limit.
    """
    caption, markdown = machine(options), []
    console = Console(width=None if sys.stdout.isatty() else 120)
    for title, outcomes in tables.items():
        names, rows = _cells(outcomes)
        table = Table(names[0], title=title)
        for name in names[1:]:
            table.add_column(name, justify="right")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        lines = [names, ["---", *("---:" for _ in names[1:])], *rows]
        markdown += [f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in lines), ""]
    console.print(caption, highlight=False)
    if options.out is not None:
        options.out.write_text("\n".join([*markdown, f"{caption}.", ""]))
    failures = [(title, outcome) for title, outcomes in tables.items() for outcome in outcomes if outcome.failed]
    for title, (case, *_, difference, _notes) in failures:
        print(
            f"{title}: {case.name} differs from {case.same_as} by {difference:.1e}, more than {case.limit:.0e}.",
            file=sys.stderr,
        )
    if failures:
        raise SystemExit(1)


def _cells(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the rows."""
    notes = list(dict.fromkeys(name for outcome in outcomes for name in outcome.notes))
    names = ["", "ms (quartiles)", "ratio", "peak MB", "difference (limit)", *notes]
    return names, [[*_row(outcome), *(outcome.notes.get(name, "") for name in notes)] for outcome in outcomes]


def _row(outcome: Outcome) -> list[str]:
    case, ratio, peak, difference = outcome.case, outcome.ratio, outcome.peak, outcome.difference
    low, middle, high = (
        f"{ms:.{2 - (ms >= 10) - (ms >= 1000)}f}" for ms in 1e3 * np.percentile(outcome.seconds, (25, 50, 75))
    )
    apart = "" if difference is None else f"{difference:.0e}" if difference else "0"
    limit = "" if case.limit is None else f" ({case.limit:.0e})"
    return [
        case.name,
        f"{middle} ({low} to {high})",
        f"{ratio:.2f}",
        "" if peak is None else f"{peak:.0f}",
        apart + limit,
    ]
