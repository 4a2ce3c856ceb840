"""Blur and pooling: against their definitions, and the shift law."""

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F

from recon.errors import InputError
from recon.layers import BinomialBlur, FixedPhase, MaxNorm, PolyphaseMaxPool, circular_shift, restore
from tests.properties import shift_error

POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)


@pytest.mark.parametrize("size", range(1, 8))
def test_blur_is_scipys_convolution_with_the_binomial_kernel(size):
    kernel = np.array([1.0])
    for _ in range(size - 1):
        kernel = np.convolve(kernel, [0.5, 0.5])
    x = torch.randn(1, 1, 9, 12, dtype=torch.float64)
    # scipy centres an even kernel at size // 2; its correlation with origin -1 centres it at (size - 1) // 2
    origin = -1 if size % 2 == 0 else 0
    expected = x[0, 0].numpy()
    for axis in (0, 1):
        expected = scipy.ndimage.correlate1d(expected, kernel, axis, mode="wrap", origin=origin)
    np.testing.assert_allclose(BinomialBlur(size)(x)[0, 0].numpy(), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("size", range(1, 8))
def test_blur_keeps_the_mean_commutes_with_shifts_and_strides(d, size):
    x = torch.randn(2, 3, *(4, 6, 2)[:d], dtype=torch.float64)  # sides smaller than the kernel too
    blur = BinomialBlur(size)
    torch.testing.assert_close(blur(x).mean(), x.mean())
    assert shift_error(blur, x) < 1e-14
    torch.testing.assert_close(blur(x, 2), blur(x)[(..., *(slice(None, None, 2),) * d)])
    assert not blur.state_dict()


@pytest.mark.parametrize("size", range(2, 8))
def test_a_blur_and_its_mirror_cancel_their_half_pixels(size):
    x = torch.zeros(1, 1, 32)
    x[..., 16] = 1
    both = BinomialBlur(size, mirrored=True)(BinomialBlur(size)(x))
    centre = (both.flatten() * torch.arange(32)).sum()
    assert centre.item() == pytest.approx(16)
    half = (BinomialBlur(size)(x).flatten() * torch.arange(32)).sum().item() - 16
    assert half == pytest.approx(-0.5 if size % 2 == 0 else 0)


@pytest.mark.parametrize("size", [0, 8, 9])
def test_blur_sizes_are_1_to_7(size):
    with pytest.raises(InputError, match="1 to 7"):
        BinomialBlur(size)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("stride", [2, 3])
def test_the_plain_pool_is_torchs(d, stride):
    x = torch.randn(2, 3, *(n * stride for n in (4, 3, 2)[:d]))
    y, phase = PolyphaseMaxPool(d, stride)(x)
    assert phase is None
    assert torch.equal(y, POOLS[d - 1](x, stride))


def test_the_pool_of_a_resnet_is_torchs_inside():
    x = torch.randn(2, 3, 12, 12)
    y, _ = PolyphaseMaxPool(2, 2, kernel_size=3, padding=1)(x)
    assert torch.equal(y[..., 1:, 1:], F.max_pool2d(x, 3, 2, 1)[..., 1:, 1:])
    for size in ((12, 12), (13, 8)):
        x = torch.randn(2, 3, *size) - 2
        y, _ = PolyphaseMaxPool(2, 2, kernel_size=3, padding=1, padding_mode="zeros")(x)
        assert torch.equal(y, F.max_pool2d(x, 3, 2, 1))


SELECTORS = [MaxNorm(c, on) for c in ("l1", "l2", "l2_min") for on in ("output", "input")] + [MaxNorm("linf", "input")]
SETTINGS = [
    (selector, blur, d, stride)
    for selector in SELECTORS
    for blur in (1, 2, 3, 6)
    for d, stride in ((1, 2), (2, 2), (2, 3), (3, 2))
    if not (selector.criterion == "l1" and selector.score_on == "output" and blur > 1 and stride == 2)  # refused
]


@pytest.mark.parametrize(("selector", "blur", "d", "stride"), SETTINGS, ids=str)
def test_pool_repeat_restore_commutes_with_shifts(selector, blur, d, stride):
    x = torch.randn(2, 3, *(n * stride for n in (4, 3, 2)[:d]), dtype=torch.float64)

    def there_and_back(selector):
        pool = PolyphaseMaxPool(d, stride, selector=selector, lowpass=BinomialBlur(blur) if blur > 1 else None)

        def f(x):
            y, phase = pool(x)
            for axis in range(2, 2 + d):
                y = y.repeat_interleave(stride, axis)
            return restore(y, phase, stride)

        return f

    assert shift_error(there_and_back(selector), x) < 1e-13
    assert shift_error(there_and_back(FixedPhase()), x) > 1e-2  # the control


def test_scoring_the_output_or_the_input_pools_the_same_at_the_same_phase():
    x = torch.randn(1, 3, 8, 8)
    y, phase = PolyphaseMaxPool(2, selector=MaxNorm(score_on="output"))(x)
    aligned = F.max_pool2d(circular_shift(x, -torch.stack([phase // 2, phase % 2], 1)), 2)
    assert torch.equal(y, aligned)


@pytest.mark.parametrize(("criterion", "lowpass"), [("linf", None), ("linf_min", None), ("l1", BinomialBlur(3))])
def test_scores_that_tie_are_refused(criterion, lowpass):
    with pytest.raises(InputError, match="cannot choose a phase"):
        PolyphaseMaxPool(2, selector=MaxNorm(criterion), lowpass=lowpass)
    PolyphaseMaxPool(2, selector=MaxNorm(criterion, "input"), lowpass=lowpass)


def test_why_l1_of_a_blurred_positive_image_is_refused():
    blurred = BinomialBlur(3)(torch.rand(1, 2, 8, 8, dtype=torch.float64))
    scores = MaxNorm("l1").score(blurred, 2)
    torch.testing.assert_close(scores, scores[:, :1].expand(-1, 4), rtol=1e-13, atol=0)


def test_gradient_of_the_dense_pool_is_the_strided_pools():
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    for blur in (None, BinomialBlur(3)):
        grads = []
        for score_on in ("output", "input"):
            y, _ = PolyphaseMaxPool(2, selector=_Always(3, score_on), lowpass=blur)(x)
            grads.append(torch.autograd.grad((y * torch.arange(y.numel()).view(y.shape)).sum(), x)[0])
        torch.testing.assert_close(grads[0], grads[1])


class _Always(torch.nn.Module):
    def __init__(self, phase, score_on):
        super().__init__()
        self.phase, self.score_on = phase, score_on

    def forward(self, x, stride):
        return torch.full((len(x),), self.phase)


def test_stride_one_is_refused():
    with pytest.raises(InputError, match="2 or more"):
        PolyphaseMaxPool(2, stride=1)
