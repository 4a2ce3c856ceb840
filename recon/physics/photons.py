"""The photons that a CT detector counts."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recon.errors import InputError

MOST_PHOTONS = 1e18
"""In one detector pixel: more is not counted."""


def photon_noise(sinogram: Tensor, generator: np.random.Generator, n_photons: float = 4096) -> Tensor:
    """A low-dose measurement of a sinogram: -log(N / n_photons), N ~ Poisson(n_photons exp(-p)), N = 0 taken as 0.1.

    The line integrals p are the physical ones. LoDoPaB's division by MU_MAX is not done here but where its files are
    read and written: they hold the returned values divided by MU_MAX.

    Args:
        sinogram: p, ``(..., angles, detectors)``, without noise and without unit.
        generator: what the counts are drawn from; the same state gives the same noise.
        n_photons: that reach a detector pixel through empty space.

    Returns:
        Shape, dtype and device of ``sinogram``; at most log(10 n_photons).

    Raises:
        InputError: the sinogram has a value that is not finite, ``n_photons`` is not positive, or
            more than MOST_PHOTONS would reach a detector pixel.

    Source: LoDoPaB-CT, Leuschner et al., Scientific Data 8, 109 (2021).

    >>> sinogram = torch.full((1, 4), 2.0)
    >>> photon_noise(sinogram, np.random.default_rng(0), n_photons=1e9).round(decimals=2)  # so many hardly scatter
    tensor([[2., 2., 2., 2.]])
    """
    if not torch.isfinite(sinogram).all():
        raise InputError(f"the sinogram {tuple(sinogram.shape)} has values that are not finite: mend or leave it out")
    if not n_photons > 0:
        raise InputError(f"n_photons {n_photons} is not positive: give the photons per detector pixel, such as 4096")
    with np.errstate(over="ignore"):
        expected = n_photons * np.exp(-sinogram.detach().cpu().double().numpy())
    if expected.max(initial=0) > MOST_PHOTONS:
        raise InputError(
            f"{n_photons:g} photons through line integrals down to {float(sinogram.min()):g} are more than "
            f"{MOST_PHOTONS:g} in a detector pixel: give fewer, such as 4096"
        )
    counts = np.maximum(generator.poisson(expected), 0.1)
    return torch.as_tensor(-np.log(counts / n_photons)).to(sinogram)
