"""Model-based deep learning: data consistency by conjugate gradients, at constant memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.networks.complex_images import (
    ComplexUNet,
    maps_estimate,
    measurement,
    smooth_phase,
    start_small,
    total_stride,
)
from recon.physics.conjugate_gradients import conjugate_gradients


class MoDL(nn.Module):
    """Alternates a regulariser with data consistency: x <- (A^H A + lambda)^-1 (A^H y + lambda R(x)), from x = A^H y.

    The equation is solved by a fixed number of conjugate-gradient steps: a tolerance could end at another step for a
    moved object. The gradient solves the same equation once more, so that memory does not grow with the steps.

    Equivariant as :class:`recon.networks.VarNet` is.

    Args:
        n_cascades: steps.
        n_cg_steps: of each solution.
        widths: channels of each level of the regulariser, from the image down.
        maps_widths: the same of the network that estimates the coil maps; None for one coil.
        maps: where those of several coils come from: see :class:`recon.networks.VarNet`.
        shared: whether all cascades have the same weights.
        residual: R adds its input to its output, so that it is near 1 at first.
        phase_correction: see :class:`recon.networks.VarNet`.
        settings: sampling (stride, lpf, aps, lps or alias_free) and more of all the U-Nets; norm is instance and
            activation leakyrelu unless given.

    Raises:
        InputError: fewer than one cascade or step, unknown maps, or what the U-Net refuses.

    Source: Aggarwal, Mani and Jacob, IEEE Transactions on Medical Imaging 38 (2019), arXiv 1712.02862.
    """

    def __init__(
        self,
        n_cascades: int = 8,
        n_cg_steps: int = 10,
        widths: Sequence[int] = (32, 64, 128, 256),
        maps_widths: Sequence[int] | None = (8, 16, 32, 64, 128),
        maps: str = "learned",
        shared: bool = True,
        residual: bool = True,
        phase_correction: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__()
        if n_cascades < 1 or n_cg_steps < 1:
            raise InputError(f"n_cascades {n_cascades} and n_cg_steps {n_cg_steps} leave nothing to do: give 1 or more")
        self.n_cascades, self.n_cg_steps = n_cascades, n_cg_steps
        n_regularisers = 1 if shared else n_cascades
        self.residual, self.phase_correction = residual, phase_correction
        self.band_limited = settings.get("sampling") == "alias_free"
        unets = (
            ComplexUNet(widths=widths, jointly=phase_correction, correction=residual, **settings)
            for _ in range(n_regularisers)
        )
        self.regularisers = start_small(nn.ModuleList(unets))
        self.log_weight = nn.Parameter(torch.tensor(-3.0))
        self.coil_maps = maps_estimate(maps, maps_widths, settings | {"residual": residual})

    @property
    def total_stride(self) -> int:
        """Of the U-Nets: each side of k-space must be a multiple of it."""
        return total_stride(self)

    def forward(self, kspace: Tensor, mask: Tensor, maps: Tensor | None = None) -> Tensor:
        """Reconstruct; arguments, result and errors are those of :meth:`recon.networks.VarNet.forward`."""
        operator = measurement(kspace, mask, maps, self.coil_maps)
        phase = smooth_phase(kspace, operator, self.band_limited) if self.phase_correction else None
        weight = self.log_weight.exp()
        x = start = operator.adjoint(kspace)
        for cascade in range(self.n_cascades):
            regularised = self.regularisers[cascade % len(self.regularisers)](x, phase)
            right = start + weight * (x + regularised if self.residual else regularised)
            x = solve(lambda z: operator.normal(z) + weight * z, right, self.n_cg_steps)
        return x


def solve(normal: Callable[[Tensor], Tensor], right: Tensor, n_steps: int) -> Tensor:
    """Solve N z = b for a Hermitian positive definite N by conjugate gradients.

    Differentiable in b and in whatever N holds: dz = N^-1 (db - dN z), solved by as many steps.

    Args:
        normal: N, from complex ``(batch, *spatial)`` to the same.
        right: b, complex ``(batch, *spatial)``; each sample is a system of its own.
        n_steps: a fixed number.

    Returns:
        z, the shape of ``right``.
    """
    with torch.no_grad():
        solution = conjugate_gradients(normal, right, n_steps)
    return _Implicit.apply(right - normal(solution), solution, lambda grad: conjugate_gradients(normal, grad, n_steps))


class _Implicit(torch.autograd.Function):
    """z of N z = b, given the residual b - N z, through which the derivative goes."""

    @staticmethod
    def forward(ctx: Any, residual: Tensor, solution: Tensor, inverse: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.inverse = inverse
        return solution.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        with torch.no_grad():
            return ctx.inverse(grad), None, None
