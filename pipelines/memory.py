"""The memory of a process."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt


def keep_freed_memory() -> None:
    """Let this process use again what it frees, where the C library is glibc; elsewhere do nothing.

    By default glibc gives every freed block of some size back to the system, which clears the pages of the next one
    anew: for the images of a network on a CPU that takes up to a half of a convolution's time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)
