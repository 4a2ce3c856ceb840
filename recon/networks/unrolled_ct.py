"""Learned gradient descent for CT: sinograms inside the network, and regularisers that commute with every shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recon.networks.complex_images import start_small
from recon.networks.rays import Rays, check_counts
from recon.networks.unet import UNet
from recon.physics.geometry import ParallelBeam


class UnrolledCT(nn.Module):
    """Unrolled gradient descent on |A x - y|^2 whose regularisers are U-Nets; a sinogram and its FBP to an image.

    x_0 is the filtered back-projection, and x <- x - eta_t g - R_t(x, g) with g = A^T (A x - y) / |A|^2. A is the ray
    transform with its exact adjoint, and R_t a U-Net on the two images x and g. Step t takes every ``n_subsets``-th
    angle, from angle t on: that many times cheaper, as the ordered subsets of iterative reconstruction are.

    With sampling aps, circular padding and eval mode R_t commutes with shifts by whole pixels. A does not quite: the
    object moves by whole pixels, and its projections by fractions of a detector, so that the chain is as equivariant as
    the projector's own discretisation lets it be.

    Args:
        n_cascades: steps, each with weights of its own.
        n_subsets: 1 for all angles in each step; else a divisor of their number.
        widths: channels of each level of the regularisers, from the image down.
        settings: sampling (stride, lpf or aps) and more of all the U-Nets; norm is instance and activation leakyrelu
            unless given.

    Raises:
        InputError: fewer than one cascade or subset, or what the U-Net refuses.

    Source: Adler and Oktem, Inverse Problems 33 (2017), arXiv 1704.04058; ordered subsets: Hudson and Larkin, IEEE
    Transactions on Medical Imaging 13 (1994).
    """

    def __init__(
        self, n_cascades: int = 8, n_subsets: int = 1, widths: Sequence[int] = (16, 32, 64, 128, 256), **settings: Any
    ) -> None:
        super().__init__()
        check_counts(n_cascades, n_subsets)
        self.n_subsets = n_subsets
        self.regularisers = start_small(nn.ModuleList(Regulariser(widths, **settings) for _ in range(n_cascades)))
        self.steps = nn.Parameter(torch.ones(n_cascades))

    @property
    def total_stride(self) -> int:
        """Of the U-Nets: each side of the image must be a multiple of it."""
        return int(self.regularisers[0].network.total_stride)

    def forward(self, sinogram: Tensor, geometry: ParallelBeam, start: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            sinogram: line integrals in metres of the image's unit, ``(batch, angles, detectors)``.
            geometry: of the scan, with the image's grid.
            start: x_0, ``(batch, 1, rows, columns)``, whose sides are multiples of the total stride.

        Returns:
            The image ``(batch, 1, rows, columns)``.

        Raises:
            InputError: a side, the sinogram or the image does not fit, or the angles cannot be divided into subsets.
        """
        x = start
        for number, (eta, regulariser) in enumerate(zip(self.steps, self.regularisers, strict=True)):
            gradient = Rays(sinogram, geometry, number % self.n_subsets, self.n_subsets).gradient(x)
            x = x - eta * gradient - regulariser(x, gradient)
        return x


class Regulariser(nn.Module):
    """R(x, g): a U-Net on both images, each brought to mean 0 and deviation 1; its output in the deviation of x.

    A shift does not change mean and deviation over the image, so that R commutes with the shifts that the U-Net
    commutes with.
    """

    def __init__(self, widths: Sequence[int], sampling: str = "aps", blur: int | None = None, **settings: Any) -> None:
        super().__init__()
        usual: dict[str, Any] = {"norm": "instance", "activation": "leakyrelu"}
        self.network = UNet(
            in_channels=2, out_channels=1, widths=widths, sampling=sampling, blur=blur, **(usual | settings)
        )

    def forward(self, image: Tensor, gradient: Tensor) -> Tensor:
        """R of x and g, both ``(batch, 1, rows, columns)``, and the same."""
        planes = torch.cat([image, gradient], 1)
        exact = planes.double()  # the same for a shifted image, whose float32 sums would differ by their order
        mean = exact.mean((2, 3), keepdim=True).to(planes.dtype)
        deviation = exact.std((2, 3), keepdim=True).to(planes.dtype).clamp_min(torch.finfo(planes.dtype).tiny)
        result: Tensor = self.network((planes - mean) / deviation) * deviation[:, :1]
        return result
