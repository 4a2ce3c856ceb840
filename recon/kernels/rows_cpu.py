"""What the loops over images in channels_last share: rows of pixels, whose channels lie side by side, and threads.

A row ``(columns * channel)`` is contiguous. Loops go over it in blocks of some pixels, for which the numbers of each
channel are laid out once, so that vector instructions are filled whatever the number of channels. An inner loop writes
one array only: then the compiler can prove that it may take several numbers at once. As in
:mod:`recon.kernels.planes_cpu`, pixels are computed in the order written, and sums are float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from torch import Tensor

from recon.kernels.runner import parallel_for

ROWS = "number[:, :, ::1]"
"""numba's type of ``(batch, rows, columns * channel)``."""


def rows_of(x: Tensor) -> np.ndarray:
    """``(batch, channel, rows, columns)`` as ``(batch, rows, columns * channel)``, of the same memory if it can be."""
    return x.detach().permute(0, 2, 3, 1).contiguous().flatten(2).numpy()


def block_size(channels: int) -> int:
    """How many numbers a block has: those of an even number of pixels."""
    return 2 * channels * -(-256 // channels)


def tile(numbers: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Numbers of each channel, ``(..., channel)``, for a block of pixels."""
    channels = numbers.shape[-1]
    return np.tile(numbers.astype(dtype), block_size(channels) // channels)


def run_over_rows(loop: Callable[..., None], batch: int, n_rows: int, work: int, *parts: object) -> None:
    """Call ``loop(*parts, start, stop)`` for parts of the rows of all samples, numbered through, in torch's threads."""
    parallel_for(lambda start, stop: loop(*parts, start, stop), batch * n_rows, work)
