"""Loops over arrays: compiled by numba where they are first called, and shared between torch's threads."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from types import FunctionType
from typing import Any

import numpy as np
import torch

Loop = Callable[..., None]


def compiled(arguments: str, dtypes: Sequence[str] = ("float32", "float64")) -> Callable[[Loop], Loop]:
    """Compile a loop without the GIL, for each dtype where it is first called with it, once per machine.

    Each dtype has a function of its own name, and so files of its own in numba's cache: processes that compile at the
    same time write the same ones. They lie in the loop's ``__pycache__`` or, where that is read-only, in the user's
    cache folder. Threads are left to the caller, since numba's abort a process that forks or has threads itself;
    arithmetic is that of IEEE, in the order written.

    Args:
        arguments: numba's types of what the loop takes, with ``number`` for the dtype: ``"number[::1], int64"``. The
            first one is an array of that dtype.
        dtypes: for which it can be called.
    """

    def compile_(loop: Loop) -> Loop:
        lock, found = threading.Lock(), dict[str, Loop]()

        @functools.wraps(loop)
        def call(first: np.ndarray, *rest: object) -> None:
            dtype = first.dtype.name
            if dtype not in found:
                with lock:
                    if dtype not in found:
                        assert dtype in dtypes
                        found[dtype] = _compile(loop, arguments.replace("number", dtype), dtype)
            found[dtype](first, *rest)

        return call

    return compile_


def _compile(loop: Loop, arguments: str, dtype: str) -> Loop:
    from numba import njit

    assert isinstance(loop, FunctionType)
    named = FunctionType(loop.__code__, loop.__globals__, loop.__name__, loop.__defaults__, loop.__closure__)
    named.__qualname__, named.__module__ = f"{loop.__qualname__}_{dtype}", loop.__module__
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(f"void({arguments})", cache=True, **settings)(named)
    except Exception:  # the cache cannot be used: it is read-only, its disk is full, a file in it is broken
        return njit(f"void({arguments})", **settings)(named)


def parallel_for(loop: Callable[[int, int], None], n: int, work: int, work_per_thread: int = 2**16) -> None:
    """Call ``loop(start, stop)`` for consecutive parts of 0 to n, one part in each of torch's threads.

    There are ``torch.get_num_threads()`` parts, or fewer where there is little to do. The threads are OpenMP's own if
    torch has loaded GNU's OpenMP: they spin for a while after each operator, and other threads would compete with them
    for the cores. Otherwise they are Python's.

    Args:
        loop: it releases the GIL.
        n: how many independent pieces there are.
        work: how many numbers all pieces have together.
        work_per_thread: no thread is started for fewer numbers than these.
    """
    n_threads = min(torch.get_num_threads(), n, max(1, work // work_per_thread))
    if n_threads < 2:
        loop(0, n)
        return
    bounds = list(pairwise([n * part // n_threads for part in range(n_threads + 1)]))
    openmp = _openmp()
    if openmp is None:
        for done in [_threads(os.getpid(), n_threads).submit(loop, *part) for part in bounds]:
            done.result()
        return
    failed: list[BaseException] = []

    def run_part(_: object) -> None:
        try:
            for part in bounds[openmp.omp_get_thread_num() :: openmp.omp_get_num_threads()]:
                loop(*part)
        except BaseException as error:  # an exception must not pass through C
            failed.append(error)

    openmp.GOMP_parallel(_CALLBACK(run_part), None, n_threads, 0)
    if failed:
        raise failed[0]


def run_jobs(function: Callable[..., object], jobs: Iterable[tuple[Any, ...]]) -> None:
    """Call ``function(*job)`` for each job, in as many threads as torch has.

    They are Python's own, started anew: unlike OpenMP's they may be started from several threads at once and in a
    data-loading worker that was forked, and do not spin while they wait. For work that takes milliseconds.

    Args:
        function: it releases the GIL.
        jobs: each is the arguments of one call; a free thread takes the next.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        for job in jobs:
            function(*job)
    else:
        with ThreadPoolExecutor(n_threads) as threads:
            list(threads.map(lambda job: function(*job), jobs))


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP if torch has loaded it into this process, else None."""
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD) if hasattr(os, "RTLD_NOLOAD") else None
    except OSError:
        return None


@cache
def _threads(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads for a process; one that forked gets its own."""
    return ThreadPoolExecutor(n_threads)
