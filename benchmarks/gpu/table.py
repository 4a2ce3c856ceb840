"""A section's table, and how a section runs: within its time, and in a process of its own on a GPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import NamedTuple

import torch

from benchmarks.gpu.forms import NETWORKS
from benchmarks.harness import LIBRARIES
from benchmarks.networks import WIDTHS

Value = float | int | str | None
GRACE = 10.0
"""Seconds after its time in which a section's process may still answer, before it is killed."""


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
        check: side of the images by which forms are compared; a multiple of 3 and of the networks' total strides.
        networks: that are compared, by name.
        exact: side of the photographs whose shifts are compared.
        widths: of the U-Nets through which they go.
        speed: side of the U-Nets' and layers' images.
        photograph: side of the ResNets' images.
        batch: of timed U-Nets.
        photographs: of timed ResNets.
        pairs: of an image and a shift, for each float32 network; a sixth of it in float64.
        repeats: timed turns, at most.
    """

    check: int
    networks: tuple[str, ...]
    exact: int
    widths: tuple[int, ...]
    speed: int
    photograph: int
    batch: int
    photographs: int
    pairs: int
    repeats: int


CUDA = Sizes(96, tuple(NETWORKS), 256, WIDTHS, 320, 224, batch=8, photographs=32, pairs=300, repeats=30)
CPU = Sizes(24, ("U-Net, aps", "CIFAR ResNet-20, aps"), 32, (4, 8), 32, 32, batch=2, photographs=1, pairs=4, repeats=1)


class Setting(NamedTuple):
    """Where, from which seed, and how much."""

    device: torch.device
    seed: int
    sizes: Sizes


class Skipped(Exception):
    """Raised by a section that has nothing to measure here; the message says why."""


class OutOfTime(BaseException):
    """Raised within a section whose time is over."""


@dataclass
class Table:
    """What a section found.

    Attributes:
        title: of the section.
        deadline: of the section, on the monotonic clock.
        rows: each row's values by column, by the row's name.
        remarks: sentences that stand below.
        faults: sentences, one for each check that did not hold.
        status: "ok", "cut" (its time was over), "skipped" or "FAILED" (an error ended it).
        seconds: that it took.
        kernels_to_torch: time of the U-Net's training step with Triton's kernels, by that with plain torch.
    """

    title: str
    deadline: float
    rows: dict[str, dict[str, Value]] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    status: str = "ok"
    seconds: float = 0.0
    kernels_to_torch: float | None = None

    @property
    def failed(self) -> bool:
        """Whether an error ended the section or a check did not hold."""
        return self.status == "FAILED" or bool(self.faults)

    def left(self) -> float:
        """Seconds that the section may still plan with."""
        return 0.9 * (self.deadline - time.monotonic())

    def add(self, row: str, **values: Value) -> None:
        """Fill a row's columns; underscores in their names are spaces."""
        named = {name.replace("_", " "): value for name, value in values.items()}
        self.rows.setdefault(row, {}).update(named)

    def check(self, row: str, column: str, value: float, limit: float) -> None:
        """Fill a cell that must not be above its limit."""
        self.add(row, **{column: value})
        if not value <= limit:
            self.faults.append(f"{row}: {column.replace('_', ' ')} is {value:.1e}, above {limit:.0e}")


class Section(NamedTuple):
    """What is measured under a title, and its share of the time."""

    title: str
    share: float
    measure: Callable[[Setting, Table], None]


def run_section(name: str, setting: Setting, deadline: float) -> Table:
    """Run a section in this process, until its deadline at most."""
    from benchmarks.gpu.sections import SECTIONS

    section, start = SECTIONS[name], time.monotonic()
    table = Table(section.title, deadline)
    try:
        with warnings.catch_warnings(), _alarm(deadline):
            warnings.filterwarnings("ignore", message=".*(deterministic|[Ss]ynchronization debug mode)")
            section.measure(setting, table)
    except OutOfTime:
        table.status = "cut"
        table.remarks.append(f"Cut: its {deadline - start:.0f} s were over; what is missing was not measured.")
    except Skipped as reason:
        table.status = "skipped"
        table.remarks.append(f"Skipped: {reason}.")
    except Exception as error:
        table.status = "FAILED"
        table.remarks.append(f"FAILED: {type(error).__name__}: {str(error).strip() or 'no message'}".split("\n")[0])
        traceback.print_exc()
    table.seconds = time.monotonic() - start
    return table


def run_apart(name: str, setting: Setting, deadline: float) -> Table:
    """Run a section in a process of its own; one that dies or does not answer in time has failed or is cut."""
    from benchmarks.gpu.sections import SECTIONS

    context, start = multiprocessing.get_context("forkserver"), time.monotonic()
    context.set_forkserver_preload([*LIBRARIES, "benchmarks.gpu.sections"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, name, setting, deadline))
    process.start()
    theirs.close()
    try:
        if ours.poll(max(0.0, deadline + GRACE - time.monotonic())):
            return ours.recv()
        end = "cut", "Cut: it did not answer in time and was ended."
    except EOFError:
        process.join()
        end = "FAILED", f"FAILED: its process died with exit code {process.exitcode}."
    finally:
        process.kill()
        process.join()
    return Table(SECTIONS[name].title, deadline, status=end[0], remarks=[end[1]], seconds=time.monotonic() - start)


def _answer(connection: Connection, name: str, setting: Setting, deadline: float) -> None:
    if setting.device.type == "cuda":
        torch.cuda.set_device(setting.device)
    connection.send(run_section(name, setting, deadline))


@contextmanager
def _alarm(deadline: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` in the block at the deadline, and again while something swallows it."""
    if threading.current_thread() is not threading.main_thread():  # signals come to the main one alone
        yield
        return

    def ring(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, deadline - time.monotonic()), 5)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def triton() -> Iterator[None]:
    """Within it the kernels on CUDA run, as with ``RECON_KERNELS=1``; a CPU's loops run anyhow."""
    before = os.environ.get("RECON_KERNELS")
    os.environ["RECON_KERNELS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["RECON_KERNELS"]
        else:
            os.environ["RECON_KERNELS"] = before
