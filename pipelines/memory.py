"""The memory of a process, where the C library is glibc; elsewhere these do nothing."""

from __future__ import annotations

import ctypes
from contextlib import suppress

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
