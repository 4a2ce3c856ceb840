"""Learned primal-dual reconstruction: the CT network that people know; its convolutions over angles do not commute."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.networks.rays import Rays, check_counts
from recon.physics.geometry import CTGeometry


class PrimalDual(nn.Module):
    """Learned primal-dual: small networks take turns on sinograms and on images; a sinogram and its FBP to an image.

    h <- h + D_t(h, A x_2, y) and x <- x + P_t(x, A^T h_1), with memories x of n_primal images, the first of which is
    the result and all of which start from the filtered back-projection, and h of n_dual sinograms, which start from 0.
    D_t and P_t are three 3 x 3 convolutions. A is divided by its norm, images and sinograms by the standard deviation
    of the back-projection.

    A movement of the object moves what each angle sees by another distance along the detectors. So a convolution over
    angles and detectors commutes with none, and neither does this network.

    Args:
        n_iterations: steps, each with weights of its own.
        n_primal: images that are remembered, 2 at least.
        n_dual: sinograms that are remembered.
        width: channels between the convolutions.
        angle_bin: neighbouring angles that are averaged to one inside the network; 1 takes them as they are.

    Raises:
        InputError: a number is too small.

    Source: Adler and Oktem, IEEE Transactions on Medical Imaging 37 (2018), arXiv 1707.06474.
    """

    total_stride = 1

    def __init__(
        self, n_iterations: int = 10, n_primal: int = 5, n_dual: int = 5, width: int = 32, angle_bin: int = 1
    ) -> None:
        super().__init__()
        check_counts("n_iterations", n_iterations, angle_bin)
        if n_primal < 2 or n_dual < 1 or width < 1:
            raise InputError(
                f"n_primal {n_primal}, n_dual {n_dual} and width {width} make no network: give at least 2, 1 and 1"
            )
        self.n_primal, self.n_dual, self.angle_bin = n_primal, n_dual, angle_bin
        self.dual = nn.ModuleList(_block(n_dual + 2, width, n_dual, "zeros") for _ in range(n_iterations))
        self.primal = nn.ModuleList(_block(n_primal + 1, width, n_primal, "circular") for _ in range(n_iterations))

    def forward(self, sinogram: Tensor, geometry: CTGeometry, start: Tensor) -> Tensor:
        """Reconstruct; arguments, result and errors are those of :meth:`UnrolledCT.forward`, for any sides."""
        rays = Rays(sinogram, geometry, self.angle_bin)
        unit = start.double().std((1, 2, 3), keepdim=True).to(start.dtype).clamp_min(torch.finfo(start.dtype).tiny)
        x = (start / unit).expand(-1, self.n_primal, -1, -1)
        y = rays.measured[:, None] / (unit * rays.norm)
        h = torch.zeros_like(y).expand(-1, self.n_dual, -1, -1)
        for dual, primal in zip(self.dual, self.primal, strict=True):
            h = h + dual(torch.cat([h, rays.transform(x[:, 1:2]) / rays.norm, y], 1))
            x = x + primal(torch.cat([x, rays.transform.adjoint(h[:, :1]) / rays.norm], 1))
        return x[:, :1] * unit


def _block(n_in: int, width: int, n_out: int, padding: Literal["zeros", "circular"]) -> nn.Sequential:
    """Three convolutions; the last starts small, so that the first outputs are near what they are added to."""
    sizes = [(n_in, width), (width, width), (width, n_out)]
    convolutions = [nn.Conv2d(a, b, 3, padding=1, padding_mode=padding) for a, b in sizes]
    with torch.no_grad():
        convolutions[-1].weight.mul_(0.1)
        convolutions[-1].bias.zero_()  # type: ignore[union-attr]
    first, second, last = convolutions
    return nn.Sequential(first, nn.PReLU(width), second, nn.PReLU(width), last)
