"""The memory of a process: what it has, and (where the C library is glibc) what becomes of what it frees."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress
from pathlib import Path

from torch import nn

from recon.errors import InputError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt
_OTHER_LIBRARY = (AttributeError, OSError, TypeError)


def keep_freed_memory() -> None:
    """Let this process use again what it frees.

    By default glibc gives every freed block of some size back to the system, which clears the pages of the next one
    anew: for the images of a network on a CPU that takes up to a half of a convolution's time.
    """
    with suppress(*_OTHER_LIBRARY):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)


def give_back_freed_memory() -> None:
    """Give what this process has freed so far back to the system."""
    with suppress(*_OTHER_LIBRARY):
        ctypes.CDLL(None).malloc_trim(0)


def total_memory() -> int:
    """The memory that this process may have, in bytes: the machine's, or its container's where that is less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            found.append(int(Path(path).read_text()))
    return min(found)


def check_memory(network: nn.Module, n_copies: int) -> None:
    """Refuse a network that this machine has no room for, before it is made.

    Args:
        network: on the meta device.
        n_copies: of each weight that a training keeps: itself, its gradient, the optimizer's moments.

    Raises:
        InputError: says how much it takes, and how much there is.
    """
    n_parameters = sum(weight.numel() for weight in network.parameters())
    needed, there = n_parameters * n_copies * 4, total_memory()
    if needed > there:
        raise InputError(
            f"the network has {n_parameters:,} parameters, and training them takes at least {needed / 2**30:,.0f} GiB "
            f"of memory where there are {there / 2**30:,.0f}: give a smaller network"
        )
