"""The smooth phase of an image: found again where it is known, moving along, and a network's image freed of it."""

from __future__ import annotations

import pytest
import torch

from data_prep.fastmri.simulation import coil_maps as simulated_coils
from recon.errors import InputError
from recon.networks import MoDL, VarNet
from recon.physics import coil_maps, mri
from recon.physics import image_phase as physics_phase
from recon.physics.image_phase import band_limited_phase, image_phase, resample_complex, times_phase
from recon.physics.movement import move_image

ROWS, COLUMNS = 48, 64
MASK = (torch.arange(COLUMNS) - COLUMNS // 2).abs() < 6


def waves(*angles):
    """exp(i phi), phi a smooth function of the place, one image for each angle at its most."""
    y, x = torch.linspace(-1, 1, ROWS, dtype=torch.float64)[:, None], torch.linspace(-1, 1, COLUMNS)
    return torch.stack([torch.polar(torch.ones_like(y * x), a * (y + x * y - 0.5 * x)) for a in angles])


def magnitude():
    """Positive, and as good as nothing at the border."""
    y, x = torch.linspace(-1, 1, ROWS, dtype=torch.float64)[:, None], torch.linspace(-1, 1, COLUMNS)
    return torch.exp(-6 * (y**2 + x**2)) * (1 + 0.2 * torch.sin(9 * x) * torch.cos(7 * y))


def test_a_smooth_phase_is_found_and_a_rough_one_is_not():
    object_ = magnitude()
    inside = object_ > 0.1
    for angle, bound in ((0.0, 1e-12), (0.5, 0.18), (1.0, 0.35)):
        phase = waves(angle)
        kspace = mri.apply_mask(mri.fft2c(object_ * phase)[:, None], MASK)
        assert (image_phase(kspace, MASK) * phase.conj()).angle()[:, inside].abs().max() < bound
    rough = waves(60.0)
    found = image_phase(mri.apply_mask(mri.fft2c(object_ * rough)[:, None], MASK), MASK)
    assert (found * rough.conj()).angle()[:, inside].abs().max() > 1, "control"


def test_several_coils_and_one_mask_per_sample():
    maps = waves(0.3, 0.8, -0.5) / 3**0.5
    phase = waves(0.4, -0.7)
    kspace = mri.fft2c(maps * (magnitude() * phase)[:, None])
    masks = torch.stack([MASK, MASK.roll(2) & MASK])
    found = image_phase(mri.apply_mask(kspace, masks[:, None, None]), masks, maps)
    alone = [image_phase(mri.apply_mask(kspace[i : i + 1], masks[i]), masks[i], maps)[0] for i in range(2)]
    torch.testing.assert_close(found, torch.stack(alone))
    assert (found * phase.conj()).angle()[:, magnitude() > 0.2].abs().max() < 0.25
    with pytest.raises(InputError, match="3 coils cannot be combined without maps"):
        image_phase(kspace, MASK)


def test_it_moves_along_by_whole_pixels():
    kspace = mri.fft2c(magnitude() * waves(0.7))[:, None]
    before = image_phase(kspace, MASK)
    for shift, exact in (((5, -9), True), ((0.5, 0.25), False)):
        moved = image_phase(mri.move_object(kspace, shift), MASK)
        whole = before.roll([round(part) for part in shift], (-2, -1))
        assert torch.allclose(moved, whole, atol=1e-9) is exact
    torch.testing.assert_close(before.abs(), torch.ones_like(before.real))
    assert torch.equal(image_phase(torch.zeros_like(kspace), MASK), torch.ones_like(kspace[:, 0]))


def of_an_empty_background(maps, **settings):
    """|f(T k) - T f(k)| / |f(k)| in float32, of an object with nothing around it, not even noise."""
    n, shift = 64, (5, -9)
    y, x = torch.linspace(-1, 1, n)[:, None], torch.linspace(-1, 1, n)
    object_ = ((x / 0.6) ** 2 + (y / 0.8) ** 2 < 1) * (
        1 + 0.3 * torch.rand(n, n, generator=torch.Generator().manual_seed(1))
    )
    image = torch.polar(object_, 1.2 * (x + y * x))[None, None]
    if maps:
        image = image * torch.as_tensor(simulated_coils(4, n, n)).to(torch.complex64)
    u = torch.arange(n) - n // 2
    mask = (u % 4 == 0) | ((u >= -5) & (u < 5))
    torch.manual_seed(0)
    network = VarNet(2, (8, 16), (4, 8), maps=maps or "learned", **settings).eval()
    with torch.no_grad():
        kspace = mri.fft2c(image)
        before = network(mri.apply_mask(kspace, mask), mask).roll(shift, (-2, -1))
        after = network(mri.apply_mask(mri.move_object(kspace, shift), mask), mask)
    return float((after - before).norm() / before.norm())


@pytest.mark.parametrize("maps", [None, "learned", "espirit"])
def test_rounding_decides_nothing_where_there_is_no_object(maps):
    assert of_an_empty_background(maps) < 1e-5


@pytest.mark.parametrize(
    ("module", "name", "maps", "phase"), [(physics_phase, "FLOOR", None, True), (coil_maps, "START", "espirit", False)]
)
def test_without_what_is_added_it_does(module, name, maps, phase, monkeypatch):
    error = of_an_empty_background(maps, phase_correction=phase)
    monkeypatch.setattr(module, name, 0.0)
    assert of_an_empty_background(maps, phase_correction=phase) > 10 * error


def finely(angle, n=160):
    """An object on a grid fine enough for the polynomial, with a smooth phase that is 0 at the angle 0: both."""
    y = x = torch.linspace(-1, 1, n + 1, dtype=torch.float64)[:-1]
    image = torch.exp(-6 * (y[:, None] ** 2 + x**2)) * (1 + 0.2 * torch.sin(9 * x) * torch.cos(7 * y[:, None]))
    return image, torch.polar(torch.ones_like(image), angle * (torch.sin(3 * y[:, None]) + x * y[:, None]))


CALIBRATION = (torch.arange(160) - 80).abs() < 8


def test_the_band_limited_phase_is_near_it_where_there_is_something():
    image, phase = finely(0.6)
    kspace = mri.apply_mask(mri.fft2c(image * phase)[None, None], CALIBRATION)
    found = resample_complex(band_limited_phase(kspace, CALIBRATION), image.shape)[0]
    inside = image > 0.2
    assert (found * phase.conj()).angle()[inside].abs().max() < 0.35
    assert phase.angle()[inside].abs().max() > 0.6, "the control"
    assert (found.abs()[inside] - 1).abs().max() < 0.03
    spectrum = torch.fft.fft2(band_limited_phase(kspace, CALIBRATION)[0]).abs()
    assert float(spectrum[80:160].max() / spectrum.max()) < 1e-12, "nothing above the Nyquist frequency"
    measured = mri.ifft2c(kspace)[:, 0]
    nearly_real = times_phase(band_limited_phase(kspace, CALIBRATION).conj(), measured)
    assert nearly_real.imag.norm() < 0.2 * nearly_real.norm()
    assert measured.imag.norm() > 0.25 * measured.norm(), "the control"


@pytest.mark.parametrize("shift", [(5.0, -9.0), (0.5, 0.25), (-3.3, 7.9)])
def test_the_band_limited_phase_moves_along_by_everything(shift):
    by = torch.tensor([shift], dtype=torch.float64)
    image, phase = finely(0.6)
    kspace = mri.fft2c(image * phase * torch.linspace(-1, 1, 160).mul(9).sin())[None, None]  # through 0, too
    moved = mri.move_object(kspace, shift)
    before, after = (band_limited_phase(k, CALIBRATION) for k in (kspace, moved))
    torch.testing.assert_close(after, move_image(before, 1.5 * by), rtol=0, atol=1e-10)
    unlimited = [image_phase(k, CALIBRATION) for k in (kspace, moved)]
    error = float((unlimited[1] - move_image(unlimited[0], by)).abs().max())
    assert (error < 1e-10) is all(part == int(part) for part in shift), "control"


@pytest.mark.parametrize("size", [(8, 12), (16, 20), (48, 40), (64, 300), (128, 128)])
def test_on_small_images_it_is_band_limited_too(size):
    """Of lower degree: still exact, and no wider than the band; and 0 where nothing was measured, without nan."""
    kspace = torch.randn(2, 1, *size, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    kspace[1] = 0
    full = torch.ones(size[1], dtype=torch.bool)
    by = torch.tensor([[0.4, -2.7]], dtype=torch.float64)
    before, after = (band_limited_phase(k, full) for k in (kspace, mri.move_object(kspace, by[0].tolist())))
    torch.testing.assert_close(after, move_image(before, 1.5 * by.expand(2, 2)), rtol=0, atol=1e-10)
    assert before.isfinite().all()
    assert before[0].abs().max() > 0.5


@pytest.mark.parametrize("sampling", ["aps", "alias_free"])
def test_an_empty_slice_has_a_gradient(sampling):
    """Beside another one, through learned maps and without."""
    for n_coils, maps_widths in ((1, None), (3, (4, 6))):
        network = VarNet(1, (4, 6), maps_widths, sampling=sampling)
        kspace = torch.randn(2, n_coils, 24, 32, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        kspace[1] = 0
        network(kspace, torch.ones(32, dtype=torch.bool)).abs().square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


def test_a_phase_on_a_finer_grid_multiplies_without_aliasing():
    draw = torch.randn(2, 20, 24, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    phase, image = (resample_complex(x[None], (20, 24)) for x in draw)  # without their Nyquist frequency
    expected = resample_complex(resample_complex(phase, (80, 96)) * resample_complex(image, (80, 96)), (20, 24))
    found = times_phase(resample_complex(phase, (30, 36)), image)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    assert (resample_complex(phase * image, (20, 24)) - expected).norm() > 0.1 * expected.norm(), "control"
    assert torch.equal(times_phase(phase, image), phase * image), "on the same grid as it is"


@pytest.mark.parametrize("build", [VarNet, MoDL])
def test_networks_see_a_nearly_real_image_and_give_back_its_phase(build):
    """An object without a phase and the same with one are one image to the network, but for what the mask left."""
    torch.manual_seed(0)
    settings = {"maps_widths": None, "widths": (4, 6), "phase_correction": True}
    network = build(2, **settings).double().eval()
    plain, turned = (mri.fft2c(magnitude() * waves(angle))[:, None] for angle in (0.0, 0.5))
    full = torch.ones(COLUMNS, dtype=torch.bool)
    kept = build(2, **settings | {"phase_correction": False}).double().eval()
    kept.load_state_dict(network.state_dict())
    with torch.no_grad():
        differences = [f(turned, full) - waves(0.5) * f(plain, full) for f in (network, kept)]
    assert differences[0].norm() < differences[1].norm() / 3, "control: the phase kept"
