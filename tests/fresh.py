"""A process that nobody has trained in: torch does not train in the fork of one that has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.forks import ready_to_fork

_made: list[Any] = []


@contextmanager
def fresh_process(make: Callable[[Path], Any], folder: Path) -> Iterator[Callable[..., Any]]:
    """Give what calls ``function(made, *arguments)`` in such a process, where ``made`` is ``make(folder)``."""
    with ProcessPoolExecutor(1, get_context("spawn"), _start, (make, folder)) as pool:
        yield lambda function, *arguments: pool.submit(_call, function, *arguments).result()


def _start(make: Callable[[Path], Any], folder: Path) -> None:
    ready = ready_to_fork(folder / "cache")
    ready.__enter__()
    (folder / "work").mkdir()
    _made.extend((make(folder / "work"), ready))


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(_made[0], *arguments)
