"""On which devices, and in what batches, networks are measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from pipelines.measuring.kind import AnyRun
from pipelines.runtime.arithmetic import exact_arithmetic
from recon.errors import InputError

LARGEST_BATCH = 256
WORTHWHILE = 1.05  # a batch twice as large must be so much faster per image


def find_devices(names: Sequence[str]) -> list[torch.device]:
    """The devices of these names; "auto" takes all GPUs, or the CPU where there are none.

    Raises:
        InputError: there is no such device.
    """
    if list(names) == ["auto"] and torch.cuda.device_count() > 1:
        names = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return [find_device(name) for name in names]


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" takes a GPU where there is one.

    Raises:
        InputError: there is no such device.
    """
    try:
        if name.partition(":")[0] not in ("auto", "cpu", "cuda"):
            raise RuntimeError(name)
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise InputError(f"there is no device {name!r} here: give cpu, or cuda where there is a GPU") from None
    return device


def fastest_batch(runs: Sequence[AnyRun], device: torch.device, cpu_batch: int) -> int:
    """How many images to run at once: a fixed number on a CPU, where more is not faster; measured on a GPU.

    The number doubles as long as that makes an image at least 5 % cheaper and memory lasts, with the largest network
    and its largest image.
    """
    if device.type == "cpu":
        return cpu_batch
    run = max(runs, key=lambda run: sum(p.numel() for p in run.task.network.parameters()))
    task = run.task.to(device)
    shapes = run.dataset.shapes
    sample = run.dataset[max(range(len(shapes)), key=lambda i: shapes[i][0] * shapes[i][1])]
    best, seconds, size = 1, float("inf"), 1
    with torch.inference_mode(), exact_arithmetic():
        while size <= LARGEST_BATCH:
            batch = sample._make(torch.stack([part.to(device)] * size) for part in sample)
            try:
                needed = _seconds(partial(task, batch), device) / size
            except torch.OutOfMemoryError:
                break
            if needed * WORTHWHILE > seconds:
                break
            best, seconds, size = size, needed, 2 * size
    run.task.to("cpu")
    torch.cuda.empty_cache()
    return best


def _seconds(run: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    run()
    torch.cuda.synchronize(device)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / repeats
