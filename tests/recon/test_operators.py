"""The operators of the physics: adjoint, linear, differentiable, with the shapes they promise. A row for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

from recon.errors import InputError
from recon.physics import ct, mri
from recon.physics.conjugate_gradients import cg_sense

GENERATOR = torch.Generator().manual_seed(0)


def random(*shape: int, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=GENERATOR)


def unit_maps(*shape: int) -> torch.Tensor:
    maps = random(*shape)
    return maps / mri.rss(maps, -3).unsqueeze(-3)


class Row(NamedTuple):
    build: Callable[[], torch.nn.Module]
    image: tuple[int, ...]
    measured: tuple[int, ...]
    dtype: torch.dtype = torch.complex128


MASK = torch.rand(10, generator=GENERATOR) < 0.5
MASKS = torch.rand(2, 10, generator=GENERATOR) < 0.5
GEOMETRY = ct.ParallelBeam(rows=9, columns=8, extent=(0.2, 0.25), n_angles=7, n_detectors=13, detector_extent=0.4)
FAN = ct.FanBeam(9, 8, (0.2, 0.25), 7, 13, 0.9, source_to_origin=0.4, source_to_detector=0.7)
OPERATORS = {
    "Fourier": Row(lambda: mri.FourierOperator(MASK), (2, 7, 10), (2, 1, 7, 10)),
    "Fourier, a mask per sample": Row(lambda: mri.FourierOperator(MASKS), (2, 7, 10), (2, 1, 7, 10)),
    "Fourier, 3 coils": Row(lambda: mri.FourierOperator(MASK, unit_maps(3, 7, 10)), (2, 7, 10), (2, 3, 7, 10)),
    "Fourier, 3 coils, maps and mask per sample": Row(
        lambda: mri.FourierOperator(MASKS, unit_maps(2, 3, 7, 10)), (2, 7, 10), (2, 3, 7, 10)
    ),
    "ray transform": Row(lambda: ct.RayTransform(GEOMETRY), (2, 9, 8), (2, 7, 13), torch.float64),
    "ray transform, fan beam": Row(lambda: ct.RayTransform(FAN), (2, 9, 8), (2, 7, 13), torch.float64),
    "ray transform, padded off its centre": Row(
        lambda: ct.RayTransform(GEOMETRY.fitted(22, 15)), (2, 22, 15), (2, 7, 13), torch.float64
    ),
}
EVERY = pytest.mark.parametrize("row", OPERATORS.values(), ids=OPERATORS)


def inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.conj() * b).sum()


@EVERY
def test_adjoint_normal_and_shapes(row):
    operator, x, y = row.build(), random(*row.image, dtype=row.dtype), random(*row.measured, dtype=row.dtype)
    assert operator(x).shape == row.measured
    assert operator.adjoint(y).shape == row.image
    assert abs(inner(operator(x), y) - inner(x, operator.adjoint(y))) < 1e-10 * x.norm() * y.norm()
    torch.testing.assert_close(operator.normal(x), operator.adjoint(operator(x)), rtol=1e-12, atol=1e-12)
    assert abs(inner(operator(x), y) - inner(x, operator.adjoint(y.roll(1, -1)))) > 1e-3  # the control


@EVERY
def test_linear(row):
    operator, x, other = row.build(), random(*row.image, dtype=row.dtype), random(*row.image, dtype=row.dtype)
    torch.testing.assert_close(operator(2 * x - other), 2 * operator(x) - operator(other), rtol=1e-12, atol=1e-12)


@EVERY
def test_gradients(row):
    operator = row.build()
    assert torch.autograd.gradcheck(operator, random(*row.image, dtype=row.dtype).requires_grad_())
    assert torch.autograd.gradcheck(operator.adjoint, random(*row.measured, dtype=row.dtype).requires_grad_())


def test_fourier_operator_is_the_matrix_written_down():
    """Against the sums of the discrete Fourier transform, in NumPy."""
    n, m = 4, 6
    mask, maps, x = torch.tensor([1, 0, 1, 1, 0, 1]).bool(), unit_maps(2, n, m), random(1, n, m)
    rows, columns = np.arange(n) - n // 2, np.arange(m) - m // 2
    f = np.exp(-2j * np.pi * np.outer(rows, rows) / n) / np.sqrt(n)
    g = np.exp(-2j * np.pi * np.outer(columns, columns) / m) / np.sqrt(m)
    expected = np.stack([f @ (s * x[0].numpy()) @ g.T * mask.numpy() for s in maps.numpy()])[None]
    np.testing.assert_allclose(mri.FourierOperator(mask, maps)(x).numpy(), expected, atol=1e-12)


def test_the_normal_operator_commutes_with_any_movement_only_without_maps():
    def move(image):
        return mri.ifft2c(mri.move_object(mri.fft2c(image), (0.3, -1.7)))

    x = random(1, 8, 10)
    operators = mri.FourierOperator(MASK), mri.FourierOperator(MASK, unit_maps(3, 8, 10))
    errors = [float((operator.normal(move(x)) - move(operator.normal(x))).norm()) for operator in operators]
    assert errors[0] < 1e-12
    assert errors[1] > 1e-2


def test_cg_sense_is_numpys_solution_of_the_normal_equations():
    """With as many steps as there are unknowns, against the matrix of A, column by column."""
    n, m, weight = 3, 4, 0.05
    maps, mask = unit_maps(2, 3, n, m), torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0]]).bool()
    y = random(2, 3, n, m)
    found = cg_sense(y, mask, maps, weight, n_steps=2 * n * m)
    for number in range(2):
        operator = mri.FourierOperator(mask[number], maps[number])
        a = operator(torch.eye(n * m, dtype=torch.complex128).view(-1, n, m)).flatten(1).T.numpy()
        measured = mri.apply_mask(y[number], mask[number]).flatten().numpy()
        expected = np.linalg.solve(a.conj().T @ a + weight * np.eye(n * m), a.conj().T @ measured)
        np.testing.assert_allclose(found[number].flatten().numpy(), expected, rtol=1e-8, atol=1e-10)
    early = cg_sense(y, mask, maps, weight, n_steps=2)
    assert (early - found).norm() > 1e-3 * found.norm(), "control: too few steps"


def test_what_does_not_fit():
    with pytest.raises(InputError, match=r"3 coils cannot be combined without maps"):
        mri.FourierOperator(MASK).adjoint(random(1, 3, 7, 10))
    with pytest.raises(InputError, match=r"float32"):
        mri.FourierOperator(MASK.float())
    with pytest.raises(InputError, match=r"9 columns do not fit a mask of 10"):
        mri.FourierOperator(MASK, random(3, 7, 9))
    with pytest.raises(InputError, match=r"complex"):
        mri.FourierOperator(MASK, random(3, 7, 10, dtype=torch.float64))
