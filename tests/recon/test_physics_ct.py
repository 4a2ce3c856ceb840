"""recon.physics.ct against sinograms known in closed form, ASTRA and scikit-image, and the laws of linear maps."""

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.transform import iradon
from torch.utils.data import DataLoader

from benchmarks import tomography as benchmark
from recon.errors import InputError
from recon.kernels import tomography_cpu, tomography_reference
from recon.layers import use_kernels
from recon.physics import ct
from recon.physics.ct import LODOPAB, MU_AIR, MU_MAX, MU_WATER, ParallelBeam, back_projection, fbp, ray_transform
from recon.physics.geometry import joseph_footprint, linear_footprint
from tests.properties import adjoint_error

SMALL = ParallelBeam(60, 60, (0.26, 0.26), 90, 87, math.hypot(0.26, 0.26))
GEOMETRIES = {
    "square": SMALL,
    "oblong pixels": ParallelBeam(20, 31, (1.5, 1.1), 17, 41, 2.2),
    "short detector": ParallelBeam(24, 16, (1.2, 0.8), 16, 9, 0.5),
    "coarse detector": ParallelBeam(40, 40, (1.0, 1.0), 13, 8, 1.5),
    "fine detector": ParallelBeam(6, 5, (1.0, 1.0), 13, 60, 1.5),
    "one of each": ParallelBeam(1, 1, (0.1, 0.2), 1, 1, 0.1),
}
FOOTPRINTS = {"Joseph": joseph_footprint, "linear": linear_footprint}
DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request):
    torch.set_num_threads(request.param)


def draw(*shape, dtype=torch.float64, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def image_like(geometry, batch=(), **options):
    return draw(*batch, geometry.rows, geometry.columns, **options)


def sinogram_like(geometry, batch=(), **options):
    return draw(*batch, geometry.n_angles, geometry.n_detectors, **options)


def relative(actual, expected):
    actual, expected = (torch.as_tensor(x, dtype=torch.float64) for x in (actual, expected))
    assert actual.shape == expected.shape
    return float((actual - expected).norm() / expected.norm())


def grid(geometry):
    """The pixel centres: x ``(rows, 1)`` and y ``(columns,)`` in metres."""
    x, y = (
        (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * size
        for n, size in zip((geometry.rows, geometry.columns), geometry.pixel_size, strict=True)
    )
    return x[:, None], y


def distance(geometry, centre):
    """From each ray to a point: ``(angles, detectors)``."""
    angles = geometry.angles[:, None]
    return geometry.detectors - centre[0] * angles.cos() - centre[1] * angles.sin()


def gaussian(geometry, centre=(0.03, -0.05), sigma=0.02, mu=20.0):
    """A smooth phantom in 1/m and its line integrals."""
    x, y = grid(geometry)
    image = mu * torch.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * sigma**2))
    peak = mu * sigma * math.sqrt(2 * math.pi)
    return image, peak * torch.exp(-(distance(geometry, centre) ** 2) / (2 * sigma**2))


def disc(geometry, centre=(0.02, -0.04), radius=0.06, mu=20.0, finer=8):
    """A disc, each pixel the mean over finer x finer points, and its line integrals (chords)."""
    x, y = grid(replace(geometry, rows=geometry.rows * finer, columns=geometry.columns * finer))
    inside = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2).double()
    image = mu * torch.nn.functional.avg_pool2d(inside[None], finer)[0]
    return image, 2 * mu * (radius**2 - distance(geometry, centre) ** 2).clamp(min=0).sqrt()


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


@pytest.mark.parametrize(("dtype", "limit"), DTYPES)
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_back_projection_is_the_adjoint(geometry, dtype, limit):
    image, sinogram = image_like(geometry, (3,), dtype=dtype), sinogram_like(geometry, (3,), dtype=dtype, seed=1)
    pair = (lambda x: ray_transform(x, geometry), lambda y: back_projection(y, geometry))
    assert adjoint_error(*pair, image, sinogram) < limit


def test_back_projection_of_fbp_is_not_the_adjoint():  # the control, which fails the test above
    exact, other = joseph_footprint(SMALL), linear_footprint(SMALL)
    other = other._replace(scale=exact.scale * exact.width)  # both triangles with the same area
    pair = (lambda x: ray_transform(x, SMALL), lambda y: tomography_cpu.transpose(y[None], other)[0])
    assert adjoint_error(*pair, image_like(SMALL), sinogram_like(SMALL, seed=1)) > 1e-5


@pytest.mark.parametrize("footprint", FOOTPRINTS.values(), ids=FOOTPRINTS)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_kernels_equal_the_plain_form(geometry, dtype, limit, footprint, monkeypatch):
    monkeypatch.setattr(tomography_reference, "CHUNK", 5000)  # some angles at a time
    image, sinogram = image_like(geometry, (2,), dtype=dtype), sinogram_like(geometry, (2,), dtype=dtype)
    for name, x in (("project", image), ("transpose", sinogram)):
        expected = getattr(tomography_reference, name)(x, footprint(geometry))
        for n in (1, 2):
            actual = getattr(tomography_cpu, name)(x[:n], footprint(geometry))
            assert actual.dtype == expected.dtype == dtype
            if expected.any():
                assert relative(actual, expected[:n]) < limit
    taps = ct.ramp_taps(geometry.n_detectors)
    assert relative(tomography_cpu.convolve(sinogram, taps), tomography_reference.convolve(sinogram, taps)) < limit


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu():
    image, sinogram = image_like(SMALL, (2,)), sinogram_like(SMALL, (2,))
    for function, x in ((ray_transform, image), (back_projection, sinogram), (fbp, sinogram)):
        found = function(x.cuda(), SMALL)
        assert found.is_cuda
        assert relative(found.cpu(), function(x, SMALL)) < 1e-12


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [ray_transform, back_projection, fbp])
@pytest.mark.usefixtures("_threads")
def test_slice_does_not_depend_on_its_batch(function, dtype):
    geometry = GEOMETRIES["oblong pixels"]
    like = image_like if function is ray_transform else sinogram_like
    batch = like(geometry, (37,), dtype=dtype)  # one full block of lanes and a part of one
    whole = function(batch, geometry)
    for part in (slice(0, 1), slice(5, 6), slice(3, 36), slice(30, 37)):
        assert torch.equal(function(batch[part], geometry), whole[part])
    torch.set_num_threads(3)
    assert torch.equal(function(batch, geometry), whole)


@pytest.mark.parametrize("function", [ray_transform, back_projection, fbp])
def test_leading_dimensions_and_layout(function):
    geometry = GEOMETRIES["oblong pixels"]
    like = image_like if function is ray_transform else sinogram_like
    batch = like(geometry, (2, 3))
    whole = function(batch, geometry)
    assert whole.shape[:2] == (2, 3)
    assert torch.equal(function(batch[1, 2], geometry), whole[1, 2])
    assert function(batch[:0], geometry).shape == (0, *whole.shape[1:])
    assert torch.equal(function(batch.mT.contiguous().mT, geometry), whole)
    assert torch.equal(function(batch.transpose(0, 1), geometry), whole.transpose(0, 1))
    negative_view = torch.complex(torch.zeros_like(batch), -batch).conj().imag
    assert torch.equal(function(negative_view, geometry), whole)


def test_bad_values_spoil_their_slice_only():
    images = image_like(SMALL, (3,))
    wanted = ray_transform(images, SMALL)
    images[1, 30, 30] = math.nan
    found = ray_transform(images, SMALL)
    assert found[1].isnan().any()
    assert torch.equal(found[[0, 2]], wanted[[0, 2]])


@pytest.mark.parametrize("function", [ray_transform, back_projection, fbp])
def test_gradients(function):
    geometry = ParallelBeam(4, 5, (0.8, 1.0), 3, 7, 1.2)
    like = image_like if function is ray_transform else sinogram_like
    x = like(geometry, (2,)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(x, geometry), x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, geometry) ** 2, x)


def test_gradient_is_the_back_projection():
    image = image_like(SMALL).requires_grad_()
    weights = sinogram_like(SMALL, seed=1)
    (ray_transform(image, SMALL) * weights).sum().backward()
    assert torch.equal(image.grad, back_projection(weights, SMALL))


class _Projections:
    def __len__(self):
        return 2

    def __getitem__(self, index):
        torch.set_num_threads(2)
        return ray_transform(image_like(SMALL, (2,), seed=index), SMALL)


def test_kernels_run_in_a_forked_worker():
    torch.set_num_threads(2)
    expected = [_Projections()[index] for index in range(2)]
    loader = DataLoader(_Projections(), batch_size=None, num_workers=1, multiprocessing_context="fork")
    for found, wanted in zip(loader, expected, strict=True):
        assert torch.equal(found, wanted)


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


MAPS = {"ray_transform": ray_transform, "back_projection": back_projection, "fbp": fbp}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, in forward mode
@pytest.mark.parametrize("use", [True, False], ids=["kernels", "plain"])
@pytest.mark.parametrize("name", MAPS)
def test_torch_func_on_the_scanner(name, use):
    geometry = ParallelBeam(5, 6, (0.1, 0.1), 4, 7, 0.15)
    size = (5, 6) if name == "ray_transform" else (4, 7)
    x, tangent = draw(2, 3, *size), draw(2, 3, *size, seed=1)

    def f(x):
        return MAPS[name](x, geometry)

    with use_kernels(use):
        y, along = torch.func.jvp(f, (x,), (tangent,))
        torch.testing.assert_close(y, f(x), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(along, f(tangent), rtol=1e-12, atol=1e-14)  # linear
        torch.testing.assert_close(torch.func.vmap(f, 1, 1)(x), f(x), rtol=1e-12, atol=1e-14)
        sample = x[0, 0].clone().requires_grad_()
        torch.testing.assert_close(torch.func.jacrev(f)(sample), torch.func.jacfwd(f)(sample), rtol=1e-9, atol=1e-14)
        assert torch.autograd.gradcheck(f, sample, check_forward_ad=True)
        assert torch.autograd.gradgradcheck(lambda x: f(x) ** 3, sample, check_fwd_over_rev=True)


def test_deepinv_s_own_tests_of_a_linear_operator():
    """Its test_operators_adjointness and test_linear_physics_Avjp, on a wrapper of ours."""
    physics = pytest.importorskip("deepinv.physics")

    class RayTransform(physics.LinearPhysics):
        def A(self, x, **_):
            return ray_transform(x, SMALL)

        def A_adjoint(self, y, **_):
            return back_projection(y, SMALL)

    operator, x = RayTransform(), torch.randn(3, 1, SMALL.rows, SMALL.columns, dtype=torch.float64)
    y = operator.A(x)
    assert operator.adjointness_test(x) < 1e-10
    adjoint = physics.adjoint_function(operator.A, x.shape, x.device, x.dtype)
    torch.testing.assert_close(adjoint(y), operator.A_adjoint(y), rtol=1e-10, atol=1e-12)
    gradient = torch.func.grad(lambda x: (operator.A(x) - 1).square().sum() / 2)(x)
    torch.testing.assert_close(gradient, operator.A_vjp(x, operator.A(x) - 1), rtol=1e-10, atol=1e-12)
