"""recon.metrics as functions: against scikit-image and fastmri.evaluate, and the laws of the shifts."""

import fastmri.evaluate
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from recon.errors import InputError
from recon.metrics import draw_shifts, equals_own_shift, equivariance, nmse, psnr, ssim

torch.set_num_threads(1)

CASES = {
    "float64": (torch.float64, 0, 1),
    "float32": (torch.float32, 0, 1),
    "float16": (torch.float16, 0, 1),
    "large offset": (torch.float32, 1000, 1),
    "MRI scale": (torch.float32, 0, 1e-6),
    "CT scale": (torch.float32, -1000, 500),
}


def volume(case="float64", size=(5, 24, 19), seed=0):
    dtype, offset, scale = CASES[case]
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(size, generator=generator, dtype=torch.float64)
    preds = target + 0.3 * torch.randn(size, generator=generator, dtype=torch.float64)
    return (preds * scale + offset).to(dtype), (target * scale + offset).to(dtype)


def spread(images):
    images = images.double()
    return images.amax((1, 2)) - images.amin((1, 2))


def as_float64(*images):
    return [image.double().numpy() for image in images]


@pytest.mark.parametrize("case", CASES)
def test_volume_equals_fastmri(case):
    preds, target = volume(case)
    p, g = as_float64(preds, target)
    data_range = np.ptp(g)
    assert psnr(preds, target, data_range).item() == pytest.approx(fastmri.evaluate.psnr(g, p, data_range), rel=1e-6)
    assert nmse(preds, target).item() == pytest.approx(fastmri.evaluate.nmse(g, p).item(), rel=1e-6)
    assert ssim(preds, target, data_range).item() == pytest.approx(fastmri.evaluate.ssim(g, p, data_range)[0], abs=1e-8)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(3, 24, 19), (2, 7, 7), (1, 8, 40)])
def test_slices_equal_scikit_image(case, size):
    preds, target = volume(case, size)
    data_range = spread(target)
    pairs = list(zip(*as_float64(target, preds), data_range.tolist(), strict=True))
    expected = torch.tensor([structural_similarity(g, p, data_range=r) for g, p, r in pairs], dtype=torch.float64)
    torch.testing.assert_close(ssim(preds, target, data_range, per_slice=True), expected, rtol=0, atol=1e-8)
    expected = torch.tensor([peak_signal_noise_ratio(g, p, data_range=r) for g, p, r in pairs], dtype=torch.float64)
    torch.testing.assert_close(psnr(preds, target, data_range, per_slice=True), expected, rtol=1e-6, atol=0)
    expected = torch.stack([nmse(p[None], g[None]) for p, g in zip(preds, target, strict=True)])
    torch.testing.assert_close(nmse(preds, target, per_slice=True), expected)


def test_default_of_fastmri_is_the_target_maximum():
    preds, target = volume()
    p, g = as_float64(preds, target)
    assert psnr(preds, target, target.max()).item() == pytest.approx(fastmri.evaluate.psnr(g, p))
    assert ssim(preds, target, target.max()).item() == pytest.approx(fastmri.evaluate.ssim(g, p)[0])


def test_hand_computed_values():
    target, preds = torch.full((1, 8, 8), 2.0), torch.full((1, 8, 8), 1.0)
    assert psnr(preds, target, 10.0).item() == pytest.approx(20)
    assert nmse(preds, target).item() == pytest.approx(0.25)
    assert ssim(preds, target, 10.0).item() == pytest.approx((2 * 2 + 0.01) / (5 + 0.01))
    assert psnr(target, target, 10.0).isinf()
    assert ssim(target, target, 10.0) == 1


@pytest.mark.parametrize("metric", [psnr, ssim, lambda p, g, _: nmse(p, g)])
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")  # torch's own, at its first tangent
def test_gradients(metric):
    preds, target = volume(size=(2, 8, 9))
    preds.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: metric(p, target, 3.0), preds, check_forward_ad=True)


def test_ssim_of_blank_slices_has_a_finite_gradient():
    preds = torch.zeros(1, 8, 8, requires_grad=True)
    (1 - ssim(preds, torch.zeros(1, 8, 8), 1.0)).backward()
    assert preds.grad.isfinite().all()


@pytest.mark.parametrize("data_range", [0, -1.0, float("nan"), torch.tensor([1.0, 0.0])])
@pytest.mark.parametrize("metric", [psnr, ssim, equivariance])
def test_data_range_that_is_not_positive_is_refused(metric, data_range):
    with pytest.raises(InputError, match="positive"):
        metric(torch.ones(2, 8, 8), torch.ones(2, 8, 8), data_range)


@pytest.mark.parametrize("shape", [(2, 8, 9), (3, 8, 8), (8, 8), (2, 2, 8, 8), (0, 8, 8)])
@pytest.mark.parametrize("metric", [psnr, ssim, equivariance, lambda p, g, _: nmse(p, g)])
def test_shapes_are_checked(metric, shape):
    other = shape if shape in ((8, 8), (2, 2, 8, 8), (0, 8, 8)) else (2, 8, 8)
    with pytest.raises(InputError, match="slices, rows, columns"):
        metric(torch.ones(shape), torch.ones(other), 1.0)


def test_other_errors():
    image = torch.ones(2, 8, 8)
    with pytest.raises(InputError, match="7 x 7"):
        ssim(image[:, :6], image[:, :6], 1.0)
    with pytest.raises(InputError, match="shape"):
        psnr(image, image, torch.ones(3))
    with pytest.raises(InputError, match="magnitude"):
        psnr(image.to(torch.complex64), image, 1.0)
    blank = image * torch.tensor([0.0, 1.0])[:, None, None]
    assert nmse(image, blank) == 1
    with pytest.raises(InputError, match="zero everywhere"):
        nmse(image, blank, per_slice=True)
    with pytest.raises(InputError, match="zero everywhere"):
        nmse(image, 0 * image)


def test_equivariance_follows_its_definition():
    preds, target = volume("float32")
    target[0] = preds[0]
    error = equivariance(preds, target, 4.0)
    assert error.equal.tolist() == [True, False, False, False, False]
    torch.testing.assert_close(error.nmse, nmse(preds, target, per_slice=True))
    torch.testing.assert_close(error.psnr, psnr(preds, target, 4.0, per_slice=True))
    torch.testing.assert_close(error.ssim, ssim(preds, target, 4.0, per_slice=True))
    torch.testing.assert_close(error.max_abs, (preds.double() - target.double()).abs().flatten(1).amax(1))
    assert error.nmse[0] == error.max_abs[0] == 0
    assert error.psnr.isinf().tolist() == error.equal.tolist()
    torch.testing.assert_close(equivariance(preds, target).psnr, psnr(preds, target, spread(target), per_slice=True))


def test_equivariance_of_blank_outputs_is_never_nan():
    blank, image = torch.zeros(1, 8, 8), torch.rand(1, 8, 8)
    both = equivariance(torch.cat([blank, image]), torch.cat([blank, blank]))
    assert both.equal.tolist() == [True, False]
    assert both.nmse.tolist() == [0, float("inf")]
    assert not any(values.isnan().any() for values in both)


@pytest.mark.parametrize(("max_shift", "spatial_dims"), [(1, 1), (1, 2), (2, 2), (1, 3)])
def test_shifts_are_uniform_without_zero(max_shift, spatial_dims):
    n = 20_000
    shifts = draw_shifts(n, max_shift, seed=3, spatial_dims=spatial_dims)
    assert shifts.shape == (n, spatial_dims)
    assert shifts.dtype == torch.int64
    vectors, counts = shifts.unique(dim=0, return_counts=True)
    n_vectors = (2 * max_shift + 1) ** spatial_dims - 1
    assert len(vectors) == n_vectors
    assert vectors.any(1).all()
    assert shifts.min() == -max_shift
    assert shifts.max() == max_shift
    expected = n / n_vectors
    assert ((counts - expected) ** 2 / expected).sum() < n_vectors + 5 * (2 * n_vectors) ** 0.5


def test_shifts_are_a_function_of_the_arguments():
    shifts = draw_shifts(10, 16, seed=0)
    assert shifts[:3].tolist() == [[12, -14], [5, -15], [0, 13]]  # on every machine
    assert shifts.equal(draw_shifts(10, 16, seed=0))
    assert shifts[:4].equal(draw_shifts(4, 16, seed=0))
    assert not shifts.equal(draw_shifts(10, 16, seed=1))
    assert not draw_shifts(10, 16, (0, 1)).equal(draw_shifts(10, 16, (1, 0)))
    assert draw_shifts(0, 16, seed=0).shape == (0, 2)


@pytest.mark.parametrize("arguments", [(4, 0, 0), (4, 3, 0, 0), (-1, 3, 0), (4, 3, -1), (4, 3, (1, -1))])
def test_impossible_shifts_are_refused(arguments):
    with pytest.raises(InputError):
        draw_shifts(*arguments)


def test_images_that_equal_their_own_shift():
    rows, columns = torch.arange(24)[:, None].double(), torch.arange(24)[None].double()
    cases = {
        "blank": torch.zeros(24, 24),
        "flat": torch.full((24, 24), 3.0),
        "stripes": torch.sin(columns * torch.pi / 2).expand(24, 24),
        "period 3": ((rows + columns) % 3).expand(24, 24),
    }
    image = torch.randn(24, 24)
    for name, case in cases.items():
        assert equals_own_shift(case.float()[None], 4).item(), name
    for case in (image, image + 100, torch.exp(-((rows - 12) ** 2 + (columns - 12) ** 2) / 50)):
        assert not equals_own_shift(case[None], 4).item()
    tiled = torch.randn(8, 8).repeat(3, 3)
    assert equals_own_shift(tiled[None], 16).item()
    assert not equals_own_shift(tiled[None], 4).item()  # its period is a multiple of the stride: no tie
