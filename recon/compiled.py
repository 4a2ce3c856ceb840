"""Loops over CPU tensors, compiled by numba on first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

Loop = Callable[..., None]


def compiled(arguments: str) -> Callable[[Loop], Loop]:
    """Compile a loop for float32 and for float64 arrays, without the GIL, once per machine.

    Both at once and in this order, by which numba numbers the files of its cache: processes that compile at the same
    time then write the same ones. They lie in the loop's own ``__pycache__`` or, where that is read-only, in the
    user's cache folder. Threads are left to the caller, since numba's abort a process that forks or has threads
    itself; arithmetic is that of IEEE, in the order written.

    Args:
        arguments: numba's types of what the loop takes, with ``number`` for either dtype: ``"number[::1], int64"``.
    """
    signatures = [f"void({arguments.replace('number', dtype)})" for dtype in ("float32", "float64")]
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"}

    def compile_(function: Loop) -> Loop:
        try:
            return njit(signatures, cache=True, **settings)(function)
        except Exception:  # no cache folder can be written, its disk is full, a file in it is broken
            return njit(signatures, **settings)(function)

    return compile_
