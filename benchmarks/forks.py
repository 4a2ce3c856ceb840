"""What a process needs so that its forks can run commands: no threads, no GPU, a cache of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm


@contextmanager
def ready_to_fork(cache: Path) -> Iterator[None]:
    """One thread, no GPU (a fork cannot use its parent's), `cache` for derived files; then all as before."""
    names = ("CUDA_VISIBLE_DEVICES", "RECON_CACHE")
    before, n_threads, interval = (
        {name: os.environ.get(name) for name in names},
        torch.get_num_threads(),
        tqdm.monitor_interval,
    )
    os.environ.update(zip(names, ("", str(cache)), strict=True))
    torch.set_num_threads(1)
    tqdm.monitor_interval = 0
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        torch.set_num_threads(n_threads)
        tqdm.monitor_interval = interval
