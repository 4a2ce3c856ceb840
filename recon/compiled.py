"""Loops over CPU tensors, compiled by numba on first use; each has a plain form in torch, which is its truth.

Without numba, or with ``RECON_KERNELS=0`` in the environment, the plain forms run.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

Loop = Callable[..., None]

_here = threading.local()


def compiles() -> bool:
    """Whether loops are compiled: numba is installed, and nobody switched them off."""
    return not switched_off() and os.environ.get("RECON_KERNELS") != "0" and _has_numba()


def switched_off() -> bool:
    """Whether :func:`use_kernels` has switched the kernels off in this thread."""
    return getattr(_here, "switched_off", False)


def is_transformed(x: Tensor) -> bool:
    """Whether torch transforms what runs: torch.func (vmap, grad, jvp ...), forward-mode or mapped differentiation.

    These go through torch's own operators, and pass by a loop or an operator of ours, some without a word.
    """
    transforms = torch._C._functorch
    return (
        forward_ad._current_level >= 0
        or transforms.maybe_current_level() is not None
        or transforms.is_legacy_batchedtensor(x)  # by torch.autograd.grad(is_grads_batched=True)
    )


def runs_eagerly(x: Tensor) -> bool:
    """Whether torch runs what it is told at once, so that the values of a tensor may decide what comes next.

    It does not where :func:`is_transformed`, nor where it records for other inputs: torch.compile, torch.export and
    torch.jit.trace.
    """
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed(x))


@contextmanager
def use_kernels(use: bool) -> Iterator[None]:
    """Run the compiled loops or the plain forms, in this thread and until the end of the block.

    Args:
        use: False for the plain forms; True for the loops, where there are any.
    """
    before = switched_off()
    _here.switched_off = not use
    try:
        yield
    finally:
        _here.switched_off = before


@cache
def _has_numba() -> bool:
    """Whether numba can be imported; says once where it cannot."""
    found = importlib.util.find_spec("numba") is not None
    if found:
        try:
            import numba  # noqa: F401
        except ImportError:
            found = False
    if not found:
        print("numba cannot be imported: plain torch computes the same, more slowly", file=sys.stderr, flush=True)
    return found


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
    except Exception:  # no cache folder can be written, its disk is full, a file in it is broken
        return njit(f"void({arguments})", **settings)(named)


def share_out(loop: Callable[[int, int], None], n: int, work: int, least: int = 2**16) -> None:
    """Run ``loop(start, stop)`` over 0 to n in as many parts as torch has threads.

    Where torch runs on GNU's OpenMP the threads are its own: others would fight with them for the cores, since they
    spin for a while after each operator. Elsewhere they are Python's.

    Args:
        loop: releases the GIL.
        n: how many independent pieces there are.
        work: numbers to go through in all; few are not worth a second thread.
        least: numbers for each thread.
    """
    n_threads = min(torch.get_num_threads(), n, max(1, work // least))
    if n_threads < 2:
        loop(0, n)
        return
    bounds = list(pairwise([n * part // n_threads for part in range(n_threads + 1)]))
    openmp = _openmp()
    if openmp is None:
        for done in [_pool(os.getpid(), n_threads).submit(loop, *part) for part in bounds]:
            done.result()
        return
    failed: list[BaseException] = []

    def run_part(_: object) -> None:
        try:
            for part in bounds[openmp.omp_get_thread_num() :: openmp.omp_get_num_threads()]:
                loop(*part)
        except BaseException as error:  # it must not leave through C
            failed.append(error)

    openmp.GOMP_parallel(_CALLBACK(run_part), None, n_threads, 0)
    if failed:
        raise failed[0]


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> ctypes.CDLL | None:
    """GNU's OpenMP if torch has loaded it into this process, else None."""
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD) if hasattr(os, "RTLD_NOLOAD") else None
    except OSError:
        return None


@cache
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """Threads for a process; one that forked gets its own."""
    return ThreadPoolExecutor(n_threads)
