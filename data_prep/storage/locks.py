"""Locks between processes, which end with the process that holds them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, wait: bool) -> Iterator[None]:
    """Hold the lock of a file or a folder while the block runs.

    Args:
        path: which is there.
        wait: until the process that holds the lock lets it go.

    Raises:
        BlockingIOError: another process holds it, and wait is False.
        OSError: it is not there, cannot be opened, or its file system has no locks.
        ImportError: the system has none (Windows).
    """
    import fcntl

    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
