"""k-space simulated from magnitude images, written as fastMRI files.

What comes out is not a raw measurement: the object is a magnitude image with a made-up phase, and figures from it
must say "simulated from magnitude".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data_prep.fastmri.headers import write_header
from data_prep.fastmri.kspace_file import Undersampling, write_kspace
from data_prep.slices.crop import fit_center
from data_prep.slices.seeds import generator
from recon.errors import InputError
from recon.physics.mri import fft2c, ifft2c, move_object

PHASE_DEGREE = 3


def simulate_kspace(
    magnitude: np.ndarray,
    matrix: int = 256,
    band_limit: int | None = None,
    n_coils: int = 0,
    noise: float = 0.005,
    seed: int | str = 0,
    shift: Sequence[float] = (0.0, 0.0),
) -> np.ndarray:
    """Simulate a fully sampled Cartesian acquisition of a volume, slice by slice.

    k = F(C_c * T(m * exp(i phi))) + n, where m is the magnitude, band-limited, centre-padded to a square and scaled
    to a largest value of 1 in the volume; phi a random polynomial of degree 3, another one in each slice; T the move
    of this object; C_c fixed coil sensitivities (`coil_maps`); n complex white noise. F is unitary, so that n has the
    same standard deviation in the image, and |F^-1 k| is nowhere exactly zero.

    Args:
        magnitude: (slices, rows, columns), any real type, not negative.
        matrix: rows and columns of the result.
        band_limit: keep so many columns of the magnitude's own k-space first, for images that a scanner
            interpolated: their columns are then true samples. None keeps all.
        n_coils: number of coils; 0 gives single-coil k-space, without an axis for coils.
        noise: standard deviation of the noise's real part, and of its imaginary part, relative to the largest
            magnitude of the volume.
        seed: seed of phase and noise.
        shift: (rows, columns) in pixels, whole or not, that the object moves by, circularly (`move_object`).

    Returns:
        complex64 (slices, matrix, matrix), or (slices, n_coils, matrix, matrix).

    Raises:
        InputError: a magnitude that is no volume of finite numbers, is zero, or is larger than the matrix; a shift
            that is not two finite numbers; noise that is negative or too much for complex64.
    """
    if not 0 <= noise < float("inf"):
        raise InputError(f"the noise is {noise}: give a standard deviation of 0 or more, such as 0.005.")
    objects = _objects(magnitude, matrix, band_limit)
    n_slices = len(objects)
    random = generator("simulation", seed)
    phase = torch.stack([smooth_phase(matrix, matrix, random) for _ in range(n_slices)])
    images = torch.polar(objects, phase)
    if tuple(shift) != (0, 0):
        images = ifft2c(move_object(fft2c(images), shift))
    if n_coils:
        images = images[:, None] * coil_maps(n_coils, matrix, matrix)
    kspace = fft2c(images)
    parts = random.standard_normal((*kspace.shape, 2), dtype=np.float32)
    kspace = kspace + noise * torch.view_as_complex(torch.from_numpy(parts))
    if not torch.view_as_real(kspace).isfinite().all():
        raise InputError(f"the noise {noise} is too much for complex64: give a standard deviation such as 0.005.")
    return kspace.numpy()


def smooth_phase(rows: int, columns: int, random: np.random.Generator) -> Tensor:
    """Draw a smooth phase: sum of c_ij y^i x^j over i + j <= 3, with y and x in [-1, 1].

    The c_ij are uniform in [-pi/2, pi/2], the constant c_00 in [-pi, pi].

    Returns:
        Tensor (rows, columns) float32, in radian.
    """
    y = torch.linspace(-1, 1, rows, dtype=torch.float64)[:, None]
    x = torch.linspace(-1, 1, columns, dtype=torch.float64)[None, :]
    phase = torch.zeros(rows, columns, dtype=torch.float64)
    for i in range(PHASE_DEGREE + 1):
        for j in range(PHASE_DEGREE + 1 - i):
            bound = np.pi if i + j == 0 else np.pi / 2
            phase += random.uniform(-bound, bound) * y**i * x**j
    return phase.to(torch.float32)


def coil_maps(n_coils: int, rows: int, columns: int) -> Tensor:
    """Return fixed smooth coil sensitivities: Gaussians around a ring, each with a phase that grows towards it.

    C_c(r) = g_c(r) exp(i phi_c(r)) / sqrt(sum_c g_c^2), with g_c = exp(-|r - r_c|^2 / 2), the coils' centres r_c
    evenly on the circle of radius 1.2, r in [-1, 1]^2, and phi_c = angle_c + r . r_c.

    Returns:
        Tensor (n_coils, rows, columns) complex64, with root sum of squares 1 everywhere.

    Raises:
        InputError: fewer than one coil.
    """
    if n_coils < 1:
        raise InputError(f"n_coils is {n_coils}: coil maps need at least one coil.")
    angle = torch.arange(n_coils, dtype=torch.float64)[:, None, None] * (2 * np.pi / n_coils)
    center_y, center_x = 1.2 * torch.sin(angle), 1.2 * torch.cos(angle)
    y = torch.linspace(-1, 1, rows, dtype=torch.float64)[:, None]
    x = torch.linspace(-1, 1, columns, dtype=torch.float64)[None, :]
    profile = torch.exp(-((y - center_y) ** 2 + (x - center_x) ** 2) / 2)
    maps = torch.polar(profile / profile.square().sum(0).sqrt(), angle + y * center_y + x * center_x)
    return maps.to(torch.complex64)


def write_fastmri(
    path: Path,
    kspace: np.ndarray,
    acquisition: str,
    patient_id: str,
    field_of_view_mm: Sequence[float] = (200.0, 200.0),
    thickness_mm: float = 5.0,
    maps: np.ndarray | None = None,
    undersampling: Undersampling | None = None,
) -> None:
    """Write simulated k-space as a fastMRI file (`write_kspace`); attr simulated_from is "magnitude".

    Coil maps are kept as `sensitivity_maps`, complex64 (coils, rows, columns), which is no part of fastMRI's schema and
    which its readers pass over; `FastMRIDataset.moved` needs them.

    Args:
        path: the file, *.h5.
        kspace: complex (slices, rows, columns) or (slices, coils, rows, columns).
        acquisition: the contrast.
        patient_id: the subject.
        field_of_view_mm: (rows, columns) extent of the image.
        thickness_mm: extent of a slice.
        maps: complex (coils, rows, columns), the coils' sensitivities, with root sum of squares 1; None keeps none.
        undersampling: what is kept of k-space, as in fastMRI's test files; None keeps all, and gives a target.

    Raises:
        InputError: the maps or the mask do not fit k-space, or the file cannot be written.
    """
    if maps is not None and maps.shape != kspace.shape[1:]:
        raise InputError(f"maps of shape {maps.shape} do not fit k-space {kspace.shape}: give one for each coil.")
    size = kspace.shape[-2:]
    header = write_header(size, size, field_of_view_mm, thickness_mm)
    attributes = {"acquisition": acquisition, "patient_id": patient_id, "simulated_from": "magnitude"}
    write_kspace(path, kspace, header, attributes, undersampling, maps)


def _objects(magnitude: np.ndarray, matrix: int, band_limit: int | None) -> Tensor:
    """The objects (slices, matrix, matrix) float32, with largest value 1."""
    if magnitude.ndim != 3 or magnitude.dtype.kind not in "uif" or not np.isfinite(magnitude).all():
        raise InputError(
            f"the magnitude is {magnitude.dtype} of shape {magnitude.shape}: "
            "give finite numbers of shape (slices, rows, columns)."
        )
    objects = torch.from_numpy(magnitude.astype(np.float32))
    rows, columns = objects.shape[-2:]
    if band_limit is not None:
        if not 0 < band_limit <= columns:
            raise InputError(f"band_limit is {band_limit}: give 1 to {columns}, the columns of the magnitude.")
        objects = ifft2c(fit_center(fft2c(objects), (rows, band_limit))).abs()
        columns = band_limit
    if max(rows, columns) > matrix:
        raise InputError(f"the image of {rows} x {columns} is larger than matrix {matrix}: raise matrix or crop it.")
    if not (objects >= 0).all() or not objects.any():
        raise InputError("the magnitude has negative values or is zero everywhere: give a magnitude image.")
    return fit_center(objects / objects.max(), (matrix, matrix))
