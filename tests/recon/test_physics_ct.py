"""recon.physics.ct against sinograms known in closed form, ASTRA and scikit-image."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.transform import iradon

from benchmarks import tomography as benchmark
from recon.errors import InputError
from recon.physics import ct
from recon.physics.ct import LODOPAB, MU_AIR, MU_MAX, MU_WATER, ParallelBeam, back_projection, fbp, ray_transform
from tests.recon.ct_cases import SMALL, disc, draw, gaussian, grid, image_like, relative, sinogram_like


def test_lodopab_is_the_published_geometry():
    assert LODOPAB.pixel_size == (0.26 / 362, 0.26 / 362)
    assert LODOPAB.detector_extent == pytest.approx(2 * math.hypot(0.13, 0.13))
    assert LODOPAB.detectors[[0, -1]].tolist() == pytest.approx([-0.18348939, 0.18348939])  # as ODL prints them
    assert LODOPAB.detectors[256] == 0
    assert (LODOPAB.angles * 1000 / math.pi)[[0, 1, -1]].tolist() == pytest.approx([0.5, 1.5, 999.5])


@pytest.mark.parametrize(("geometry", "limit"), [(SMALL, 4e-3), (LODOPAB, 2e-4)], ids=["small", "LoDoPaB"])
def test_ray_transform_of_a_gaussian(geometry, limit):
    image, sinogram = gaussian(geometry)
    assert relative(ray_transform(image, geometry), sinogram) < limit


@pytest.mark.parametrize(("geometry", "limit"), [(SMALL, 2.5e-2), (LODOPAB, 4e-3)], ids=["small", "LoDoPaB"])
def test_ray_transform_of_a_disc(geometry, limit):
    image, sinogram = disc(geometry)
    measured = ray_transform(image, geometry)
    assert relative(measured, sinogram) < limit
    mass = measured.sum(1) * geometry.detector_spacing
    torch.testing.assert_close(mass, torch.full_like(mass, 20 * math.pi * 0.06**2), rtol=2e-3, atol=0)


@pytest.mark.parametrize(("geometry", "limit"), [(SMALL, 8e-3), (LODOPAB, 3e-4)], ids=["small", "LoDoPaB"])
def test_fbp_gives_back_a_smooth_phantom_in_its_unit(geometry, limit):
    image, sinogram = gaussian(geometry)
    assert relative(fbp(sinogram, geometry), image) < limit
    assert relative(fbp(sinogram.float(), geometry), image) < limit


def test_fbp_gives_back_the_value_inside_a_disc():
    x, y = grid(LODOPAB)
    inside = (x - 0.02) ** 2 + (y + 0.04) ** 2 < 0.05**2
    values = fbp(disc(LODOPAB, finer=1)[1], LODOPAB)[inside]
    assert abs(values.mean() - 20) < 1e-4
    assert values.std() < 2e-3


@pytest.fixture
def _astra():
    pytest.importorskip("astra", reason="astra-toolbox has no package for this machine")


@pytest.mark.usefixtures("_astra")
def test_ray_transform_equals_astra():
    image = image_like(SMALL, dtype=torch.float32)
    assert relative(ray_transform(image, SMALL), benchmark.astra_projection(image.numpy(), SMALL)) < 1e-5


@pytest.mark.parametrize(("geometry", "limit"), [(SMALL, 2e-2), (LODOPAB, 6e-3)], ids=["small", "LoDoPaB"])
@pytest.mark.usefixtures("_astra")
def test_fbp_equals_astra(geometry, limit):
    image, sinogram = gaussian(geometry)
    ours, theirs = fbp(sinogram, geometry), benchmark.astra_fbp(sinogram.float().numpy(), geometry)
    assert relative(ours, theirs) < limit
    assert relative(ours, image) < relative(theirs, image)  # the difference is the other's error


@pytest.mark.parametrize(
    ("window", "name"), [("ram-lak", "ramp"), ("shepp-logan",) * 2, ("cosine",) * 2, ("hann",) * 2]
)
def test_fbp_equals_scikit_image(window, name):
    # its detectors are as wide as its pixels, and its angles count from our columns' axis
    geometry = ParallelBeam(61, 61, (61.0, 61.0), 90, 61, 61.0)
    sinogram = gaussian(geometry, centre=(5.0, -8.0), sigma=3.0)[1]
    degrees = np.rad2deg(geometry.angles.numpy()) - 90
    theirs = iradon(sinogram.numpy().T, degrees, output_size=61, filter_name=name, circle=False)
    assert relative(fbp(sinogram, geometry, window), theirs) < 5e-3


RESPONSES = {
    "ram-lak": lambda f, c: torch.ones_like(f),
    "shepp-logan": lambda f, c: torch.sin(math.pi * f / (2 * c)) / (math.pi * f / (2 * c)),
    "cosine": lambda f, c: torch.cos(math.pi * f / (2 * c)),
    "hann": lambda f, c: torch.cos(math.pi * f / (2 * c)) ** 2,
}


@pytest.mark.parametrize("scaling", [1.0, 0.641])
@pytest.mark.parametrize("window", ct.WINDOWS)
def test_frequency_response(window, scaling):
    n, cut = 4096, scaling / 2
    frequency = torch.linspace(0.001, 0.499, 200, dtype=torch.float64)
    frequency = frequency[(frequency - cut).abs() > 0.02]  # "ram-lak" and "shepp-logan" jump there
    taps = ct.ramp_taps(n, window, scaling)
    waves = torch.cos(2 * math.pi * frequency[:, None] * torch.arange(1, n, dtype=torch.float64))
    expected = torch.where(frequency < cut, frequency * RESPONSES[window](frequency, cut), 0.0)
    torch.testing.assert_close(taps[0] + 2 * waves @ taps[1:], expected, rtol=0, atol=2e-3)


def test_ramp_is_that_of_kak_and_slaney():
    taps = ct.ramp_taps(6)
    expected = [0.25, -1 / math.pi**2, 0, -1 / (3 * math.pi) ** 2, 0, -1 / (5 * math.pi) ** 2]
    torch.testing.assert_close(taps, torch.tensor(expected, dtype=torch.float64), atol=1e-15, rtol=0)


@pytest.mark.parametrize("windows", [("ram-lak", "shepp-logan", "cosine", "hann")])
def test_windows_smooth_more_and_more(windows):
    noise = draw(SMALL.n_angles, SMALL.n_detectors) - 0.5
    spread = [float(fbp(noise, SMALL, window).std()) for window in windows]
    assert spread == sorted(spread, reverse=True)
    assert fbp(noise, SMALL, "hann", 0.5).std() < spread[-1]


def test_the_compiler_is_loaded_where_it_is_needed():
    code = "import sys, recon.physics.ct; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_hounsfield_units():
    hu = torch.tensor([-1000.0, 0.0, 3071.0], dtype=torch.float64)
    expected = torch.tensor([MU_AIR, MU_WATER, 81.35858], dtype=torch.float64)
    torch.testing.assert_close(ct.hu_to_attenuation(hu), expected, rtol=0, atol=1e-12)
    assert pytest.approx(81.35858) == MU_MAX
    hu = torch.linspace(-1024, 3071, 4096)
    torch.testing.assert_close(ct.attenuation_to_hu(ct.hu_to_attenuation(hu)), hu, rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_photon_noise_has_poisson_counts(dtype):
    sinogram = torch.tensor([0.0, 1.0, 4.0], dtype=dtype).repeat_interleave(40000).reshape(3, 200, 200)
    noisy = ct.photon_noise(sinogram, np.random.default_rng(0))
    assert noisy.dtype == dtype
    counts, expected = 4096 * torch.exp(-noisy.double()), 4096 * torch.exp(-sinogram[:, 0, 0].double())
    assert (counts - counts.round()).abs().max() < (1e-2 if dtype == torch.float32 else 1e-9)
    torch.testing.assert_close(counts.mean((1, 2)), expected, rtol=3e-3, atol=0)
    torch.testing.assert_close(counts.var((1, 2)), expected, rtol=3e-2, atol=0)


def test_photon_noise_without_a_photon():
    noisy = ct.photon_noise(torch.full((50, 50), 12.0), np.random.default_rng(0))
    values, n = noisy.unique(return_counts=True)
    torch.testing.assert_close(values[-1], torch.tensor(math.log(4096 / 0.1)))
    assert n[-1] / 2500 == pytest.approx(math.exp(-4096 * math.exp(-12)), abs=0.02)


def test_photon_noise_is_the_generators():
    sinogram = sinogram_like(SMALL)
    draws = [ct.photon_noise(sinogram, np.random.default_rng(seed), 1000) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ray_transform(torch.ones(60, 61), SMALL), r"image \(60, 61\) .* needs \(\.\.\., 60, 60\)"),
        (lambda: ray_transform(torch.ones(60), SMALL), "does not fit"),
        (lambda: ray_transform(torch.ones(60, 60, dtype=torch.int16), SMALL), r"torch\.int16.*float32"),
        (lambda: back_projection(torch.ones(87, 90), SMALL), r"sinogram .* needs \(\.\.\., 90, 87\)"),
        (lambda: fbp(torch.ones(90, 87, dtype=torch.float16), SMALL), r"float16.*make it torch\.float32"),
        (lambda: fbp(torch.ones(90, 87), SMALL, "han"), "did you mean 'hann'"),
        (lambda: fbp(torch.ones(90, 87), SMALL, "hann", 0.0), r"frequency_scaling 0\.0 is not in \(0, 1\]"),
        (lambda: fbp(torch.ones(90, 87), SMALL, "hann", math.nan), "frequency_scaling nan"),
        (lambda: replace(SMALL, rows=0), "at least 1"),
        (lambda: replace(SMALL, extent=(0.26, 0.0)), "above 0 m"),
        (lambda: replace(SMALL, detector_extent=math.inf), "above 0 m"),
        (lambda: ct.photon_noise(torch.tensor([math.nan]), np.random.default_rng(0)), "not finite"),
        (lambda: ct.photon_noise(torch.ones(1), np.random.default_rng(0), 0), "n_photons 0 is not positive"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InputError, match=says):
        call()


def test_phantom_of_the_benchmark():
    some = benchmark.phantom(SMALL, seed=3)
    image = some.image(SMALL)
    assert relative(ray_transform(image, SMALL), some.sinogram(SMALL)) < 2e-2
    assert relative(some.image(SMALL, offset=1.0)[:-1, :-1], image[1:, 1:]) < 1e-12


def test_benchmark(capsys, monkeypatch):
    small = ["--size=40", "--slices=2", "--theirs=1", "--repeats=1", "--phantoms=1"]
    assert benchmark.main(small) == 0
    assert "projection, scikit-image" in capsys.readouterr().out
    assert benchmark.main(["--repeats=0"]) == 2
    monkeypatch.setattr(benchmark, "measure", lambda *_: {})
    monkeypatch.setattr(benchmark, "quality", lambda *_: {"ours": 20.0, "ASTRA": 21.0})
    assert benchmark.main(small) == 1
    assert "better than ours" in capsys.readouterr().err
