"""The laws of the CT scanner's linear maps: adjoints, gradients, batches; and the kernels are the plain form."""

import math

import pytest
import torch
from torch.utils.data import DataLoader

from recon.kernels import fan_cpu, fan_reference, tomography_cpu, tomography_reference
from recon.layers import use_kernels
from recon.physics import ct
from recon.physics.ct import FanBeam, ParallelBeam, back_projection, fbp, ray_transform
from recon.physics.geometry import joseph_footprint, linear_footprint
from tests.properties import adjoint_error
from tests.recon.ct_cases import ALL, FAN, FANS, GEOMETRIES, SMALL, draw, image_like, relative, sinogram_like

BEAM = pytest.mark.parametrize("geometry", [SMALL, FAN], ids=["parallel", "fan"])
OBLONG = pytest.mark.parametrize(
    "geometry", [GEOMETRIES["oblong pixels"], FANS["oblong pixels, any angles"]], ids=["parallel", "fan"]
)

FORMS = {ParallelBeam: (tomography_cpu, tomography_reference), FanBeam: (fan_cpu, fan_reference)}
DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def _threads(request):
    torch.set_num_threads(request.param)


@pytest.mark.parametrize(("dtype", "limit"), DTYPES)
@pytest.mark.parametrize("geometry", ALL.values(), ids=ALL)
def test_back_projection_is_the_adjoint(geometry, dtype, limit):
    image, sinogram = image_like(geometry, (3,), dtype=dtype), sinogram_like(geometry, (3,), dtype=dtype, seed=1)
    pair = (lambda x: ray_transform(x, geometry), lambda y: back_projection(y, geometry))
    assert adjoint_error(*pair, image, sinogram) < limit


def test_back_projection_of_fbp_is_not_the_adjoint():  # the control, which fails the test above
    exact, other = joseph_footprint(SMALL), linear_footprint(SMALL)
    other = other._replace(scale=exact.scale * exact.width)  # both triangles with the same area
    pair = (lambda x: ray_transform(x, SMALL), lambda y: tomography_cpu.transpose(y[None], other)[0])
    assert adjoint_error(*pair, image_like(SMALL), sinogram_like(SMALL, seed=1)) > 1e-5


@pytest.mark.parametrize("kind", ["projection", "smearing"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("geometry", ALL.values(), ids=ALL)
def test_kernels_equal_the_plain_form(geometry, dtype, limit, kind, monkeypatch):
    monkeypatch.setattr(tomography_reference, "CHUNK", 5000)  # some angles at a time
    image, sinogram = image_like(geometry, (2,), dtype=dtype), sinogram_like(geometry, (2,), dtype=dtype)
    *names, table = getattr(geometry, kind)
    fast, plain = FORMS[type(geometry)]
    for name in names:
        x = image if name.startswith("project") else sinogram
        expected = getattr(plain, name)(x, table)
        for n in (1, 2):
            actual = getattr(fast, name)(x[:n], table)
            assert actual.dtype == expected.dtype == dtype
            if expected.any():
                assert relative(actual, expected[:n]) < limit
    taps = ct.ramp_taps(geometry.n_detectors)
    assert relative(tomography_cpu.convolve(sinogram, taps), tomography_reference.convolve(sinogram, taps)) < limit


@BEAM
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_cpu(geometry):
    image, sinogram = image_like(geometry, (2,)), sinogram_like(geometry, (2,))
    for function, x in ((ray_transform, image), (back_projection, sinogram), (fbp, sinogram)):
        found = function(x.cuda(), geometry)
        assert found.is_cuda
        assert relative(found.cpu(), function(x, geometry)) < 1e-12


@OBLONG
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("function", [ray_transform, back_projection, fbp])
@pytest.mark.usefixtures("_threads")
def test_slice_does_not_depend_on_its_batch(function, dtype, geometry):
    like = image_like if function is ray_transform else sinogram_like
    batch = like(geometry, (37,), dtype=dtype)  # one full block of lanes and a part of one
    whole = function(batch, geometry)
    for part in (slice(0, 1), slice(5, 6), slice(3, 36), slice(30, 37)):
        assert torch.equal(function(batch[part], geometry), whole[part])
    torch.set_num_threads(3)
    assert torch.equal(function(batch, geometry), whole)


@OBLONG
@pytest.mark.parametrize("function", [ray_transform, back_projection, fbp])
def test_leading_dimensions_and_layout(function, geometry):
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


@BEAM
def test_bad_values_spoil_their_slice_only(geometry):
    images = image_like(geometry, (3,))
    wanted = ray_transform(images, geometry)
    images[1, 30, 30] = math.nan
    found = ray_transform(images, geometry)
    assert found[1].isnan().any()
    assert torch.equal(found[[0, 2]], wanted[[0, 2]])


TINY = (
    ParallelBeam(4, 5, (0.8, 1.0), 3, 7, 1.2),
    FanBeam(4, 5, (0.8, 1.0), 3, 7, 2.2, source_to_origin=1.5, source_to_detector=2.5),
)


@pytest.mark.parametrize("geometry", TINY, ids=["parallel", "fan"])
@pytest.mark.parametrize("function", [ray_transform, back_projection, fbp])
def test_gradients(function, geometry):
    like = image_like if function is ray_transform else sinogram_like
    x = like(geometry, (2,)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: function(x, geometry), x)
    assert torch.autograd.gradgradcheck(lambda x: function(x, geometry) ** 2, x)


@BEAM
def test_gradient_is_the_back_projection(geometry):
    image = image_like(geometry).requires_grad_()
    weights = sinogram_like(geometry, seed=1)
    (ray_transform(image, geometry) * weights).sum().backward()
    assert torch.equal(image.grad, back_projection(weights, geometry))


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


MAPS = {"ray_transform": ray_transform, "back_projection": back_projection, "fbp": fbp}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, in forward mode
@pytest.mark.parametrize("use", [True, False], ids=["kernels", "plain"])
@pytest.mark.parametrize("geometry", TINY, ids=["parallel", "fan"])
@pytest.mark.parametrize("name", MAPS)
def test_torch_func_on_the_scanner(name, geometry, use):
    size = (4, 5) if name == "ray_transform" else (3, 7)
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
