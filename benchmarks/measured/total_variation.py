"""The iterative method of CT with few views: least squares with total variation."""

from __future__ import annotations

import math

import torch
from skimage.restoration import denoise_tv_chambolle
from torch import Tensor

from recon.physics.ct import CTGeometry, RayTransform, fbp

STRENGTH = 3e-3  # of the back-projection's maximum; the best Dice of disc 01a with 31 views, of 1e-3, 3e-3 and 1e-2
N_STEPS, N_POWERS, N_INNER = 60, 12, 30


def least_squares_tv(sinogram: Tensor, geometry: CTGeometry) -> Tensor:
    """x = argmin |A x - y|^2 / 2 + L w TV(x) by FISTA, from the filtered back-projection; L is |A|^2.

    Args:
        sinogram: y, float32 ``(angles, detectors)``.
        geometry: of the scan.

    Returns:
        The image ``(rows, columns)`` in 1/m.

    Source: Beck and Teboulle, SIAM Journal on Imaging Sciences 2 (2009); its proximal step by
    `skimage.restoration.denoise_tv_chambolle`.
    """
    operator, image = RayTransform(geometry), fbp(sinogram, geometry, "hann")
    weight, extrapolated, momentum = STRENGTH * float(image.max()), image, 1.0
    largest = torch.ones(geometry.rows, geometry.columns)
    for _ in range(N_POWERS):
        largest = operator.normal(largest / largest.norm())
    bound = float(largest.norm())
    for _ in range(N_STEPS):
        step = extrapolated - operator.adjoint(operator(extrapolated) - sinogram) / bound
        smooth = torch.from_numpy(denoise_tv_chambolle(step.numpy(), weight, eps=1e-4, max_num_iter=N_INNER))
        following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        extrapolated = smooth + (momentum - 1) / following * (smooth - image)
        image, momentum = smooth, following
    return image
