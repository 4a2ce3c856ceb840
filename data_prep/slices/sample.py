"""One slice as a sample, and what MRI and CT alike do with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_prep.slices.seeds import generator
from recon.errors import InputError
from recon.physics.mri import move_object

EPS = 1e-11  # fastMRI's: added to the standard deviation
NO_KSPACE, NO_MASK = torch.empty(0, dtype=torch.complex64), torch.empty(0, dtype=torch.bool)
NO_SINOGRAM, NO_SCAN = torch.empty(0), torch.empty(0, dtype=torch.float64)
NO_MAPS = NO_KSPACE


class Sample(NamedTuple):
    """One slice, as PyTorch's default collation can batch it.

    A network's output y means the image y * std + mean, which is compared with `target`.

    Attributes:
        image: (1, rows, columns) float32: the network's input, not clamped. MRI: (x - mean) / std of the magnitude x
            of the zero-filled image. CT: the filtered back-projection / std.
        target: (1, rows, columns) float32 in the file's units, not normalised; (1, 0, 0) where there is none.
        mean: 0-d float32, in the file's units. MRI: mean of the input slice x. CT: 0.
        std: 0-d float32, in the file's units. MRI: standard deviation (n - 1) of x, plus 1e-11. CT: 1/16.
        data_range: 0-d float32: R of PSNR and SSIM; 0 where there is no target. MRI: target.max() of the whole
            volume. CT: target.max() - target.min() of the image.
        volume: 0-d int64: index into the data set's `volumes`.
        slice: 0-d int64: slice within the volume.
        kspace: MRI, for a network that needs the measurement: (coils, rows, columns) complex64, the whole matrix / std,
            0 where it was not measured. The image is then that of the whole matrix, and the target keeps its own size,
            which is the image's centre. Empty, (0,), for a network of images.
        mask: (columns,) bool, True where k-space was measured; empty where k-space is.
        sinogram: CT, for a network that needs the measurement: (angles, detectors) float32, line integrals in metres of
            the file's unit / std. Empty, (0,), for a network of images.
        scan: what the sinogram is of, float64, as `data_prep.Scan` reads it; empty where the sinogram is.
        maps: MRI, for a network that takes the file's coil maps: (coils, rows, columns) complex64; else empty.
    """

    image: Tensor
    target: Tensor
    mean: Tensor
    std: Tensor
    data_range: Tensor
    volume: Tensor
    slice: Tensor
    kspace: Tensor = NO_KSPACE
    mask: Tensor = NO_MASK
    sinogram: Tensor = NO_SINOGRAM
    scan: Tensor = NO_SCAN
    maps: Tensor = NO_MAPS


def normalise(image: Tensor) -> tuple[Tensor, float, float]:
    """Make an image a network's input: (x - mean(x)) / (std(x) + 1e-11), std with n - 1.

    The statistics are NumPy's: PyTorch's sum depends on the number of threads in its last bit, and that number
    differs between the main process and a loader's worker. Each row is summed in float32, the rows in float64.

    Args:
        image: (rows, columns) float32, on the CPU, at least two pixels.

    Returns:
        The input (1, rows, columns) float32, not clamped; mean(x); std(x) + 1e-11. Both numbers are float32 values
        in the image's units.

    Source: fastMRI's U-Net transform, arXiv 1811.08839, section 5.
    """
    n = image.numel()
    mean = float(np.float32(image.numpy().sum(1).sum(dtype=np.float64) / n))
    image = image - mean
    squares = np.einsum("ij,ij->i", image.numpy(), image.numpy()).sum(dtype=np.float64)
    std = float(np.float32(np.sqrt(squares / (n - 1)) + EPS))
    return image.div_(std)[None], mean, std


def check_sizes(image_size: Sequence[int] | None, max_shift: int) -> tuple[int, int] | None:
    """Return image_size as two whole numbers, or None for None.

    Raises:
        InputError: image_size is not two numbers above 0, or max_shift is negative.
    """
    if max_shift < 0:
        raise InputError(f"max_shift is {max_shift}: give 0 (no shifts) or a number of pixels.")
    if image_size is None:
        return None
    if len(image_size) != 2 or min(image_size) < 1:
        raise InputError(f"image_size is {list(image_size)}: give two whole numbers, rows and columns.")
    return int(image_size[0]), int(image_size[1])


def roll_together(sample: Sample, max_shift: int, *draw: int | str) -> Sample:
    """Roll image, k-space's object and target circularly by one vector drawn from [-max_shift, max_shift]^2, in pixels.

    Coils move along with the object, and so do the maps.

    Args:
        sample: in training.
        max_shift: 0 leaves it as it is.
        draw: what the vector is a function of: seed, epoch, file name and slice.
    """
    if not max_shift:
        return sample
    shift = draw_shift(max_shift, *draw)
    image, target = (torch.roll(part, shift, (-2, -1)) for part in (sample.image, sample.target))
    kspace = move_object(sample.kspace, shift) if sample.kspace.numel() else sample.kspace
    maps = torch.roll(sample.maps, shift, (-2, -1)) if sample.maps.numel() else sample.maps
    return sample._replace(image=image, target=target, kspace=kspace, maps=maps)


def draw_shift(max_shift: int, *draw: int | str) -> list[int]:
    """Draw the vector of :func:`roll_together`."""
    shift: list[int] = generator("shift", *draw).integers(-max_shift, max_shift, size=2, endpoint=True).tolist()
    return shift
