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


def line_integrals(counts: Tensor, white: Tensor, dark: Tensor) -> Tensor:
    """Raw counts to line integrals: p = -log((counts - dark) / (white - dark)), a flat- and dark-field correction.

    A count that is not above its dark field is taken as a tenth of a count.

    Args:
        counts: with the object, ``(..., detectors)``.
        white: without it, the mean of the flat fields, which broadcasts to the counts.
        dark: without X-rays, the mean of the dark fields, as well.

    Returns:
        p, the shape of ``counts``, without unit.

    Raises:
        InputError: a flat field is not above its dark field.

    >>> line_integrals(torch.tensor([110.0, 60.0, 5.0]), torch.tensor(110.0), torch.tensor(10.0))
    tensor([-0.0000, 0.6931, 6.9078])
    """
    counts, white, dark = (x if x.is_floating_point() else x.double() for x in (counts, white, dark))
    open_beam = white - dark
    if not bool((open_beam > 0).all()):
        raise InputError(
            f"the flat field is not above the dark field in {int((~(open_beam > 0)).sum())} of {open_beam.numel()} "
            "detector pixels: mask those, or give other fields"
        )
    return -torch.log((counts - dark).clamp_min(0.1) / open_beam)


def photons_of(white: Tensor, dark: Tensor) -> float:
    """How many photons an open detector pixel counts, from the scatter of the flat fields from frame to frame.

    Poisson counts of mean N scatter by 1 / sqrt(N): N is one over the variance of (white - dark) relative to its mean
    squared, the mean over the pixels. The beam's own flicker, common to a frame, is taken out first. A scintillator
    that spreads light over several pixels makes N look larger.

    Args:
        white: the flat fields, ``(frames, ..., detectors)``, two at least.
        dark: the mean of the dark fields, which broadcasts to one frame.

    Raises:
        InputError: there is one frame only, or all are the same.

    >>> counts = np.random.default_rng(0).poisson(1000, (20, 1, 500)) * 3.0 + 7  # three counts for a photon
    >>> round(photons_of(torch.from_numpy(counts), torch.tensor(7.0)), -2)
    1000.0
    """
    if len(white) < 2:
        raise InputError("one flat field tells no scatter: give two or more for the number of photons")
    frames = white.double() - dark
    frames = frames / frames.flatten(1).mean(1).view(-1, *[1] * (frames.dim() - 1))
    scatter = float((frames.var(0) / frames.mean(0) ** 2).mean())
    if not scatter > 0:
        raise InputError(f"the {len(white)} flat fields are all the same, and tell no scatter: give them as measured")
    return 1 / scatter
