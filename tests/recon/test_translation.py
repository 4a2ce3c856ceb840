"""Exact under every translation, between the pixels too: alias-free networks and the centroid, beside what is not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recon import AliasFreeUNet, Centred, InputError, MoDL, VarNet, ZeroFilledUNet
from recon.layers import plane_spectra, use_kernels
from recon.layers.spectrum import Product, resample
from recon.physics import mri
from recon.physics.movement import centroid, move_image, move_kspace, move_maps

WIDTHS = (4, 6, 8)
SIZES = [(64, 64), (96, 80), (24, 20)]  # the last with odd sides at its coarsest level


def awake(network, dtype=torch.float64):
    """With parameters as after a training: no last layer of zeros."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.to(dtype).eval()


def images(size, channels=2, batch=2):
    return torch.randn(batch, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def translate(x, shift):
    """Move band-limited planes by real numbers of pixels."""
    flat = resample(x, x.shape[2:]).flatten(0, 1)
    return move_image(flat, torch.tensor([shift]).expand(len(flat), 2)).view(x.shape)


SHIFTS = torch.rand(6, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64) * 40 - 20


@torch.no_grad()
def image_error(f, x):
    y = f(x)
    errors = []
    for shift in SHIFTS.tolist():
        moved = translate(y.double(), shift)
        errors.append(float((f(translate(x.double(), shift).to(x.dtype)) - moved).norm() / moved.norm()))
    return max(errors)


class Kept(nn.Module):
    """Product without the finer grid: the control that aliases."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        a, b = (w.view(-1, 1, 1) for w in (self.layer.linear, self.layer.product))
        return resample(x * (a + b * x.roll(1, 1)), x.shape[2:])


class Rectified(nn.Module):
    """ReLU on twice the sides: the control that is nearly right."""

    def __init__(self, _):
        super().__init__()

    def forward(self, x):
        return resample(F.relu(resample(x, [2 * n for n in x.shape[2:]])), x.shape[2:])


def alias_free():
    return awake(AliasFreeUNet(in_channels=2, out_channels=2, widths=WIDTHS))


def exchange(network, other):
    for block in (*network.encoders, *network.decoders):
        block.activation = other(block.activation)
    return network


@pytest.mark.parametrize("size", SIZES)
def test_the_alias_free_network_commutes_with_every_translation(size):
    x = images(size)
    assert image_error(alias_free(), x) < 1e-10
    assert image_error(alias_free().float(), x.float()) < 1e-4
    for control in (Kept, Rectified):
        assert image_error(exchange(alias_free(), control), x) > 1e-4


def test_large_planes_go_one_by_one_and_are_as_exact():
    assert image_error(alias_free(), images((112, 104), batch=1)) < 1e-10


@pytest.mark.parametrize("size", [(24, 20), (25, 30), (72, 70), (112, 100), (100, 113)])
@pytest.mark.parametrize("n_channels", [1, 2, 11])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_fast_form_is_the_plain_one(size, n_channels, dtype, monkeypatch):
    """By matrices, and some planes at a time, even sides and odd; outputs and gradients, also after inference mode."""
    monkeypatch.setattr(plane_spectra, "IN_CACHE", 80_000)
    results = []
    with torch.inference_mode():
        Product(n_channels)(torch.ones(1, n_channels, *size))
    for fast in (True, False):
        layer = Product(n_channels).to(dtype)
        with torch.no_grad():
            layer.linear.copy_(torch.linspace(-1, 2, n_channels))
            layer.product.copy_(torch.linspace(1, -0.3, n_channels))
        x = images(size, channels=n_channels).to(dtype).requires_grad_()
        with use_kernels(fast):
            outputs = [layer(x), resample(x, [2 * n for n in size]), resample(x, [n // 2 for n in size])]
            sum((y.sin() * n).sum() for n, y in enumerate(outputs, 1)).backward()
            with torch.no_grad():
                outputs.append(layer(x))
        results.append([*(y.detach() for y in outputs), x.grad, layer.linear.grad, layer.product.grad])
    limit = 1e-12 if dtype == torch.float64 else 1e-4
    for found, expected in zip(*results, strict=True):
        assert float((found - expected).norm() / expected.norm()) < limit


def test_the_gradient_is_that_of_differences():
    layer, x = Product(3).double(), images((100, 98), channels=3, batch=1).requires_grad_()
    direction = images((100, 98), channels=3, batch=1).flip(-1)
    (slope,) = torch.autograd.grad(layer(x).pow(3).sum(), x)
    with torch.no_grad():
        up, down = (layer(x + h * direction).pow(3).sum() for h in (1e-5, -1e-5))
    assert float((slope * direction).sum()) == pytest.approx(float(up - down) / 2e-5, rel=1e-6)


def test_in_16_bits_signals_are_kept_in_32():
    network = alias_free().float()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = network(images((24, 20)).float())
    with torch.no_grad():
        expected = network(images((24, 20)).float())
    assert float((found - expected).norm() / expected.norm()) < 0.1


@pytest.mark.parametrize(("spatial_dims", "size"), [(1, (40,)), (3, (8, 12, 16))])
def test_other_dimensions_by_whole_pixels(spatial_dims, size):
    f = awake(AliasFreeUNet(spatial_dims, widths=WIDTHS, residual=True))
    x = images(size, channels=1)
    dims, shift = tuple(range(2, 2 + spatial_dims)), (3, -5, 1)[:spatial_dims]
    with torch.no_grad():
        expected = f(x).roll(shift, dims)
        torch.testing.assert_close(f(x.roll(shift, dims)), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("n", [8, 9, 10, 15])
def test_a_product_on_three_halves_of_the_points_is_the_true_one(n):
    """Against products of the frequencies, one by one."""
    keep = (n - 1) // 2
    k = torch.arange(-keep, keep + 1)
    drawn = torch.randn(2, 2 * keep + 1, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    first, second = drawn + drawn.flip(1).conj()
    points = torch.arange(n, dtype=torch.float64) / n

    def signal(c):
        return (c * torch.exp(2j * torch.pi * points[:, None] * k)).sum(1).real

    multiplied = {int(j): 0.0 for j in k}
    for a, p in zip(first.tolist(), k.tolist(), strict=True):
        for b, q in zip(second.tolist(), k.tolist(), strict=True):
            if abs(p + q) <= keep:
                multiplied[p + q] += a * b
    expected = signal(torch.tensor([multiplied[int(j)] for j in k], dtype=torch.complex128))
    found = Product(2, linear=0.0, product=1.0).double()(torch.stack([signal(first), signal(second)])[None])
    torch.testing.assert_close(found[0], expected.expand(2, n), rtol=1e-11, atol=1e-11)


def test_resampling_there_and_back_is_nothing_and_leaves_out_the_nyquist_frequency():
    x = resample(images((10, 12)), (10, 12))
    torch.testing.assert_close(resample(resample(x, (15, 18)), (10, 12)), x)
    fastest = torch.tensor([1.0, -1.0]).repeat(6).expand(1, 1, 10, 12)
    assert resample(fastest, (10, 12)).abs().max() < 1e-6
    torch.testing.assert_close(resample(torch.full((1, 1, 4, 4), 3.0), (6, 8)), torch.full((1, 1, 6, 8), 3.0))


def test_the_network_starts_as_nothing_learns_and_refuses():
    f = AliasFreeUNet(widths=WIDTHS, residual=True)
    x = resample(images((24, 20), channels=1).float(), (24, 20))
    torch.testing.assert_close(f(x), x)
    f(x).square().sum().backward()
    assert f.head.weight.grad.abs().max() > 0
    with pytest.raises(InputError, match="height 22 is not a multiple of the total stride 4"):
        f(torch.zeros(1, 1, 22, 20))
    for settings in ({"widths": (4,)}, {"residual": True, "out_channels": 2}):
        with pytest.raises(InputError):
            AliasFreeUNet(**settings)
    for setting in ({"blur": 3}, {"criterion": "l2"}, {"padding": "zeros"}):
        with pytest.raises(InputError, match=f"alias_free has no {next(iter(setting))}"):
            VarNet(1, WIDTHS, None, sampling="alias_free", **setting)


# From k-space to the complex image


def acquisition(size, n_coils=1, batch=2):
    """An object in a field of view, undersampled: k-space of all columns, and a mask with calibration lines."""
    rows, columns = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in size)
    envelope = torch.exp(-8 * (rows[:, None] ** 2 + columns**2))
    generator = torch.Generator().manual_seed(3)
    image = torch.randn(batch, n_coils, *size, dtype=torch.complex128, generator=generator) * envelope
    mask = torch.rand(size[1], generator=generator) < 0.4
    mask[size[1] // 2 - 4 : size[1] // 2 + 4] = True
    return mri.fft2c(image + envelope), mask


@torch.no_grad()
def chain_error(f, size, dtype=torch.complex128, n_coils=1, shifts=SHIFTS):
    full, mask = acquisition(size, n_coils)
    full = full.to(dtype)
    before = f(mri.apply_mask(full, mask), mask)
    errors = []
    for shift in shifts:
        shift = shift.expand(len(full), 2)
        moved = move_image(before.to(torch.complex128) if before.is_complex() else before.double(), shift)
        errors.append(float((f(mri.apply_mask(move_kspace(full, shift), mask), mask) - moved).norm() / moved.norm()))
    return max(errors)


UNROLLED = {
    "VarNet": lambda **settings: VarNet(2, WIDTHS, None, **settings),
    "MoDL": lambda **settings: MoDL(2, 4, WIDTHS, None, **settings),
    "ZeroFilledUNet": lambda **settings: ZeroFilledUNet(WIDTHS, None, **settings),
}
UNROLLED_NETWORKS = pytest.mark.parametrize("build", UNROLLED.values(), ids=UNROLLED)


@UNROLLED_NETWORKS
@pytest.mark.parametrize("size", SIZES[1:])
def test_unrolled_alias_free_networks_are_exact_under_any_movement_before_the_acquisition(build, size):
    assert chain_error(awake(build(sampling="alias_free")), size) < 1e-10
    assert chain_error(awake(build(sampling="alias_free"), torch.float32), size, torch.complex64) < 1e-4
    assert chain_error(awake(build(sampling="aps")), size) > 1e-4


@UNROLLED_NETWORKS
@pytest.mark.parametrize("size", SIZES[1:])
def test_any_network_centred_is_exact_under_any_movement(build, size):
    plain = awake(build(sampling="stride"))
    assert chain_error(Centred(plain), size) < 1e-10
    assert chain_error(plain, size) > 1e-4
    assert chain_error(Centred(plain.float()), size, torch.complex64) < 1e-3, "its phase is ill-conditioned near 0"
    kept = awake(build(sampling="stride", phase_correction=False), torch.float32)
    assert chain_error(Centred(kept), size, torch.complex64) < 1e-4


class Strange(nn.Module):
    """Somebody's network: depends on the place, on odd sides too, and gives a real image if asked."""

    def __init__(self, real):
        super().__init__()
        self.real = real

    def forward(self, kspace, mask):
        image = mri.ifft2c(kspace).sum(1)
        image = image * torch.linspace(0, 1, image.shape[-1], dtype=torch.float64)
        return image.abs() if self.real else image


@pytest.mark.parametrize("size", [(21, 33), (20, 33), (24, 20)])
@pytest.mark.parametrize("real", [False, True])
def test_centred_takes_other_peoples_networks_odd_sides_real_images_and_coils(size, real):
    assert chain_error(Strange(real), size, n_coils=3) > 1e-2
    assert chain_error(Centred(Strange(real)), size, n_coils=3) < 1e-10


def test_the_centroid_is_the_circular_mean_of_the_energy_and_its_margin_says_how_sure_it_is():
    size = (32, 48)
    image = torch.zeros(2, 1, *size, dtype=torch.complex128)
    image[0, 0, 20, 7] = 1.0  # a point: its place
    image[1, 0, :, 24] = 1.0  # a line along the rows: no place in that axis
    full = torch.ones(size[1], dtype=torch.bool)
    place, margin = centroid(mri.fft2c(image), full)
    torch.testing.assert_close(place[0], torch.tensor([20.0 - 16, 7.0 - 24], dtype=torch.float64))
    assert (margin[0] > 0.9).all()
    assert margin[1, 0] < 1e-12
    assert place[1, 1] == pytest.approx(0, abs=1e-12)
    assert not centroid(torch.zeros(1, 1, 8, 8, dtype=torch.complex64), full[:8])[1].any()
    with pytest.raises(InputError, match="no calibration lines"):
        centroid(mri.fft2c(image), torch.arange(size[1]) < 3)


def test_movements_of_samples_are_those_of_one():
    kspace, _ = acquisition((20, 24))
    expected = torch.stack([mri.move_object(k, s) for k, s in zip(kspace, [(0.5, -3.25), (2.0, 1.0)], strict=True)])
    torch.testing.assert_close(move_kspace(kspace, torch.tensor([[0.5, -3.25], [2.0, 1.0]])), expected)


def test_centred_learns():
    f = Centred(VarNet(1, (4, 6), None, sampling="stride"))
    full, mask = acquisition((24, 20))
    f(full.to(torch.complex64), mask).abs().square().sum().backward()
    assert all(p.grad is not None for p in f.parameters())


@torch.no_grad()
def test_centred_takes_given_maps_along():
    full, mask = acquisition((24, 20), n_coils=3)
    maps = move_kspace(full, torch.zeros(2, 2)).roll(1, 0)  # of any phase and place
    maps = maps / mri.rss(maps, 1).unsqueeze(1)
    shift = torch.tensor([[3.5, -1.25], [0.3, 2.0]], dtype=torch.float64)
    moved = move_kspace(full, shift)
    for f, exact in (
        (Centred(awake(VarNet(1, WIDTHS, None, sampling="stride"))), True),
        (awake(VarNet(1, WIDTHS, None, sampling="stride")), False),
    ):
        before = f(mri.apply_mask(full, mask), mask, maps)
        after = f(mri.apply_mask(moved, mask), mask, move_maps(maps, shift))
        assert bool((after - move_image(before, shift)).norm() < 1e-10 * after.norm()) is exact
