"""Learned gradient descent for CT: sinograms inside the network, and regularisers that commute with every shift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from recon.networks.complex_images import start_small
from recon.networks.rays import Rays, check_counts, low_pass
from recon.networks.unet import UNet
from recon.physics.geometry import CTGeometry


class Measurement(Protocol):
    """What an unrolled network needs of a measurement."""

    def gradient(self, image: Tensor) -> Tensor:
        """What an image leaves unexplained, as an image; see :meth:`recon.networks.rays.Rays.gradient`."""


class UnrolledCT(nn.Module):
    """Unrolled gradient descent on what the rays leave unexplained, with U-Nets; a sinogram and its FBP to an image.

    x_0 = L b is the filtered back-projection b, low-passed (:func:`recon.networks.rays.low_pass`), and
    x <- x - eta_t g - R_t(x, g, b - x_0) with g = pi A^T F W (A x - y) / A^T W 1: the ray transform A, its exact
    adjoint, the ramp filter F as preconditioner, and weights W = exp(-A x) of the rays
    (:meth:`recon.networks.rays.Rays.gradient`). R_t is a U-Net on the three images. eta_t is learned.

    b is best filtered by the window hann up to Nyquist: what the low-pass takes away, fine structures and most of the
    noise, is a plane of its own, and x_0 is LoDoPaB's baseline.

    With sampling aps, circular padding and eval mode R_t commutes with shifts by whole pixels, and so does the whole
    with every A whose A^T F A does. The ray transform's does not quite: where the object moves by whole pixels, its
    projections move by fractions of a detector, so that the chain is as equivariant as the projector's own
    discretisation lets it be.

    Args:
        n_cascades: steps, each with weights of its own.
        angle_bin: neighbouring angles that are averaged to one inside the network; 1 takes them as they are.
        widths: channels of each level of the regularisers, from the image down.
        settings: sampling (stride, lpf, aps or lps), blur and more of all the U-Nets; norm is instance and activation
            leakyrelu unless given.

    Raises:
        InputError: fewer than one cascade or angle, or what the U-Net refuses.

    Source: Adler and Oktem, Inverse Problems 33 (2017), arXiv 1704.04058, which hands the gradient to the network;
    the weights: Sauer and Bouman, IEEE Transactions on Signal Processing 41 (1993).
    """

    def __init__(
        self, n_cascades: int = 4, angle_bin: int = 1, widths: Sequence[int] = (16, 32, 64, 128, 256), **settings: Any
    ) -> None:
        super().__init__()
        check_counts("n_cascades", n_cascades, angle_bin)
        self.angle_bin = angle_bin
        self.regularisers = start_small(nn.ModuleList(Regulariser(widths, **settings) for _ in range(n_cascades)))
        self.steps = nn.Parameter(torch.full((n_cascades,), 0.25))

    @property
    def total_stride(self) -> int:
        """Of the U-Nets: each side of the image must be a multiple of it."""
        return max(module.total_stride for module in self.modules() if isinstance(module, UNet))

    def forward(self, sinogram: Tensor, geometry: CTGeometry, start: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            sinogram: line integrals without unit, ``(batch, angles, detectors)``.
            geometry: of the scan, with the image's grid.
            start: b in 1/m, ``(batch, 1, rows, columns)``, whose sides are multiples of the total stride.

        Returns:
            The image in 1/m, ``(batch, 1, rows, columns)``.

        Raises:
            InputError: a side, the sinogram or the image does not fit, or angle_bin does not divide the angles.
        """
        return self.unroll(Rays(sinogram, geometry, self.angle_bin), start)

    def unroll(self, rays: Measurement, start: Tensor) -> Tensor:
        """All cascades, from b on, with any measurement that tells the gradient of an image."""
        x = low_pass(start)
        detail = start - x
        for eta, regulariser in zip(self.steps, self.regularisers, strict=True):
            gradient = rays.gradient(x)
            x = x - eta * gradient - regulariser(x, gradient, detail)
        return x


class Regulariser(nn.Module):
    """R(x, g, d): a U-Net on three images, each brought to mean 0, all in the deviation of x, and so is its output.

    Mean and deviation over the image are numbers that a shift does not change, so that R commutes with the shifts that
    the U-Net commutes with. g and d, some hundredths of x, are not brought to its size: they would bring their noise.
    """

    def __init__(self, widths: Sequence[int], sampling: str = "aps", blur: int | None = None, **settings: Any) -> None:
        super().__init__()
        usual: dict[str, Any] = {"norm": "instance", "activation": "leakyrelu"}
        self.network = UNet(
            in_channels=3, out_channels=1, widths=widths, sampling=sampling, blur=blur, **(usual | settings)
        )

    def forward(self, image: Tensor, gradient: Tensor, detail: Tensor) -> Tensor:
        """R of x, g and d, all ``(batch, 1, rows, columns)``, and the same."""
        planes = torch.cat([image, gradient, detail], 1)
        # sums in float64: the same for a shifted image, whose float32 sums would differ by their order
        mean = planes.double().mean((2, 3), keepdim=True).to(planes.dtype)
        deviation = image.double().std((2, 3), keepdim=True).to(planes.dtype).clamp_min(torch.finfo(planes.dtype).tiny)
        result: Tensor = self.network((planes - mean) / deviation) * deviation
        return result
