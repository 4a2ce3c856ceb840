"""What the loops over images on a CPU share: planes, the images of all samples and channels, and threads over them.

Pixels are computed with IEEE's arithmetic in the order written, so that a pixel's value does not depend on where it
lies. Sums are float64, in an order that the compiler chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from recon.kernels.runner import parallel_for

PLANES = "number[:, :, ::1]"
"""numba's type of ``(batch * channel, rows, columns)``."""

Row = np.ndarray
Plane = np.ndarray


def planes_of(x: Tensor) -> np.ndarray:
    """``(batch, channel, rows, columns)`` as ``(batch * channel, rows, columns)``, of the same memory if it can be."""
    return x.detach().contiguous().view(-1, *x.shape[2:]).numpy()


def run_over_planes(loop: Callable[..., None], planes: Sequence[np.ndarray], *rest: object) -> None:
    """Call a loop with arrays whose first axis is the planes', a part of them in each thread; ``rest`` goes to all."""
    work = max(array.size for array in planes)
    parallel_for(lambda start, stop: loop(*(array[start:stop] for array in planes), *rest), len(planes[0]), work)
