"""Image quality as the field defines it: PSNR, NMSE and SSIM of a volume or of each slice.

All three are computed in float64 on ``(slices, rows, columns)``, or with a channel axis of 1 before the rows, on the
device of the images, and are differentiable in ``preds``. Each one is a ratio of two per-slice terms, so that a volume
seen in pieces is put together from the terms of its slices: :data:`Terms` holds them, the function and the
torchmetrics class share them.

What is written here in torch is the definition; it runs on other devices and where a derivative is wanted. Elsewhere
:mod:`recon.kernels.metrics_cpu` does the same in compiled loops. In either form the value of a slice does not depend,
in any bit, on the batch that it is in or on the number of threads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.nn.functional import pad

from recon.errors import InputError
from recon.kernels.switches import compiles

Terms = tuple[Tensor, Tensor]
"""Numerator and denominator of a metric, each float64 ``(slices,)``; sum both over a volume, then divide."""

WINDOW = 7
K1, K2 = 0.01, 0.03


def psnr(preds: Tensor, target: Tensor, data_range: float | Tensor, per_slice: bool = False) -> Tensor:
    """Peak signal-to-noise ratio in dB: PSNR = 10 log10(R^2 / mean |g - p|^2), the mean over the whole volume.

    Args:
        preds: the reconstruction p, ``(slices, rows, columns)`` or ``(slices, 1, rows, columns)``.
        target: the ground truth g, shape of ``preds``.
        data_range: R > 0, one number or ``(slices,)``. MRI: the volume's maximum; CT: max(g) - min(g) of each image.
        per_slice: a value for each slice instead, from the mean over that slice.

    Returns:
        float64 ``()``, or ``(slices,)`` with ``per_slice``; inf where ``preds`` equals ``target``.

    Raises:
        InputError: the shapes differ or are not stacks of images, or R is not positive.

    Source: fastMRI, arXiv 1811.08839, section 5; equal to ``fastmri.evaluate.psnr``.

    >>> target = torch.ones(1, 8, 8)
    >>> psnr(target + 0.1, target, data_range=1.0)  # 10 log10(1 / 0.01)
    tensor(20.0000, dtype=torch.float64)
    """
    return to_decibel(ratio(psnr_terms(preds, target, data_range), per_slice))


def nmse(preds: Tensor, target: Tensor, per_slice: bool = False) -> Tensor:
    """Normalised mean squared error: NMSE = |g - p|^2 / |g|^2, the norms over the whole volume.

    Args:
        preds: the reconstruction p, ``(slices, rows, columns)`` or ``(slices, 1, rows, columns)``.
        target: the ground truth g, shape of ``preds``.
        per_slice: a value for each slice instead, from the norms of that slice.

    Returns:
        float64 ``()``, or ``(slices,)`` with ``per_slice``.

    Raises:
        InputError: the shapes differ or are not stacks of images, or the target (with ``per_slice``: of any slice)
            is zero everywhere.

    Source: fastMRI, arXiv 1811.08839, section 5; equal to ``fastmri.evaluate.nmse``.

    >>> target = torch.ones(1, 8, 8)
    >>> nmse(target + 0.1, target)  # 0.01 / 1
    tensor(0.0100, dtype=torch.float64)
    """
    return ratio(nmse_terms(preds, target), per_slice)


def ssim(preds: Tensor, target: Tensor, data_range: float | Tensor, per_slice: bool = False) -> Tensor:
    """Structural similarity, the mean over slices.

    SSIM = mean of (2 u v + C1) (2 cov + C2) / ((u^2 + v^2 + C1) (var_p + var_g + C2)) over the positions of a 7 x 7
    window that lies inside the slice, with the window's means u, v, its sample variances and covariance
    (divided by 48), C1 = (0.01 R)^2 and C2 = (0.03 R)^2: scikit-image's ``structural_similarity``, and not the
    Gaussian window of torchmetrics and MONAI. ``1 - ssim(...)`` is a training loss.

    Args:
        preds: the reconstruction p, ``(slices, rows, columns)`` or ``(slices, 1, rows, columns)``; at least 7 x 7
            pixels.
        target: the ground truth g, shape of ``preds``.
        data_range: R > 0, one number or ``(slices,)``.
        per_slice: a value for each slice instead.

    Returns:
        float64 ``()``, or ``(slices,)`` with ``per_slice``.

    Raises:
        InputError: the shapes differ or are not stacks of images, a side is smaller than the window, or R is not
            positive.

    Source: Wang et al., IEEE Transactions on Image Processing 13 (2004); ``fastmri.evaluate.ssim``.

    >>> target = torch.arange(64.0).reshape(1, 8, 8)
    >>> ssim(target, target, data_range=63.0), ssim(63 - target, target, data_range=63.0)  # equal, and inverted
    (tensor(1., dtype=torch.float64), tensor(-0.9549, dtype=torch.float64))
    """
    return ratio(ssim_terms(preds, target, data_range), per_slice)


def psnr_terms(preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
    """The sum of |g - p|^2 / R^2 and the number of pixels, of each slice."""
    errors, _, _ = differences(preds, target)
    return errors / check_range(data_range, target) ** 2, torch.full_like(errors, target[0].numel())


def nmse_terms(preds: Tensor, target: Tensor) -> Terms:
    """The sums of |g - p|^2 and of |g|^2, of each slice."""
    errors, energies, _ = differences(preds, target)
    return errors, energies


def differences(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of |g - p|^2 and of |g|^2, and the largest |g - p|, which has no gradient, of each slice."""
    preds, target = as_slices(preds, target)
    if _has_kernel(preds, target):
        from recon.kernels import metrics_cpu  # imported here: it loads a compiler

        errors, energies, largest = metrics_cpu.differences(preds, target).unbind(1)
    else:
        preds, target = preds.double(), target.double()
        errors, energies = _sum((preds - target).square()), _sum(target.square())
        largest = (preds - target).detach().abs().amax((-2, -1))
    return errors, energies, largest


def ssim_terms(preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
    """The structural similarity and 1, of each slice."""
    preds, target = as_slices(preds, target)
    if min(target.shape[1:]) < WINDOW:
        raise InputError(f"SSIM needs images of at least {WINDOW} x {WINDOW} pixels, not {tuple(target.shape[1:])}")
    constants = _ssim_constants(check_range(data_range, target).expand(len(target)))
    if _has_kernel(preds, target, constants):
        from recon.kernels import metrics_cpu

        values = metrics_cpu.similarity(preds, target, constants)
    else:
        # On a CPU slice by slice: its intermediate images then stay in the cache (4 times faster).
        step = len(target) if target.is_cuda else 1
        parts = zip(preds.split(step), target.split(step), constants.split(step), strict=True)
        maps = (_ssim_map(*part) for part in parts)
        values = torch.cat([_sum(ssim_map) / ssim_map[0].numel() for ssim_map in maps])
    return values, torch.ones_like(values)


def ratio(terms: Terms, per_slice: bool) -> Tensor:
    """Divide the terms: for each slice, or their sums over the volume.

    Raises:
        InputError: a denominator is zero, which is a target that is zero everywhere.
    """
    numerator, denominator = terms if per_slice else (term.sum() for term in terms)
    if not denominator.all():
        raise InputError("NMSE is undefined where the target is zero everywhere: leave such images out")
    return numerator / denominator


def to_decibel(relative_error: Tensor) -> Tensor:
    """PSNR from mean |g - p|^2 / R^2: 10 log10 of its inverse."""
    return -10 * torch.log10(relative_error)


def as_slices(preds: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Two equal stacks of real images as ``(slices, rows, columns)``, without a channel axis of 1.

    Raises:
        InputError: names both shapes.
    """
    if preds.shape != target.shape or not target.numel() or not (target.dim() == 3 or target.shape[1:-2] == (1,)):
        shapes = f"{tuple(preds.shape)} and target {tuple(target.shape)}"
        raise InputError(
            f"preds {shapes} must have one shape, (slices, rows, columns) or (slices, 1, rows, columns), "
            "and not be empty"
        )
    if preds.is_complex() or target.is_complex():
        raise InputError("preds and target must be real: take the magnitude of complex images first")
    return preds.reshape(len(preds), *preds.shape[-2:]), target.reshape(len(target), *target.shape[-2:])


def own_range(target: Tensor) -> Tensor:
    """max(g) - min(g) of each image, float64 ``(slices,)``."""
    return target.amax((-2, -1)).double() - target.amin((-2, -1)).double()


def check_range(data_range: float | Tensor, target: Tensor) -> Tensor:
    """The data range as float64 ``()`` or ``(slices,)`` on the target's device.

    Raises:
        InputError: its shape is neither, or a value is not positive.
    """
    ranges = torch.as_tensor(data_range, dtype=torch.float64, device=target.device)
    if ranges.shape not in ((), target.shape[:1]):
        raise InputError(f"data_range has shape {tuple(ranges.shape)}: give one number or ({len(target)},)")
    if not (ranges > 0).all():
        raise InputError(f"data_range must be positive, not {ranges.min().item():g}: is a target constant?")
    return ranges


def _has_kernel(*tensors: Tensor) -> bool:
    """Whether the compiled loops can do it: on the CPU, with neither a gradient nor a tangent to pass on."""
    backward = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    forward = any(unpack_dual(tensor).tangent is not None for tensor in tensors)
    return not backward and not forward and all(tensor.is_cpu for tensor in tensors) and compiles()


def _sum(images: Tensor) -> Tensor:
    """The sum over each image, half added to half: no other sum is the same in every batch and number of threads."""
    sums = images.flatten(1)
    n = sums.shape[1]
    sums = pad(sums, (0, (1 << (n - 1).bit_length()) - n))
    while sums.shape[1] > 1:
        sums = torch.add(*sums.chunk(2, dim=1))
    return sums[:, 0]


def _ssim_constants(data_range: Tensor) -> Tensor:
    """C1 and C2 of each slice, ``(slices, 2)``, as :func:`_ssim_map` needs them: times 2 n^2 and 2 n (n - 1)."""
    n = WINDOW**2
    return 2 * torch.stack([(K1 * data_range * n) ** 2, (K2 * data_range) ** 2 * n * (n - 1)], dim=1)


def _ssim_map(preds: Tensor, target: Tensor, constants: Tensor) -> Tensor:
    """SSIM at each window position, ``(slices, rows - 6, columns - 6)``.

    In the window sums A, B of a = p + g - 2 o and b = p - g, and those of their squares: with n^2 u v = (S^2 - B^2) / 4
    and n^2 (u^2 + v^2) = (S^2 + B^2) / 2 for S = A + 2 n o, and likewise for the covariance and the two variances, in
    which the origin o cancels. It is the slice's first pixel, so that nothing is lost where images have an offset.
    """
    p, g, n = preds.double(), target.double(), WINDOW**2
    c1, c2 = constants[:, :, None, None].unbind(1)
    twice_origin = 2 * g[:, :1, :1].detach()
    a, b = p + g - twice_origin, p - g
    sum_a, sum_b = _window_sum(a), _window_sum(b)
    spread_a, spread_b = (n * _window_sum(x.square()) - y.square() for x, y in ((a, sum_a), (b, sum_b)))
    square_a, square_b = (sum_a + n * twice_origin).square(), sum_b.square()
    upper = (square_a - square_b + c1) * (spread_a - spread_b + c2)
    return upper / ((square_a + square_b + c1) * (spread_a + spread_b + c2))


def _window_sum(x: Tensor) -> Tensor:
    """Sums over all 7 x 7 windows, along the columns and then the rows."""
    for dim in (-1, -2):
        n = x.shape[dim]
        pairs = x.narrow(dim, 0, n - 1) + x.narrow(dim, 1, n - 1)
        fours = pairs.narrow(dim, 0, n - 3) + pairs.narrow(dim, 2, n - 3)
        x = fours.narrow(dim, 0, n - 6) + pairs.narrow(dim, 4, n - 6) + x.narrow(dim, 6, n - 6)
    return x
