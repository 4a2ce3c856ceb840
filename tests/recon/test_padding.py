"""Circular padding against torch's own, and (transposed) convolutions that wrap."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recon.errors import InputError
from recon.layers import circular_pad, circular_shift, set_padding_mode
from tests.properties import adjoint_error, random_shifts, shift_error

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
SIZES = ((12,), (6, 9), (4, 6, 5))


@pytest.mark.parametrize("size", SIZES)
def test_pad_is_torchs(size):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    pads = [(1, 2), (0, 3), (2, 0)][: len(size)]
    flat = [side for pad in reversed(pads) for side in pad]
    assert torch.equal(circular_pad(x, pads), F.pad(x, flat, mode="circular"))


@pytest.mark.parametrize("size", SIZES)
def test_pad_gradients(size):
    x = torch.randn(1, 2, *size, dtype=torch.float64, requires_grad=True)
    pads = [(1, 2), (0, 3), (2, 0)][: len(size)]
    assert torch.autograd.gradcheck(lambda x: circular_pad(x, pads), x)
    assert torch.autograd.gradgradcheck(lambda x: circular_pad(x, pads), x)
    y = torch.randn_like(circular_pad(x, pads))
    assert (
        adjoint_error(
            lambda x: circular_pad(x, pads), lambda y: torch.autograd.grad(circular_pad(x, pads), x, y)[0], x, y
        )
        < 1e-14
    )


def test_pad_by_more_than_a_period():
    x = torch.arange(3.0).view(1, 1, 3)
    assert circular_pad(x, [(4, 5)]).flatten().tolist() == [2, 0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("d", [1, 2, 3])
def test_convolution_is_torchs_circular_one_and_equivariant(d):
    plain = CONVOLUTIONS[d - 1](2, 3, 5, padding=2, padding_mode="circular", dtype=torch.float64)
    ours = set_padding_mode(CONVOLUTIONS[d - 1](2, 3, 5, padding=2, dtype=torch.float64), "circular")
    ours.load_state_dict(plain.state_dict())
    x = torch.randn(2, 2, *SIZES[d - 1], dtype=torch.float64)
    torch.testing.assert_close(ours(x), plain(x), rtol=1e-12, atol=1e-12)
    assert shift_error(ours, x) < 1e-14
    assert shift_error(set_padding_mode(ours, "zeros"), x) > 1e-2  # the control


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "extra", "dilation"),
    [
        (2, 2, 0, 0, 1),
        (3, 3, 0, 0, 1),
        (4, 2, 1, 0, 1),
        (3, 2, 1, 1, 1),
        (5, 2, 2, 1, 1),
        (1, 2, 0, 1, 1),
        (3, 3, 1, 0, 2),
    ],
)
def test_transposed_convolution_wraps(d, kernel, stride, padding, extra, dilation):
    """It is the adjoint of the strided circular convolution of the same weights, and so commutes with shifts."""
    up = TRANSPOSED[d - 1](3, 2, kernel, stride, padding, extra, bias=False, dilation=dilation, dtype=torch.float64)
    set_padding_mode(up, "circular")
    convolve = (F.conv1d, F.conv2d, F.conv3d)[d - 1]
    size = SIZES[d - 1]
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    y = torch.randn(2, 2, *(n * stride for n in size), dtype=torch.float64)

    def down(y):
        reach = dilation * (kernel - 1)
        padded = circular_pad(y, [(padding, reach)] * d)
        out = convolve(padded, up.weight, stride=stride, dilation=dilation)
        return out[(..., *(slice(0, n) for n in size))]

    assert up(x).shape == y.shape
    assert adjoint_error(up, down, x, y) < 1e-14
    for shifts in random_shifts(2, size, 3):
        moved = circular_shift(up(x), shifts * stride)
        torch.testing.assert_close(up(circular_shift(x, shifts)), moved, rtol=1e-12, atol=1e-12)


def test_what_cannot_wrap_is_refused():
    up = set_padding_mode(nn.ConvTranspose2d(1, 1, 3, 2), "circular")
    with pytest.raises(InputError, match="2 times larger"):
        up(torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="padding='same'"):
        set_padding_mode(nn.Conv2d(1, 1, 3, padding="same"), "circular")(torch.zeros(1, 1, 4, 4))
    with pytest.raises(InputError, match="circular, zeros"):
        set_padding_mode(up, "reflect")


def test_parameters_stay():
    conv = nn.Conv2d(2, 3, 3, padding=1)
    weight, keys = conv.weight, list(conv.state_dict())
    set_padding_mode(conv, "circular")
    assert conv.weight is weight
    assert list(conv.state_dict()) == keys
