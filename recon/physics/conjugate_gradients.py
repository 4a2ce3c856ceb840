"""Conjugate gradients, and the classical reconstruction of several coils by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recon.physics.mri import FourierOperator

WEIGHT, N_STEPS = 0.005, 15  # near the best PSNR on the bundled sample's training and validation subjects


def conjugate_gradients(normal: Callable[[Tensor], Tensor], right: Tensor, n_steps: int) -> Tensor:
    """Solve N z = b for a Hermitian positive definite N, from 0, by a fixed number of steps.

    A tolerance could end at another step for a moved object. A sample whose residual is 0 stays where it is.

    Args:
        normal: N, from ``(batch, *spatial)`` to the same.
        right: b, complex or real ``(batch, *spatial)``; each sample is a system of its own.
        n_steps: as many as there are unknowns give the solution, up to rounding.

    Returns:
        z, the shape of ``right``.

    Example:
        >>> matrix = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
        >>> conjugate_gradients(lambda z: z @ matrix, torch.tensor([[1.0, 2.0]]), n_steps=2).round(decimals=3)
        tensor([[0.2000, 0.6000]])
    """
    dims = tuple(range(1, right.dim()))

    def energy(a: Tensor, b: Tensor) -> Tensor:
        return (a.conj() * b).real.double().sum(dims, keepdim=True)

    def ratio(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(b > 0, a / b, 0).to(right.real.dtype)

    solution, residual, direction = torch.zeros_like(right), right, right
    size = energy(residual, residual)
    for _ in range(n_steps):
        image = normal(direction)
        step = ratio(size, energy(direction, image))
        solution, residual = solution + step * direction, residual - step * image
        before, size = size, energy(residual, residual)
        direction = residual + ratio(size, before) * direction
    return solution


def cg_sense(kspace: Tensor, mask: Tensor, maps: Tensor, weight: float = WEIGHT, n_steps: int = N_STEPS) -> Tensor:
    """CG-SENSE: x = argmin |A x - y|^2 + weight |x|^2 = (A^H A + weight)^-1 A^H y, by conjugate gradients.

    A is the measurement :class:`recon.physics.mri.FourierOperator` with the maps. Since |A x| <= |x|, the weight does
    not depend on the unit of y.

    Args:
        kspace: y, complex ``(batch, coil, rows, columns)``; what the mask leaves out is passed over.
        mask: bool ``(columns,)`` or ``(batch, columns)``, True where a column was measured.
        maps: complex ``(coil, rows, columns)`` or ``(batch, coil, rows, columns)``, of root sum of squares 1.
        weight: of Tikhonov's term.
        n_steps: of conjugate gradients, always all of them.

    Returns:
        The complex image ``(batch, rows, columns)``.

    Raises:
        InputError: the maps do not fit the mask.

    Source: Pruessmann et al., Magnetic Resonance in Medicine 46 (2001).
    """
    operator = FourierOperator(mask, maps)
    return conjugate_gradients(lambda x: operator.normal(x) + weight * x, operator.adjoint(kspace), n_steps)
