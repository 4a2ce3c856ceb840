"""The CT scanner: ray transform, filtered back-projection, Hounsfield units, photon noise.

Where pixels and rays lie is a :class:`recon.physics.geometry.ParallelBeam` or a
:class:`recon.physics.fan_beam.FanBeam`. Images are linear attenuations in 1/m,
``(..., rows, columns)``; sinograms are line integrals, which have no unit, ``(..., angles, detectors)``; both are
float32 or float64, on any device, with any leading dimensions. The CPU runs numba kernels, other devices the reference
torch form of the same sums. On a CPU a slice's result does not depend, in a single bit, on the slices beside it or on
the number of threads; 32 slices at once are cheapest.

Every sum is linear and differentiable any number of times, and its gradient is its exact transpose:
:func:`back_projection` for :func:`ray_transform`. The back-projection inside :func:`fbp` is another one (linear
interpolation on the detector instead of Joseph's weights, which makes a better image), so that :func:`fbp` is not
``back_projection(filtered)``; its own gradient is exact too.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from recon.errors import InputError, check_choice
from recon.kernels import fan_reference, tomography_reference
from recon.kernels.fan_reference import FanPixels, FanRays
from recon.kernels.switches import compiles
from recon.physics.fan_beam import FanBeam as FanBeam
from recon.physics.geometry import LODOPAB as LODOPAB
from recon.physics.geometry import CTGeometry, Table
from recon.physics.geometry import ParallelBeam as ParallelBeam
from recon.physics.photons import photon_noise as photon_noise

MU_WATER = 20.0
"""Linear attenuation of water in 1/m, as in LoDoPaB-CT (an X-ray energy of about 60 keV)."""

MU_AIR = 0.02
"""Linear attenuation of air in 1/m."""

MU_MAX = 3071 * (MU_WATER - MU_AIR) / 1000 + MU_WATER
"""Linear attenuation at 3071 HU, 81.35858 1/m: LoDoPaB-CT's images and its sinograms are stored divided by it."""

WINDOWS = ("ram-lak", "shepp-logan", "cosine", "hann")


def ray_transform(image: Tensor, geometry: CTGeometry) -> Tensor:
    """Line integrals through an image: p[a, k] = integral of mu along ray k of angle a.

    Of parallel rays it is the line x cos(theta_a) + y sin(theta_a) = s_k, of a fan that from the source to detector k.

    Joseph's method: a ray is followed from row to row, or from column to column where it crosses more of them; mu is
    interpolated linearly between the two pixels beside it and zero outside the image.

    Args:
        image: mu in 1/m, ``(..., rows, columns)``, float32 or float64.
        geometry: where pixels and rays are.

    Returns:
        p, ``(..., angles, detectors)``, without unit; dtype and device of ``image``. Its gradient is
        :func:`back_projection`, to rounding.

    Raises:
        InputError: the image is not of the geometry's size, or not float32 or float64.

    Source: Joseph, IEEE Transactions on Medical Imaging 1 (1982).

    >>> scan = ParallelBeam(16, 16, (0.1, 0.1), n_angles=4, n_detectors=16, detector_extent=0.1)
    >>> water = torch.full((16, 16), MU_WATER)
    >>> ray_transform(water, scan)[0, 8]  # near the centre, 20 / m over 0.1 m / cos(pi / 8)
    tensor(2.1648)
    """
    _check(image, "image", (geometry.rows, geometry.columns))
    return _apply(image, geometry.projection)


def back_projection(sinogram: Tensor, geometry: CTGeometry) -> Tensor:
    """The adjoint of :func:`ray_transform`, as the transposed matrix: <A x, p> = <x, A* p> with plain sums.

    b[i, j] = sum_ak w[a, k, i, j] p[a, k], w in metres: the length of ray k at angle a that counts for pixel (i, j).
    As an operator on functions, with integrals for sums, the adjoint of parallel rays is this times detector_spacing
    (pi / n_angles) / (pixel area).

    Args:
        sinogram: p, ``(..., angles, detectors)``, float32 or float64.
        geometry: where pixels and rays are.

    Returns:
        b, ``(..., rows, columns)``, the unit of p times metre; dtype and device of ``sinogram``.

    Raises:
        InputError: the sinogram is not of the geometry's size, or not float32 or float64.

    >>> scan = ParallelBeam(4, 4, (0.1, 0.1), n_angles=3, n_detectors=6, detector_extent=0.15)
    >>> x, p = torch.rand(4, 4, dtype=torch.float64), torch.rand(3, 6, dtype=torch.float64)
    >>> left, right = (ray_transform(x, scan) * p).sum(), (x * back_projection(p, scan)).sum()
    >>> bool((left - right).abs() < 1e-12)  # <A x, p> = <x, A* p>
    True
    """
    _check(sinogram, "sinogram", (geometry.n_angles, geometry.n_detectors))
    name, transposed, table = geometry.projection
    return _apply(sinogram, (transposed, name, table))


class RayTransform(nn.Module):
    """The ray transform A of a geometry, with its exact adjoint, as an operator.

    Args:
        geometry: of the scan.

    >>> A = RayTransform(ParallelBeam(4, 4, (0.1, 0.1), n_angles=3, n_detectors=6, detector_extent=0.15))
    >>> x = torch.rand(2, 4, 4)
    >>> torch.allclose(A.normal(x), A.adjoint(A(x)))
    True
    """

    def __init__(self, geometry: CTGeometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, image: Tensor) -> Tensor:
        """A x: 1/m ``(..., rows, columns)`` to line integrals ``(..., angles, detectors)``."""
        return ray_transform(image, self.geometry)

    def adjoint(self, sinogram: Tensor) -> Tensor:
        """A^T y: line integrals ``(..., angles, detectors)`` to ``(..., rows, columns)``."""
        return back_projection(sinogram, self.geometry)

    def normal(self, image: Tensor) -> Tensor:
        """A^T A x: ``(..., rows, columns)`` to the same."""
        return self.adjoint(self(image))


def fbp(sinogram: Tensor, geometry: CTGeometry, window: str = "ram-lak", frequency_scaling: float = 1.0) -> Tensor:
    """Filtered back-projection: mu[i, j] = sum_a d_a q_a(x_i cos(theta_a) + y_j sin(theta_a)).

    q_a is p[a] filtered by |f| W(f) and interpolated linearly between the detectors, d_a the angle that a view stands
    for: pi / n_angles, or half the way to both its neighbours (:func:`recon.physics.geometry.angular_weights`). With f
    in cycles per detector
    and the cut-off c = frequency_scaling / 2, W is zero above c and below it

    - "ram-lak": 1
    - "shepp-logan": sin(pi f / 2 c) / (pi f / 2 c)
    - "cosine": cos(pi f / 2 c)
    - "hann": cos(pi f / 2 c)^2

    In a fan beam the rays are first multiplied by :func:`recon.physics.fan_beam.fan_weights`, the detectors count as if
    they stood at the centre of rotation, and mu[i, j] = sum_a d_a q_a(u) / depth^2: u is where the pixel falls on them,
    depth its distance from the source along the central ray over that of the centre of rotation. A short scan must have
    seen each line once: half a circle and the fan.

    The filter is the convolution with the inverse Fourier transform of |f| W(f) in closed form, of a sinogram that is
    zero beyond its detectors: no constant is fitted, and no wrap-around or shifted mean comes from a padded length.

    Args:
        sinogram: p, ``(..., angles, detectors)``, float32 or float64.
        geometry: where pixels and rays are.
        window: one of the four; LoDoPaB's baseline is "hann" with frequency_scaling 0.641.
        frequency_scaling: the cut-off relative to the detector's highest frequency, above 0 and at most 1.

    Returns:
        mu in 1/m, ``(..., rows, columns)``; dtype and device of ``sinogram``. Zero counts for what no detector saw.

    Raises:
        InputError: the sinogram is not of the geometry's size, or not float32 or float64; an unknown window; a
            frequency scaling outside (0, 1].

    Source: Kak and Slaney, Principles of Computerized Tomographic Imaging (1988), sections 3.3 and 3.4.2; windows as in
    ODL.

    >>> scan = ParallelBeam(16, 16, (0.1, 0.1), n_angles=60, n_detectors=32, detector_extent=0.16)
    >>> square = torch.nn.functional.pad(torch.full((8, 8), MU_WATER), (4, 4, 4, 4))
    >>> round(float(fbp(ray_transform(square, scan), scan)[8, 8]), 1)
    20.0
    """
    _check(sinogram, "sinogram", (geometry.n_angles, geometry.n_detectors))
    filtered = ramp_filter(geometry.weighted(sinogram), geometry, window, frequency_scaling)
    return _apply(filtered, geometry.smearing)


def ramp_filter(sinogram: Tensor, geometry: CTGeometry, window: str, frequency_scaling: float = 1.0) -> Tensor:
    """F p, the filtered sinogram q of :func:`fbp`, in 1/m, ``(..., angles, detectors)``; F is symmetric.

    >>> ramp_filter(torch.eye(3)[:1], ParallelBeam(1, 1, (1, 1), 1, 3, detector_extent=3), "ram-lak")[0, 0]
    tensor(0.2500)
    """
    _check(sinogram, "sinogram", (geometry.n_angles, geometry.n_detectors))
    taps = ramp_taps(geometry.n_detectors, window, frequency_scaling) / geometry.filter_spacing
    return _apply(sinogram, ("convolve", "convolve", taps))


def ramp_taps(n: int, window: str = "ram-lak", frequency_scaling: float = 1.0) -> Tensor:
    """The ramp filter's impulse response h[m] = 2 int_0^c f W(f) cos(2 pi f m) df for a detector spacing of 1.

    Args:
        n: how many, from m = 0; h is symmetric.
        window: W, as in :func:`fbp`.
        frequency_scaling: twice the cut-off c.

    Returns:
        h, float64 ``(n,)``; for "ram-lak" 1/4, then 0 for even m and -1 / (pi m)^2 for odd m.

    Raises:
        InputError: an unknown window; a frequency scaling outside (0, 1].

    >>> ramp_taps(4)[[0, 1, 3]]  # 1 / 4, -1 / pi^2, -1 / (3 pi)^2
    tensor([ 0.2500, -0.1013, -0.0113], dtype=torch.float64)
    """
    check_choice("window", window, WINDOWS)
    if not 0 < frequency_scaling <= 1:
        raise InputError(f"frequency_scaling {frequency_scaling} is not in (0, 1]: give the cut-off's share of Nyquist")
    cut, lag = frequency_scaling / 2, torch.arange(n, dtype=torch.float64)

    def ramp(shift: float) -> Tensor:  # 2 int_0^c f cos(2 pi f (m + shift)) df
        x = cut * (lag + shift)
        return cut**2 * (2 * torch.sinc(2 * x) - torch.sinc(x) ** 2)

    def sine(sign: int) -> Tensor:  # 2 c / pi int_0^c sin(2 pi f (1 / 4 c + sign m)) df
        x = 0.25 + sign * cut * lag
        return 2 * cut**2 * x * torch.sinc(x) ** 2

    if window == "shepp-logan":
        return sine(1) + sine(-1)
    if window == "cosine":
        return (ramp(0.25 / cut) + ramp(-0.25 / cut)) / 2
    if window == "hann":
        return ramp(0) / 2 + (ramp(0.5 / cut) + ramp(-0.5 / cut)) / 4
    return ramp(0)


def hu_to_attenuation(hu: Tensor) -> Tensor:
    """Hounsfield units to linear attenuation in 1/m: mu = HU (MU_WATER - MU_AIR) / 1000 + MU_WATER.

    Source: LoDoPaB-CT, Leuschner et al., Scientific Data 8, 109 (2021), which has mu = MU_AIR at -1000 HU.

    >>> hu_to_attenuation(torch.tensor([0.0, 1000.0]))  # water, bone
    tensor([20.0000, 39.9800])
    """
    return hu * ((MU_WATER - MU_AIR) / 1000) + MU_WATER


def attenuation_to_hu(mu: Tensor) -> Tensor:
    """Linear attenuation in 1/m to Hounsfield units, the inverse of :func:`hu_to_attenuation`.

    >>> attenuation_to_hu(torch.tensor([MU_AIR, MU_WATER])).round().tolist()
    [-1000.0, 0.0]
    """
    return (mu - MU_WATER) * (1000 / (MU_WATER - MU_AIR))


def _check(x: Tensor, what: str, size: tuple[int, int]) -> None:
    if x.dtype not in (torch.float32, torch.float64):
        raise InputError(f"the {what} is {x.dtype}: make it torch.float32 or torch.float64")
    if x.shape[-2:] != size:
        raise InputError(f"the {what} {tuple(x.shape)} does not fit the geometry: it needs (..., {size[0]}, {size[1]})")


class _Linear(torch.autograd.Function):
    """A linear map by the name of its function, with the name of its transpose, which is its gradient."""

    @staticmethod
    def forward(x: Tensor, name: str, transposed: str, table: Table | Tensor) -> Tensor:
        diverges = isinstance(table, FanRays | FanPixels)
        if x.device.type != "cpu" or not compiles():
            return getattr(fan_reference if diverges else tomography_reference, name)(x, table)
        from recon.kernels import fan_cpu, tomography_cpu  # imported here: they load a compiler

        return getattr(fan_cpu if diverges else tomography_cpu, name)(x, table)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *ctx.arguments = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        name, transposed, table = ctx.arguments
        return _Linear.apply(grad, transposed, name, table), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _Linear.apply(tangent, *ctx.arguments)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, *arguments: Any) -> tuple[Tensor, int]:
        assert in_dims[0] is not None
        return _apply(x.movedim(in_dims[0], 0), arguments), 0


def _apply(x: Tensor, *maps: tuple[str, str, Table | Tensor]) -> Tensor:
    """One map after the other on ``(..., a, b)``."""
    y = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    for arguments in maps:
        y = _Linear.apply(y, *arguments)
    return y.reshape(*x.shape[:-2], *y.shape[1:])
