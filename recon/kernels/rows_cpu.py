"""What the loops over images in channels_last share: rows of pixels, whose channels lie side by side, and threads.

A row ``(columns * channel)`` is contiguous. Loops go over it in blocks of 8 pixels, whatever the number of channels, so
that the numbers of each channel are laid out once for a block, and vector instructions take several channels at once.
As in :mod:`recon.kernels.planes_cpu`, pixels are computed in the order written, and sums are float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from recon.kernels.runner import parallel_for

ROWS = "number[:, :, ::1]"
"""numba's type of ``(batch, rows, columns * channel)``."""

BLOCK = 8


def rows_of(x: Tensor) -> np.ndarray:
    """``(batch, channel, rows, columns)`` as ``(batch, rows, columns * channel)``, of the same memory if it can be."""
    return x.detach().permute(0, 2, 3, 1).contiguous().flatten(2).numpy()


def tile(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers of each channel, ``(..., channel)``, for a block of pixels: ``(..., BLOCK * channel)``."""
    return np.ascontiguousarray(np.tile(numbers, BLOCK).astype(dtype))


def run_over_rows(loop: Callable[..., None], batch: int, n_rows: int, work: int, *parts: object) -> None:
    """Call ``loop(*parts, start, stop)`` for parts of the rows of all samples, numbered through, in torch's threads."""
    parallel_for(lambda start, stop: loop(*parts, start, stop), batch * n_rows, work)
