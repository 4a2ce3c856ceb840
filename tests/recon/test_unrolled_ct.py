"""Networks with a sinogram inside: exact where the measurement is, what moves a sinogram, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad

from recon.errors import InputError
from recon.networks import PrimalDual, UnrolledCT
from recon.networks.rays import Rays, low_pass, spectral_norm
from recon.physics.ct import LODOPAB, ParallelBeam, fbp, ramp_filter, ray_transform
from recon.physics.movement import move_sinogram
from tests.data_prep.ct_files import EXTENT, N_ANGLES, N_DETECTORS, SIDE, gaussians

SCAN = ParallelBeam(16, 16, (0.2, 0.2), n_angles=12, n_detectors=25, detector_extent=0.3)
WIDTHS = (4, 6, 8)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def network(**settings) -> UnrolledCT:
    torch.manual_seed(0)
    return UnrolledCT(n_cascades=2, widths=WIDTHS, **settings).double().eval()


class Blurred:
    """A measurement that does commute: every image is circularly blurred, y = A x; weighted as rays are."""

    def __init__(self, measured: torch.Tensor) -> None:
        self.measured, self.kernel = measured, random(1, 1, 5, 5, seed=3) / 5

    def blur(self, image: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(pad(image, (2, 2, 2, 2), "circular"), kernel)

    def gradient(self, image: torch.Tensor) -> torch.Tensor:
        expected = self.blur(image, self.kernel)
        return self.blur(torch.exp(-expected) * (expected - self.measured), self.kernel.flip(2, 3))


def errors(f: UnrolledCT, n: int = 16) -> float:
    """The largest |f(T y, T x0) - T f(y, x0)| / |f| over n circular movements of the measured and the first image."""
    measured, start = random(2, 1, 16, 24, seed=1), random(2, 1, 16, 24, seed=2)
    generator, worst = torch.Generator().manual_seed(4), 0.0
    with torch.no_grad():
        before = f.unroll(Blurred(measured), start)
        for _ in range(n):
            shift = [int(torch.randint(1, side, (), generator=generator)) for side in (16, 24)]
            moved = f.unroll(Blurred(measured.roll(shift, (2, 3))), start.roll(shift, (2, 3)))
            worst = max(worst, float((moved - before.roll(shift, (2, 3))).norm() / before.norm()))
    return worst


def test_the_chain_commutes_where_the_measurement_does():
    assert errors(network(sampling="aps")) < 1e-10
    assert errors(network(sampling="aps", blur=3)) < 1e-10
    assert errors(network(sampling="stride")) > 1e-4, "control"
    assert errors(network(sampling="lpf")) > 1e-5, "control"
    assert errors(network(sampling="aps", padding="zeros")) > 1e-4, "control"


def test_a_moved_sinogram_is_that_of_the_moved_object():
    """Against the line integrals of Gaussians that moved, in closed form."""
    scan = replace(LODOPAB, rows=SIDE, columns=SIDE, n_angles=N_ANGLES, n_detectors=N_DETECTORS)
    assert scan.extent == (EXTENT, EXTENT)
    shifts = [(3.0, -2.0), (-1.25, 0.5), (0.0, 0.0)]
    still = torch.from_numpy(gaussians(1)[1]).double()
    expected = torch.cat([torch.from_numpy(gaussians(1, shift=shift)[1]) for shift in shifts]).double()
    moved = move_sinogram(still.expand(3, -1, -1), scan, torch.tensor(shifts))
    assert (moved - expected).norm() < 1e-3 * expected.norm()
    assert (move_sinogram(still, scan, torch.tensor([[-3.0, 2.0]])) - expected[:1]).norm() > 0.1 * expected[:1].norm()
    torch.testing.assert_close(moved[2:], still)


@pytest.mark.parametrize("size", [(20, 22), (19, 21)], ids=["even", "odd"])
def test_a_padded_grid_is_the_same_scan(size):
    """The sinogram of an image with zeros around it, placed as fit_center does."""
    image = random(2, 16, 16)
    before = [(new - 16) // 2 for new in size]
    padded = pad(image, (before[1], size[1] - 16 - before[1], before[0], size[0] - 16 - before[0]))
    scan = SCAN.fitted(*size)
    torch.testing.assert_close(ray_transform(padded, scan), ray_transform(image, SCAN), rtol=1e-10, atol=1e-12)
    assert scan.pixel_size == pytest.approx(SCAN.pixel_size)
    cropped = scan.fitted(16, 16)
    torch.testing.assert_close(ray_transform(image, cropped), ray_transform(image, SCAN), rtol=1e-10, atol=1e-12)
    if size == (19, 21):
        centred = replace(scan, centre=(0.0, 0.0))
        assert (ray_transform(padded, centred) - ray_transform(image, SCAN)).norm() > 0.01, "control"


def test_the_ramp_filter_is_symmetric():
    p, q = random(12, 25), random(12, 25, seed=1)
    left, right = (ramp_filter(p, SCAN, "hann") * q).sum(), (p * ramp_filter(q, SCAN, "hann")).sum()
    torch.testing.assert_close(left, right)
    assert (left - (ramp_filter(p, SCAN, "ram-lak") * q).sum()).abs() > 1e-6 * left.abs(), "control"


def test_the_norm_is_the_largest_singular_value():
    matrix = ray_transform(torch.eye(256, dtype=torch.float64).view(256, 16, 16), SCAN).flatten(1)
    assert spectral_norm(SCAN) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=0.01)


def test_the_gradient_leads_to_what_the_rays_say():
    """It is 0 where they are explained, and steps along it explain them better, weighted as they are."""
    scan = replace(SCAN, n_angles=48, n_detectors=49)
    truth = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    truth[..., 5:10, 4:12] = 20.0
    rays = Rays(ray_transform(truth[:, 0], scan), scan, 1)
    assert rays.gradient(truth).abs().max() < 1e-10
    x = torch.zeros_like(truth)
    for _ in range(10):
        x = x - 0.8 * rays.gradient(x)
    assert (x - truth).norm() < 0.25 * truth.norm()


def test_the_low_pass_makes_the_baseline_of_a_back_projection_up_to_nyquist():
    """The bundled geometry's pixels are as wide as its detectors, so that the windows cut at one frequency."""
    scan = replace(LODOPAB, rows=SIDE, columns=SIDE, n_angles=180, n_detectors=N_DETECTORS)
    measured = torch.from_numpy(gaussians(1, n_angles=180)[1]).double()
    full, baseline = (fbp(measured, scan, "hann", scaling)[:, None] for scaling in (1.0, 0.641))
    assert (low_pass(full) - baseline).norm() < 0.3 * (full - baseline).norm()
    moved = low_pass(full.roll((3, -5), (2, 3)))
    torch.testing.assert_close(moved, low_pass(full).roll((3, -5), (2, 3)), rtol=1e-10, atol=1e-10)


def test_neighbouring_angles_become_the_one_in_their_middle():
    """Averages of two angles are nearly what a scan of half as many measures, of a smooth object."""
    scan = replace(LODOPAB, rows=SIDE, columns=SIDE, n_angles=N_ANGLES, n_detectors=N_DETECTORS)
    measured, half = (torch.from_numpy(gaussians(1, n_angles=n)[1]).double() for n in (N_ANGLES, N_ANGLES // 2))
    rays = Rays(measured, scan, 2)
    assert rays.transform.geometry.n_angles == N_ANGLES // 2
    assert (rays.measured - half).norm() < 2e-3 * half.norm()
    assert (measured[:, ::2] - half).norm() > 4e-3 * half.norm(), "control"


def test_a_convolution_over_angles_commutes_with_no_movement():
    """Where each angle's line moves by its own number of detectors, as a movement of the object makes it."""
    torch.manual_seed(0)
    dual = PrimalDual(n_iterations=1, n_dual=1, width=4).double().dual[0]
    lines, inside = pad(random(1, 3, 6, 30), (20, 20)), slice(12, -12)

    def moved(x: torch.Tensor, by: list[int]) -> torch.Tensor:
        return torch.stack([x[:, :, a].roll(n, -1) for a, n in enumerate(by)], 2)

    with torch.no_grad():
        change = {
            tuple(by): float((dual(moved(lines, by)) - moved(dual(lines), by))[..., inside].abs().max())
            for by in ([2] * 6, [0, 1, 2, 3, 2, 1])
        }
    assert change[2, 2, 2, 2, 2, 2] < 1e-12
    assert change[0, 1, 2, 3, 2, 1] > 1e-3


@pytest.mark.parametrize(
    "build", [lambda: network(), lambda: PrimalDual(2, width=4).double()], ids=["unrolled", "dual"]
)
def test_gradients_reach_every_weight(build):
    f = build()
    y, start = random(2, 12, 25).abs(), random(2, 1, 16, 16).abs() * 20
    image = f(y, SCAN, start)
    assert image.shape == start.shape
    image.square().sum().backward()
    missing = [name for name, p in f.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # what only the memories that are thrown away after the last step depend on
    assert all(name.startswith(("dual.1.", "primal.1.")) for name in missing), missing


def test_the_first_image_is_nearly_the_low_passed_back_projection():
    y, start = random(1, 12, 25).abs(), random(1, 1, 16, 16).abs() * 20
    f = network()
    with torch.no_grad():
        f.steps.zero_()
        assert (f(y, SCAN, start) - low_pass(start)).norm() < 0.3 * start.norm()


REFUSED = {
    "no cascade": (lambda: UnrolledCT(n_cascades=0), "n_cascades 0 leave nothing to unroll"),
    "no iteration": (lambda: PrimalDual(n_iterations=0), "n_iterations 0 leave nothing to unroll"),
    "no angle": (lambda: UnrolledCT(angle_bin=0), "angle_bin 0 leaves no angles"),
    "one primal": (lambda: PrimalDual(n_primal=1), "n_primal 1, n_dual 5 and width 32 make no network"),
    "sampling": (lambda: UnrolledCT(sampling="alias_free"), "alias_free"),
    "a sinogram": (lambda: network()(random(1, 12, 24), SCAN, random(1, 1, 16, 16)), "does not fit a scan"),
    "an image": (lambda: network()(random(1, 12, 25), SCAN, random(1, 1, 20, 16)), r"does not fit the geometry"),
    "a side": (lambda: network()(random(1, 12, 25), SCAN.fitted(18, 18), random(1, 1, 18, 18)), "multiple"),
    "angles": (lambda: network(angle_bin=5)(random(1, 12, 25), SCAN, random(1, 1, 16, 16)), "angle_bin 5 does not"),
}  # fmt: skip


@pytest.mark.parametrize(("call", "says"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_sentence(call, says):
    with pytest.raises(InputError, match=says):
        call()
