"""The iterative baseline of CT: back-projections made smooth by total variation, with scikit-image."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from data_prep.lodopab.fbp_cache import BATCH, fbp_image
from data_prep.lodopab.volume import CTVolume
from data_prep.storage.open_files import OpenFiles
from recon.physics.ct import MU_MAX, ramp_taps

WINDOW = "cosine"  # of a filter at the full bandwidth: TV keeps edges, so that they need not be smoothed before
STRENGTH = 1.15  # of the expected noise; the best PSNR on the bundled sample's training and validation subjects
TOLERANCE, MOST = 1e-4, 200  # Chambolle's iterations end at this relative change, or at so many


def tv_images(volume: CTVolume) -> Iterator[Tensor]:
    """Yield, slice by slice, u = argmin |u - f|^2 / 2 + weight TV(u) of the observations' back-projection f.

    f is `recon.physics.ct.fbp` with the cosine window. The weight is STRENGTH times the standard deviation that the
    photons are expected to leave in f, pi / sqrt(angles) |taps| / spacing sqrt(mean 1 / N): a line integral with N
    photons behind it has the variance 1 / N, and N is read off the observation. So the weight follows each slice's own
    dose, and no ground truth is used.

    Args:
        volume: the file of observations.

    Yields:
        mu / MU_MAX, float32 (rows, columns), as many as there are slices. They depend on nothing but the slice.

    Raises:
        InputError: the observations cannot be read, or are not finite.

    Source: Rudin, Osher and Fatemi, Physica D 60 (1992); Chambolle, Journal of Mathematical Imaging and Vision 20
    (2004), by `skimage.restoration.denoise_tv_chambolle`.
    """
    files = OpenFiles(limit=1)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, volume.n_slices, BATCH):
            observation = files.read(volume.path, "data", slice(start, min(start + BATCH, volume.n_slices)))
            images = fbp_image(observation, volume, WINDOW, 1.0).numpy()
            yield from pool.map(_smooth, images, _weights(observation, volume))
    files.close()


def _smooth(image: np.ndarray, weight: float) -> Tensor:
    return torch.from_numpy(denoise_tv_chambolle(image, weight, eps=TOLERANCE, max_num_iter=MOST).astype(np.float32))


def _weights(observation: np.ndarray, volume: CTVolume) -> list[float]:
    """The weight of each slice, in its image's unit."""
    geometry = volume.geometry
    taps = ramp_taps(geometry.n_detectors, WINDOW).numpy()
    gain = math.pi / math.sqrt(geometry.n_angles) * math.hypot(*taps, *taps[1:]) / geometry.detector_spacing / MU_MAX
    variance = np.exp(observation.astype(np.float64) * MU_MAX).mean((1, 2)) / volume.n_photons
    return (STRENGTH * gain * np.sqrt(variance)).tolist()
