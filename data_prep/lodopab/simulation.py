"""Low-dose sinograms simulated from CT images as LoDoPaB-CT does it, written as its files.

What comes out is not a raw measurement: the object is a reconstructed image, and figures from it must say "simulated".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from data_prep.lodopab.volume import N_PHOTONS, N_SAMPLES, volume_name
from data_prep.slices.seeds import generator
from data_prep.storage.cache import reason, write_hdf5
from recon.errors import InputError
from recon.physics.ct import LODOPAB, MU_MAX, ParallelBeam, hu_to_attenuation, photon_noise, ray_transform

FINER = 1000 / 362
"""Rows of LoDoPaB's simulation for each row of its reconstruction."""

BATCH = 32  # slices that are projected together


def simulate_observation(
    hu: np.ndarray,
    name: str,
    geometry: ParallelBeam = LODOPAB,
    n_photons: float = N_PHOTONS,
    seed: int = 0,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate LoDoPaB's images and low-dose observations from slices in Hounsfield units.

    mu = hu_to_attenuation(HU + u), with u uniform in [0, 1) that makes whole numbers continuous; g = clip(mu / MU_MAX,
    0, 1) is the ground truth, on the whole square of the image: nothing is cut off outside the inscribed circle. The
    observation is that of `observe`.

    LoDoPaB stores its images transposed, rows along the patient's left-right axis; transpose `hu` to do the same.

    Args:
        hu: (slices, rows, columns) in HU, any real type; values outside LoDoPaB's scale are clipped.
        name: the volume's (`volume_name`). Noise is a function of (seed, name, slice).
        geometry: of the scanner, with the images' rows and columns.
        n_photons: for each detector pixel.
        seed: of u and of the photons.
        progress: show a progress bar.

    Returns:
        g, float32 (slices, rows, columns), and the observations, float32 (slices, angles, detectors).

    Raises:
        InputError: the images are not finite numbers of that shape, or one of them is flat; bad n_photons.
    """
    if hu.ndim != 3 or hu.dtype.kind not in "uif" or not np.isfinite(hu).all():
        raise InputError(
            f"{name}: the images are {hu.dtype} of shape {hu.shape}: give finite numbers (slices, rows, columns) in HU."
        )
    if hu.shape[1:] != (geometry.rows, geometry.columns):
        raise InputError(
            f"{name}: images of {hu.shape[1]} x {hu.shape[2]}, and the scanner's have {geometry.rows} x "
            f"{geometry.columns}: crop or pad them."
        )
    random = [generator("dequantise", seed, name, s) for s in range(len(hu))]
    whole = hu.astype(np.float64) + np.stack([each.random(hu.shape[1:]) for each in random])
    ground_truth = (hu_to_attenuation(torch.from_numpy(whole)) / MU_MAX).clamp(0, 1).float()
    flat = (ground_truth.amax((1, 2)) == ground_truth.amin((1, 2))).nonzero()
    if len(flat):
        raise InputError(f"{name}: slice {int(flat[0])} is flat, for instance air alone: leave it out.")
    observations = []
    numbers = torch.arange(len(hu)).split(BATCH)
    with tqdm(total=len(hu), desc=f"simulating {name}", unit="slice", disable=None if progress else True) as bar:
        for part in numbers:
            noise = [photons(seed, name, s) for s in part.tolist()]
            observations.append(observe(ground_truth[part], noise, geometry, n_photons))
            bar.update(len(part))
    return ground_truth.numpy(), torch.cat(observations).numpy()


def photons(seed: int, name: str, s: int) -> np.random.Generator:
    """Return what the photons of a slice are drawn from."""
    return generator("photons", seed, name, s)


def observe(
    ground_truth: Tensor,
    noise: Sequence[np.random.Generator],
    geometry: ParallelBeam = LODOPAB,
    n_photons: float = N_PHOTONS,
    shift: Sequence[float] = (0.0, 0.0),
) -> Tensor:
    """Measure images with few photons: -log(N / n_photons) / MU_MAX, N ~ Poisson(n_photons exp(-A T g MU_MAX)).

    As in LoDoPaB, the object is the image interpolated linearly between its pixel centres, mirrored in the outer half
    of the border's pixels and zero outside the square; it is sampled and projected on a finer grid than that of the
    reconstruction, 1000 x 1000 for 362 x 362, so that the reconstruction's own grid does not explain the data (no
    inverse crime). T moves that object, by fractions of a pixel as exactly as by whole ones; what leaves the square is
    gone.

    Args:
        ground_truth: g = mu / MU_MAX, float32 (slices, rows, columns).
        noise: for each slice, what its photons are drawn from.
        geometry: of the scanner, with the images' rows and columns.
        n_photons: for each detector pixel.
        shift: (rows, columns) in pixels of the image, positive towards larger indices.

    Returns:
        Tensor float32 (slices, angles, detectors), in LoDoPaB's unit: line integrals of mu / MU_MAX, in metres.

    Raises:
        InputError: the shift is not two finite numbers; bad n_photons.

    Source: Leuschner et al., Scientific Data 8, 109 (2021), and its script create_dataset.py, which interpolates the
    images with order 1.
    """
    if len(shift) != 2 or not np.isfinite(shift).all():
        raise InputError(f"shift is {list(shift)}: give two finite numbers of pixels, rows and columns.")
    finer = replace(geometry, rows=round(FINER * geometry.rows), columns=round(FINER * geometry.columns))
    moved = _sample(_sample(ground_truth * MU_MAX, finer.rows, shift[0]).mT, finer.columns, shift[1]).mT
    sinograms = ray_transform(moved.contiguous(), finer)
    return torch.stack([photon_noise(p, each, n_photons) for p, each in zip(sinograms, noise, strict=True)]) / MU_MAX


def write_lodopab(
    folder: Path,
    split: str,
    number: int,
    ground_truth: np.ndarray,
    observation: np.ndarray,
    n_photons: float = N_PHOTONS,
) -> None:
    """Write ground_truth_<name>.hdf5 and observation_<name>.hdf5, each whole or not at all, see `volume_name`.

    Dataset `data` is as in LoDoPaB. Attributes n_photons and simulated_from ("CT image") are no part of its schema;
    its readers pass over them.

    Args:
        folder: exists.
        split: train, val or test.
        number: of the file.
        ground_truth: (slices, rows, columns) in [0, 1], at most 128 slices.
        observation: (slices, angles, detectors).
        n_photons: that the observations were simulated with.

    Raises:
        InputError: an unknown split, too many slices, not as many of both, or the files cannot be written.
    """
    name = volume_name(split, number)
    if not len(ground_truth) == len(observation) <= N_SAMPLES:
        raise InputError(
            f"{len(ground_truth)} images and {len(observation)} observations cannot be a file: give as many of both, "
            f"and at most {N_SAMPLES}."
        )
    for kind, values in (("ground_truth", ground_truth), ("observation", observation)):
        path = Path(folder) / f"{kind}_{name}.hdf5"
        attributes = {"n_photons": float(n_photons), "simulated_from": "CT image"}
        try:
            write_hdf5(path, {"data": values.astype(np.float32, copy=False)}, attributes)
        except OSError as error:
            raise InputError(
                f"{path} cannot be written ({reason(error)}): free space or choose another folder."
            ) from error


def _sample(image: Tensor, n: int, shift: float) -> Tensor:
    """Sample the moved image (..., rows, columns) at n rows, evenly over its height; (..., n, columns)."""
    rows = image.shape[-2]
    position = (torch.arange(n, dtype=torch.float64) + 0.5) * (rows / n) - 0.5 - shift
    inside = (position >= -0.5) & (position <= rows - 0.5)
    position = (rows - 1 - (rows - 1 - position.abs()).abs()).clamp(0, rows - 1)  # mirrored in the half pixels outside
    first = position.long()
    weight = (position - first).to(image.dtype)[:, None]
    second = (first + 1).clamp(max=rows - 1)
    sampled = image[..., first, :] * (1 - weight) + image[..., second, :] * weight
    return sampled * inside[:, None]
