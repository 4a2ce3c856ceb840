"""The metrics' sums over CPU images as compiled loops; the equations are those of :mod:`recon.metrics.quality`.

One pass with a few rows at hand, where whole images in float64 would each cross the memory. One thread sums a slice,
in one order: its numbers depend neither on the batch nor on the number of threads. Importing this module compiles it
once per machine (2 s).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from recon.compiled import compiled

THREAD_PIXELS = 2**19  # for each thread, 1 ms: less would not pay for starting it


def differences(preds: Tensor, target: Tensor) -> Tensor:
    """The sums of |g - p|^2 and of |g|^2 and the largest |g - p|, of each slice: float64 ``(slices, 3)``."""
    out = torch.empty(len(target), 3, dtype=torch.float64)
    _differences(*_images(preds, target), out.numpy())
    return out


def similarity(preds: Tensor, target: Tensor, constants: Tensor) -> Tensor:
    """The structural similarity of each slice, float64 ``(slices,)``, with the ``constants`` of ``_ssim_map``."""
    out = torch.empty(len(target), dtype=torch.float64)
    _run(_similarity, *_images(preds, target), constants.contiguous().numpy(), out.numpy())
    return out


def _images(*images: Tensor) -> list[np.ndarray]:
    """As arrays of one type that the loops are compiled for; no rounding."""
    dtype = torch.float32 if all(image.dtype == torch.float32 for image in images) else torch.float64
    return [image.to(dtype).contiguous().numpy(force=True) for image in images]


def _run(kernel: Callable[..., None], *arrays: np.ndarray) -> None:
    """Share the slices out among torch's number of threads."""
    n_threads = min(torch.get_num_threads(), len(arrays[0]), arrays[0].size // THREAD_PIXELS)
    if n_threads < 2:
        return kernel(*arrays)
    parts = [np.array_split(array, n_threads) for array in arrays]
    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(kernel, *parts))


@compiled("number[:, :, ::1], number[:, :, ::1], float64[:, ::1]")
def _differences(preds: np.ndarray, target: np.ndarray, out: np.ndarray) -> None:
    n_slices, n_rows, n_columns = preds.shape
    errors, energies, largest = np.empty(n_columns), np.empty(n_columns), np.empty(n_columns)
    for s in range(n_slices):
        errors[:], energies[:], largest[:], out[s] = 0, 0, 0, 0
        for y in range(n_rows):
            for x in range(n_columns):
                p, g = np.float64(preds[s, y, x]), np.float64(target[s, y, x])
                errors[x] += (p - g) * (p - g)
                energies[x] += g * g
                largest[x] = np.maximum(largest[x], abs(p - g))
        for x in range(n_columns):
            out[s, 0] += errors[x]
            out[s, 1] += energies[x]
            out[s, 2] = np.maximum(out[s, 2], largest[x])


@compiled("number[:, :, ::1], number[:, :, ::1], float64[:, ::1], float64[::1]")
def _similarity(preds: np.ndarray, target: np.ndarray, constants: np.ndarray, out: np.ndarray) -> None:
    """Each value of the map has the additions of the plain form in the same order, and is equal to it in every bit."""
    n_slices, n_rows, n_columns = preds.shape
    width, n_sums = n_columns - 6, 4 * n_columns - 6
    maps = np.empty((4, n_columns))  # one row of p, g, p g and p^2 + g^2, and then of their window sums
    line = maps.reshape(4 * n_columns)  # the same: the sums that cross from one map to the next are never used
    last = np.zeros(n_sums)  # the last row, summed along the columns
    pairs = np.zeros((6, n_sums))  # that of rows y and y + 1, in place y % 6
    columns = np.empty(width)
    for s in range(n_slices):
        c1, c2 = constants[s]
        columns[:], out[s] = 0, 0
        for y in range(n_rows):
            for x in range(n_columns):
                p, g = np.float64(preds[s, y, x]), np.float64(target[s, y, x])
                maps[0, x], maps[1, x], maps[2, x], maps[3, x] = p, g, p * g, p * p + g * g
            for x in range(n_sums):
                fours = (line[x] + line[x + 1]) + (line[x + 2] + line[x + 3])
                row = fours + (line[x + 4] + line[x + 5]) + line[x + 6]
                pairs[(y + 5) % 6, x] = last[x] + row
                last[x] = row
            if y < 6:
                continue
            for x in range(n_sums):
                fours = pairs[y % 6, x] + pairs[(y + 2) % 6, x]
                line[x] = fours + pairs[(y + 4) % 6, x] + last[x]
            for x in range(width):
                sum_p, sum_g = maps[0, x], maps[1, x]
                products, squares = 2 * sum_p * sum_g, sum_p * sum_p + sum_g * sum_g
                covariance = 98 * maps[2, x] - products
                variances = 49 * maps[3, x] - squares
                columns[x] += (products + c1) * (covariance + c2) / ((squares + c1) * (variances + c2))
        for x in range(width):
            out[s] += columns[x] / ((n_rows - 6) * width)
