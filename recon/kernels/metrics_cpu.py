"""The sums of the metrics on a CPU; their equations, and the reference form, are in :mod:`recon.metrics.quality`.

A loop goes over an image once and keeps a few rows, where torch itself would write whole images in float64. One thread
sums a slice, in one order: its numbers depend neither on the batch nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from recon.kernels.runner import compiled, parallel_for

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
    """Call a loop with arrays whose first axis is the slices', a part of them in each of torch's threads."""
    n_pixels = arrays[0].size
    parallel_for(lambda a, b: kernel(*(array[a:b] for array in arrays)), len(arrays[0]), n_pixels, THREAD_PIXELS)


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
    """The sums over rows run along: the new row is added, the one that leaves the window subtracted."""
    n_slices, n_rows, n_columns = preds.shape
    width = n_columns - 6
    maps = np.empty((4, n_columns))  # of a = p + g - 2 o, b = p - g, a^2 and b^2, the sums over seven rows
    pairs = np.empty((4, n_columns))  # and of columns x and x + 1 of these
    line, line_pairs = maps.reshape(4 * n_columns), pairs.reshape(4 * n_columns)
    (a1, b1, aa1, bb1), (a2, b2, aa2, bb2) = maps, pairs
    columns = np.empty(width)
    for s in range(n_slices):
        c1, c2 = constants[s]
        twice_origin = 2 * np.float64(target[s, 0, 0])
        maps[:], columns[:], out[s] = 0, 0, 0
        for y in range(n_rows):
            if y < 7:
                for x in range(n_columns):
                    p, g = np.float64(preds[s, y, x]), np.float64(target[s, y, x])
                    a, b = p + g - twice_origin, p - g
                    a1[x] += a
                    b1[x] += b
                    aa1[x] += a * a
                    bb1[x] += b * b
            else:
                for x in range(n_columns):
                    p, g = np.float64(preds[s, y, x]), np.float64(target[s, y, x])
                    a, b = p + g - twice_origin, p - g
                    p, g = np.float64(preds[s, y - 7, x]), np.float64(target[s, y - 7, x])
                    old_a, old_b = p + g - twice_origin, p - g
                    a1[x] += a - old_a
                    b1[x] += b - old_b
                    aa1[x] += a * a - old_a * old_a
                    bb1[x] += b * b - old_b * old_b
            if y < 6:
                continue
            for x in range(4 * n_columns - 1):
                line_pairs[x] = line[x] + line[x + 1]  # those that cross from one map to the next are never used
            for x in range(width):
                sum_a = (a2[x] + a2[x + 2]) + (a2[x + 4] + a1[x + 6])
                sum_b = (b2[x] + b2[x + 2]) + (b2[x + 4] + b1[x + 6])
                sum_aa = (aa2[x] + aa2[x + 2]) + (aa2[x + 4] + aa1[x + 6])
                sum_bb = (bb2[x] + bb2[x + 2]) + (bb2[x + 4] + bb1[x + 6])
                spread_a, spread_b = 49 * sum_aa - sum_a * sum_a, 49 * sum_bb - sum_b * sum_b
                square_a, square_b = (sum_a + 49 * twice_origin) ** 2, sum_b * sum_b
                upper = (square_a - square_b + c1) * (spread_a - spread_b + c2)
                columns[x] += upper / ((square_a + square_b + c1) * (spread_a + spread_b + c2))
        for x in range(width):
            out[s] += columns[x] / ((n_rows - 6) * width)
