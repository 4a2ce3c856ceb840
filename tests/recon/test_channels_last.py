"""The compiled loops for images in channels_last against those for planes and against torch's own forms."""

from __future__ import annotations

import pytest
import torch

from recon.kernels.join import join_op, shift_join_pad
from recon.kernels.normalise import normalise
from recon.kernels.pool import pool
from recon.kernels.switches import prefers_channels_last
from recon.layers import use_kernels
from recon.networks import UNet, VarNet
from tests.properties import shift_error

LAST = torch.channels_last
SHIFTS = torch.tensor([[3, -5], [-17, 40]])
GIVEN = torch.rand(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.5
OPERATIONS = {
    "normalise planes": lambda x, y, c, w, b: normalise(x, w, b, None, "plane", 1e-5, 0.2, 1)[0],
    "normalise the batch": lambda x, y, c, w, b: normalise(x, w, b, None, "batch", 1e-5, 0.0, 2)[0],
    "normalise by given numbers": lambda x, y, c, w, b: normalise(x, w, b, GIVEN, "given", 1e-5, 0.2, 0)[0],
    "shift": lambda x, y, c, w, b: shift_join_pad([x], None, SHIFTS),
    "pad": lambda x, y, c, w, b: shift_join_pad([x], pads=(1, 2, 3, 14)),
    "join": lambda x, y, c, w, b: shift_join_pad([x, y], None, SHIFTS, (1, 1, 1, 1)),
    "join components": lambda x, y, c, w, b: shift_join_pad([x], c, SHIFTS, (1, 1, 1, 1)),
    "pool": lambda x, y, c, w, b: pool(x)[0],
}


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def inputs(dtype, layout, size=(12, 10)):
    """Two images, components of a third, and a weight and a bias for each channel."""
    rows, columns = size
    images = [draw(2, 5, *size, dtype=dtype), draw(2, 3, *size, dtype=dtype, seed=1)]
    images.append(draw(2, 12, rows // 2, columns // 2, dtype=dtype, seed=2))
    numbers = [draw(5, dtype=dtype, seed=3), draw(5, dtype=dtype, seed=4)]
    return [x.to(memory_format=layout).requires_grad_() for x in images] + [x.requires_grad_() for x in numbers]


def outcome(operation, given):
    y = operation(*given)
    gradients = torch.autograd.grad((y * draw(*y.shape, dtype=y.dtype, seed=5)).sum(), given, allow_unused=True)
    return y, [gradient for gradient in gradients if gradient is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_loops_of_either_layout_say_the_same(operation, dtype):
    y, gradients = outcome(operation, inputs(dtype, torch.contiguous_format))
    other, others = outcome(operation, inputs(dtype, LAST))
    assert other.is_contiguous(memory_format=LAST)
    assert y.is_contiguous()
    tolerance = {"rtol": 1e-12, "atol": 1e-13} if dtype == torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(other, y, **tolerance)
    torch.testing.assert_close(others, gradients, **tolerance)


def test_the_pool_chooses_and_finds_the_same():
    for seed in range(8):
        x = draw(2, 5, 8, 6, seed=seed).round()  # with ties inside the windows
        for one, other in zip(pool(x), pool(x.to(memory_format=LAST)), strict=True):
            assert torch.equal(one, other)


def test_the_operators_keep_torchs_contract():
    x, y, c, w, b = inputs(torch.float64, LAST, (4, 6))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(normalise, (x, w, b, None, "plane", 1e-5, 0.2, 1), test_utils=checks)
    torch.library.opcheck(join_op, ([x, y], c, SHIFTS, [1, 1, 1, 1]), test_utils=checks)
    torch.library.opcheck(pool, (x,), test_utils=checks)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(threads):
    x = draw(1, 18, 64, 80, dtype=torch.float32).to(memory_format=LAST)
    numbers = torch.ones(18), torch.zeros(18)
    before = torch.get_num_threads()
    found = []
    try:
        for n in (2, threads):
            torch.set_num_threads(n)
            given = x.clone(memory_format=torch.preserve_format).requires_grad_()
            y = normalise(given, *numbers, None, "plane", 1e-5, 0.2, 1)[0]
            found.append((y.detach(), *torch.autograd.grad(y.square().sum(), given), *pool(x)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_values_that_are_not_finite_are_noticed():
    x = draw(1, 3, 8, 8).to(memory_format=LAST)
    x[0, 1, 3, 3] = torch.nan
    y = normalise(x, torch.ones(3, dtype=x.dtype), torch.zeros(3, dtype=x.dtype), None, "plane", 1e-5, 0.2, 1)[0]
    assert y[0, 1].isnan().all()
    assert not y[0, 0].isnan().any()
    assert pool(x)[0][0, 1].isnan().any()


@pytest.mark.parametrize("settings", [{}, {"blur": 3}, {"up_path": "published"}, {"norm": "batch"}, {"stride": 4}])
def test_networks_agree_and_are_exact(settings):
    torch.manual_seed(0)
    f = UNet(in_channels=2, out_channels=2, widths=(4, 6, 8), **settings).double().eval()
    x = draw(2, 2, 32, 48)
    y = f(x.to(memory_format=LAST))
    torch.testing.assert_close(y, f(x), rtol=1e-11, atol=1e-11)
    with use_kernels(False):
        torch.testing.assert_close(y, f(x.to(memory_format=LAST)), rtol=1e-11, atol=1e-11)
    assert shift_error(f, x.to(memory_format=LAST)) < 1e-10
    plain = UNet(in_channels=2, out_channels=2, widths=(4, 6, 8), sampling="stride").double().eval()
    assert shift_error(plain, x.to(memory_format=LAST)) > 1e-4  # the control


def test_complex_images_give_the_same_in_either_layout(monkeypatch):
    torch.manual_seed(0)
    f = VarNet(n_cascades=1, widths=(4, 6), maps_widths=None).double().eval()
    kspace, mask = torch.complex(draw(1, 1, 8, 8), draw(1, 1, 8, 8, seed=1)), torch.ones(8, dtype=torch.bool)
    found = []
    for prefers in (True, False):
        monkeypatch.setattr("recon.networks.complex_images.prefers_channels_last", lambda x, p=prefers: p)
        found.append(f(kspace, mask))
    torch.testing.assert_close(*found, rtol=1e-11, atol=1e-12)
    with use_kernels(False):
        assert not prefers_channels_last(draw(1, 2, 8, 8))
