"""Where the centre of rotation falls on the detector, read from the views themselves."""

from __future__ import annotations

import math

import numpy as np
import torch
from skimage.registration import phase_cross_correlation
from torch import Tensor

from recon.errors import InputError

MOST_PAIRS = 16
FINER = 20  # the registration's steps in a detector pixel


def rotation_centre(sinogram: Tensor, angles: Tensor) -> float:
    """The detector index, not rounded, on which the centre of rotation falls, of parallel rays.

    Views half a turn apart are mirror images: p[theta + pi](s) = p[theta](-s). Each pair of them is registered along
    the detector by the peak of its cross-correlation, and the centre is the median over pairs of half the shift. Where
    no two views are exactly half a turn apart, as of angles over [0, pi), those count that are off by no more than one
    and a half mean steps: a step of one degree moves what lies r from the centre by r / 57, so that the result is good
    to fractions of a pixel for an object that turns about its middle.

    Args:
        sinogram: line integrals, ``(slices, angles, detectors)``: all slices are registered together. The object must
            not leave the detector.
        angles: in radians, ``(angles,)``.

    Raises:
        InputError: no two views are half a turn apart.

    Source: the registration of views 180 degrees apart, as in tomopy's ``find_center_pc``; Guizar-Sicairos et al.,
    Optics Letters 33 (2008).

    >>> from recon.physics.geometry import ParallelBeam
    >>> from recon.physics.ct import ray_transform
    >>> scan = ParallelBeam(16, 16, (16, 16), 9, 32, 32, theta=tuple(torch.linspace(0, torch.pi, 9).tolist()))
    >>> rotation_centre(ray_transform(torch.ones(1, 16, 16), scan.rotating_about(13.5)), scan.angles)
    13.5
    """
    views, n = sinogram.detach().cpu().double().numpy(), sinogram.shape[-1]
    pairs = _opposite(angles.double())
    if not pairs:
        raise InputError(
            f"no two of the {len(angles)} views are half a turn apart, so that the centre of rotation cannot be found: "
            "give its detector column"
        )
    views = np.pad(views, ((0, 0), (0, 0), (0, n)))  # so that a shift of more than n / 2 does not come in again
    mirrored = np.pad(views[..., n - 1 :: -1], ((0, 0), (0, 0), (0, n)))
    shifts = [
        phase_cross_correlation(views[:, one], mirrored[:, other], upsample_factor=FINER, normalization=None)[0][1]
        for one, other in pairs
    ]
    return float((n - 1 + np.median(shifts)) / 2)


def _opposite(angles: Tensor) -> list[tuple[int, int]]:
    """The pairs of views that are nearest to half a turn apart, MOST_PAIRS of them at most."""
    turn, ordered = 2 * torch.pi, angles.sort().values
    off = ((angles[:, None] - angles[None] - torch.pi) % turn + math.pi) % turn - math.pi
    error, nearest = off.abs().min(1)
    step = float(ordered[-1] - ordered[0]) / max(1, len(angles) - 1)
    allowed = min(1.5 * step, float(error.min()) + step / 4)
    chosen = [(index, int(nearest[index])) for index in (error <= allowed).nonzero().flatten().tolist()]
    unlike = [(one, other) for one, other in chosen if one < other] or chosen
    return unlike[:: math.ceil(len(unlike) / MOST_PAIRS)] if unlike else []
