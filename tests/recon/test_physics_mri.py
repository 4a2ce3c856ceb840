"""recon.physics.mri against fastmri, and the identities a unitary transform obeys."""

import fastmri
import pytest
import torch
from fastmri.data import transforms

from recon.errors import InputError
from recon.physics import mri

torch.set_num_threads(1)

SIZES = [(16, 12), (15, 12), (16, 11), (7, 9), (1, 5)]
TOLERANCES = [(torch.complex64, 1e-6), (torch.complex128, 1e-12)]


def random_complex(*shape, dtype=torch.complex128, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def relative(actual, expected):
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("name", ["fft2c", "ifft2c"])
def test_transform_equals_fastmri(name, dtype, tolerance, size):
    x = random_complex(2, 3, *size, dtype=dtype)
    expected = torch.view_as_complex(getattr(fastmri, name)(torch.view_as_real(x)))
    assert relative(getattr(mri, name)(x), expected) < tolerance


@pytest.mark.parametrize("size", SIZES)
def test_transform_is_unitary(size):
    x, y = random_complex(2, *size), random_complex(2, *size, seed=1)
    torch.testing.assert_close(mri.ifft2c(mri.fft2c(x)), x)
    torch.testing.assert_close(mri.fft2c(x).norm(), x.norm())
    torch.testing.assert_close(
        torch.vdot(mri.fft2c(x).flatten(), y.flatten()), torch.vdot(x.flatten(), mri.ifft2c(y).flatten())
    )


@pytest.mark.parametrize("size", SIZES)
def test_image_shift_is_phase_ramp(size):
    x, shift = random_complex(*size), (3, -2)
    rows, columns = (torch.arange(n, dtype=torch.float64) - n // 2 for n in size)
    ramp = torch.exp(-2j * torch.pi * (rows[:, None] * shift[0] / size[0] + columns * shift[1] / size[1]))
    torch.testing.assert_close(mri.fft2c(x.roll(shift, (0, 1))), mri.fft2c(x) * ramp)


@pytest.mark.parametrize("size", SIZES)
def test_central_impulse_has_constant_kspace(size):
    image = torch.zeros(size, dtype=torch.float64)
    image[size[0] // 2, size[1] // 2] = 1
    constant = torch.full(size, (size[0] * size[1]) ** -0.5, dtype=torch.complex128)
    torch.testing.assert_close(mri.fft2c(image), constant)
    torch.testing.assert_close(mri.ifft2c(image.to(torch.complex128)), constant)


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.float32, torch.float64])
def test_mask_equals_fastmri(dtype, tolerance, mask_dtype):
    kspace, mask = random_complex(2, 3, 10, 12, dtype=dtype), torch.arange(12) % 3 == 0
    mask_func = lambda shape, offset, seed: (mask.view(1, 1, 1, 12, 1), 0)  # noqa: E731
    expected = torch.view_as_complex(transforms.apply_mask(torch.view_as_real(kspace), mask_func)[0])
    assert relative(mri.apply_mask(kspace, mask.to(mask_dtype)), expected) < tolerance


def test_mask_per_sample_and_over_rows():
    kspace, masks = random_complex(2, 3, 10, 12), torch.rand(2, 1, 1, 12) < 0.5
    masked = mri.apply_mask(kspace, masks)
    for sample, one, mask in zip(kspace, masked, masks, strict=True):
        torch.testing.assert_close(one, mri.apply_mask(sample, mask.flatten()))
    rows = torch.arange(10) < 4
    torch.testing.assert_close(mri.apply_mask(kspace, rows[:, None])[:, :, :4], kspace[:, :, :4])
    assert not mri.apply_mask(kspace, rows[:, None])[:, :, 4:].any()


@pytest.mark.parametrize("shape", [(11,), (10, 12, 1), (5, 2, 3, 10, 12)])
def test_mask_that_does_not_fit_is_refused(shape):
    with pytest.raises(InputError, match="does not fit"):
        mri.apply_mask(random_complex(2, 3, 10, 12), torch.ones(shape))


def test_real_kspace_is_refused():
    with pytest.raises(InputError, match="view_as_complex"):
        mri.ifft2c(torch.zeros(10, 12, 2))


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("coil_dim", [0, 1, -3])
def test_rss_equals_fastmri(dtype, tolerance, coil_dim):
    images = random_complex(2, 4, 10, 12, dtype=dtype)
    expected = fastmri.rss_complex(torch.view_as_real(images), dim=coil_dim % 4)
    assert relative(mri.rss(images, coil_dim), expected) < tolerance
    assert relative(mri.rss(images.abs(), coil_dim), fastmri.rss(images.abs(), dim=coil_dim % 4)) < tolerance


def test_zero_filled():
    image = random_complex(2, 4, 10, 12)
    kspace, everything = mri.fft2c(image), torch.ones(12, dtype=torch.bool)
    torch.testing.assert_close(mri.zero_filled(kspace, everything), image.abs())
    torch.testing.assert_close(mri.zero_filled(kspace, everything, coil_dim=1), mri.rss(image, 1))
    mask = torch.arange(12) % 3 == 0
    expected = fastmri.complex_abs(fastmri.ifft2c(torch.view_as_real(kspace * mask)))
    torch.testing.assert_close(mri.zero_filled(kspace, mask), expected)


def test_gradients():
    kspace = random_complex(2, 3, 4, 5).requires_grad_()
    mask = torch.tensor([1, 0, 1, 1, 0])
    assert torch.autograd.gradcheck(lambda k: mri.zero_filled(k, mask, coil_dim=1), kspace)
    assert torch.autograd.gradcheck(mri.fft2c, kspace)


@pytest.mark.parametrize("coil_dim", [None, 1])
def test_gradient_of_blank_kspace_is_finite(coil_dim):
    kspace = torch.zeros(2, 3, 4, 5, dtype=torch.complex64, requires_grad=True)
    mri.zero_filled(kspace, torch.ones(5), coil_dim).sum().backward()
    assert not kspace.grad.any()
