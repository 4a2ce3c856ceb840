"""recon.physics.mri against fastmri, and the identities a unitary transform obeys."""

import math

import fastmri
import pytest
import torch
from fastmri.data import transforms
from torch.autograd import forward_ad

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


CROPS = [(16, 12, 8, 6), (16, 12, 16, 12), (15, 12, 8, 5), (16, 11, 7, 7), (7, 9, 6, 8), (1, 5, 1, 1), (9, 14, 1, 2)]


def cropped(image, size):
    top, left = ((n - side) // 2 for n, side in zip(image.shape[-2:], size, strict=True))
    return image[..., top : top + size[0], left : left + size[1]]


def plainly_zero_filled(kspace, mask, coil_dim, size):
    image = cropped(mri.ifft2c(mri.apply_mask(kspace, mask)), size)
    return image.abs() if coil_dim is None else mri.rss(image, coil_dim)


@pytest.mark.parametrize("sides", CROPS)
@pytest.mark.parametrize("coil_dim", [None, 0, 1, -3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.complex64, 5e-7), (torch.complex128, 1e-14)])
@pytest.mark.parametrize("with_gradient", [False, True])
def test_zero_filling_the_centre_equals_the_plain_composition(sides, coil_dim, dtype, tolerance, with_gradient):
    kspace, size = random_complex(2, 4, *sides[:2], dtype=dtype).requires_grad_(with_gradient), sides[2:]
    for mask in (torch.arange(sides[1]) == sides[1] // 2, torch.arange(sides[1]) % 3 != 1, torch.rand(sides[1]) < 2):
        expected = plainly_zero_filled(kspace, mask, coil_dim, size).detach()
        found = mri.zero_filled(kspace, mask, coil_dim, size)
        assert found.requires_grad == with_gradient
        assert relative(found.detach(), expected) < tolerance
        assert relative(mri.zero_filled(kspace, mask.float(), coil_dim, size).detach(), expected) < tolerance
    if sides[:2] == (16, 12) and size[0] < 16:
        other = cropped(plainly_zero_filled(kspace, mask, coil_dim, sides[:2]).detach(), size).roll(1, -1)
        assert relative(found.detach(), other) > 0.1, "control: a centre that is one pixel off"


def test_zero_filling_without_a_measured_column():
    kspace, nothing = random_complex(2, 6, 8), torch.zeros(8, dtype=torch.bool)
    assert torch.equal(mri.zero_filled(kspace, nothing, size=(4, 4)), torch.zeros(2, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize("n_coils", [1, 3])
def test_zero_filling_depends_neither_on_threads_nor_on_the_batch(n_coils):
    kspace, mask = random_complex(3, n_coils, 640, 368, dtype=torch.complex64), torch.arange(368) % 4 == 0
    alone = torch.stack([mri.zero_filled(one, mask, 0, (320, 320)) for one in kspace])
    torch.set_num_threads(2)
    try:
        assert mri.zero_filled(kspace, mask, 1, (320, 320)).equal(alone)
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("size", [(10, 13), (0, 5), (5,), (5, 5, 5)])
def test_a_size_that_does_not_fit_is_refused(size):
    with pytest.raises(InputError, match="does not fit into k-space"):
        mri.zero_filled(random_complex(10, 12), torch.ones(12, dtype=torch.bool), size=size)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # torch's own, at its first tangent
def test_zero_filling_passes_tangents_on():
    kspace, mask = random_complex(6, 8), torch.arange(8) % 2 == 0
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(kspace, kspace)
        value, tangent = forward_ad.unpack_dual(mri.zero_filled(dual, mask, None, (4, 4)))
    torch.testing.assert_close(tangent, value)


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


def coil_maps(n_coils, rows, columns):
    """Smooth, strong, with root sum of squares 1."""
    y, x = (
        torch.linspace(-1, 1, rows, dtype=torch.float64)[:, None],
        torch.linspace(-1, 1, columns, dtype=torch.float64),
    )
    angles = [2 * math.pi * c / n_coils for c in range(n_coils)]
    maps = torch.stack([torch.exp((math.sin(a) + 0.7j) * y + (math.cos(a) - 0.4j) * x) for a in angles])
    return maps / maps.abs().square().sum(0).sqrt()


def interpolation(n, pixels):
    """The dense matrix (n, n) of the move along one axis: column m is the periodic sinc around m + pixels."""
    frequency = torch.arange(n, dtype=torch.float64) - n // 2
    distance = torch.arange(n, dtype=torch.float64)[:, None] - torch.arange(n, dtype=torch.float64) - pixels
    return torch.exp(2j * math.pi * frequency * distance[..., None] / n).mean(-1)


def densely_moved(image, shift):
    return interpolation(image.shape[-2], shift[0]) @ image @ interpolation(image.shape[-1], shift[1]).T


def moved_image(image, shift):
    return mri.ifft2c(mri.move_object(mri.fft2c(image), shift))


def waves(rows, columns, shift=(0, 0)):
    """A band-limited image, evaluated on a grid that moved by -shift."""
    y = (torch.arange(rows, dtype=torch.float64) - shift[0])[:, None] / rows
    x = (torch.arange(columns, dtype=torch.float64) - shift[1]) / columns
    cosines = 2 + torch.cos(2 * math.pi * (y - 2 * x) + 0.3) * torch.cos(2 * math.pi * 3 * y)
    top = (rows - 1) // 2, (columns - 1) // 2  # the highest frequencies below Nyquist's
    return cosines + 0.5j * torch.exp(2j * math.pi * (top[0] * y - top[1] * x)) - torch.exp(-2j * math.pi * top[0] * y)


def spots(rows, columns, shift=(0, 0)):
    """A periodic Gaussian of 2.5 pixels, whose spectrum ends in rounding long before Nyquist's frequency."""
    total = torch.zeros(rows, columns, dtype=torch.float64)
    for period_y in range(-3, 4):
        for period_x in range(-3, 4):
            y = torch.arange(rows, dtype=torch.float64)[:, None] - 0.3 * rows - shift[0] + period_y * rows
            x = torch.arange(columns, dtype=torch.float64) - 0.6 * columns - shift[1] + period_x * columns
            total += torch.exp(-(y**2 + x**2) / (2 * 2.5**2))
    return total.to(torch.complex128)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [(3, -2), (0, 5), (-40, 1)])
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_a_move_by_whole_pixels_is_a_circular_shift(size, shift, dtype, tolerance):
    x = random_complex(2, 3, *size, dtype=dtype)
    assert relative(moved_image(x, shift), x.roll(shift, (-2, -1))) < tolerance


@pytest.mark.parametrize("size", [(16, 12), (15, 21), (24, 17)])
@pytest.mark.parametrize("phantom", [waves, spots])
@pytest.mark.parametrize("shift", [(0.25, -0.5), (-3.7, 2.1), (1 / 3, 0)])
def test_a_move_by_fractions_evaluates_the_phantom_elsewhere(size, phantom, shift):
    assert relative(moved_image(phantom(*size), shift), phantom(*size, shift)) < 1e-11


@pytest.mark.parametrize("size", SIZES)
def test_moves_add_up_and_keep_the_norm_for_any_image(size):
    x = random_complex(3, *size)
    assert relative(moved_image(moved_image(x, (0.3, -1.6)), (2.2, 0.7)), moved_image(x, (2.5, -0.9))) < 1e-12
    torch.testing.assert_close(moved_image(x, (0.3, -1.6)).norm(), x.norm())
    assert relative(moved_image(x, (0.3, -1.6)), densely_moved(x, (0.3, -1.6))) < 1e-12


def test_nyquists_frequency_turns_as_a_negative_one():
    x = torch.ones(8, 6, dtype=torch.complex128) * (-1.0) ** torch.arange(8)[:, None]
    torch.testing.assert_close(moved_image(x, (0.5, 0)), 1j * x)


def test_the_move_commutes_with_the_mask():
    kspace, mask, shift = random_complex(2, 3, 10, 12), torch.arange(12) % 3 == 0, (0.4, -2.3)
    after = mri.apply_mask(mri.move_object(kspace, shift), mask)
    assert torch.equal(after, mri.move_object(mri.apply_mask(kspace, mask), shift))


@pytest.mark.parametrize("shift", [(3, -2), (0.4, -2.3)])
def test_the_object_moves_under_fixed_coils(shift):
    maps, objects, noise = coil_maps(4, 16, 13), random_complex(2, 1, 16, 13), random_complex(2, 4, 16, 13, seed=1)
    seen = (maps.conj() * noise).sum(1, keepdim=True)  # the part of the noise that an object could have made
    kspace = mri.fft2c(maps * objects + noise)
    expected = mri.fft2c(maps * densely_moved(objects + seen, shift) + noise - maps * seen)
    assert relative(mri.move_object(kspace, shift, maps), expected) < 1e-12
    assert relative(mri.move_object(kspace, shift), expected) > 0.1, "control: coils that move along"
    single = mri.move_object(kspace.to(torch.complex64), shift, maps)
    assert relative(single, expected.to(torch.complex64)) < 1e-6


@pytest.mark.parametrize("maps", [None, coil_maps(3, 10, 12)])
def test_no_move_is_the_identity(maps):
    kspace = random_complex(2, 3, 10, 12, dtype=torch.complex64)
    assert torch.equal(mri.move_object(kspace, (0, 0.0), maps), kspace)


def test_moves_have_gradients():
    kspace, maps = random_complex(2, 4, 5).requires_grad_(), coil_maps(2, 4, 5)
    assert torch.autograd.gradcheck(lambda k: mri.move_object(k, (0.5, 1)), kspace)
    assert torch.autograd.gradcheck(lambda k: mri.move_object(k, (0.5, 1), maps), kspace)


@pytest.mark.parametrize(
    ("kspace", "shift", "maps", "message"),
    [
        (torch.zeros(10, 12, 2), (1, 1), None, "view_as_complex"),
        (random_complex(10, 12), (1,), None, r"shift is \[1\]: give two finite numbers"),
        (random_complex(10, 12), (1, math.nan), None, "give two finite numbers"),
        (random_complex(3, 10, 12), (1, 1), coil_maps(4, 10, 12), r"maps \(4, 10, 12\) do not fit"),
        (random_complex(10, 12), (1, 1), coil_maps(1, 10, 12), "do not fit"),
    ],
)
def test_bad_moves(kspace, shift, maps, message):
    with pytest.raises(InputError, match=message):
        mri.move_object(kspace, shift, maps)
