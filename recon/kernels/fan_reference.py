"""The linear maps of a fan beam, in torch's operators: rays that diverge, and pixels that they magnify.

Joseph's ray transform follows each ray from row to row, or from column to column where it crosses more of them
(:class:`FanRays`); the back-projection of FBP looks up where each pixel falls on the detector (:class:`FanPixels`). In
both a point interpolates linearly between two neighbours on a line. These functions run on any device; they are what a
GPU uses, and the truth of :mod:`recon.kernels.fan_cpu`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recon.kernels.tomography_reference import chunks, interpolate


class FanRays(NamedTuple):
    """Where each ray goes through the image, ``(angles, detectors)`` on the CPU, float64 but for ``over_rows``.

    A ray with ``over_rows`` crosses row i at the column c = start + i slope, others column j at the row c = start + j
    slope; what weighs the two pixels beside it is w = scale max(0, 1 - |index - c|), scale in metres.
    """

    rows: int
    columns: int
    start: Tensor
    slope: Tensor
    scale: Tensor
    over_rows: Tensor


class FanPixels(NamedTuple):
    """Where each pixel falls on the detector, float64 ``(angles,)`` on the CPU.

    The centre of pixel (i, j) falls on the detector index u = (offset + i per_row + j per_column) / d and weighs the
    two detectors beside it by scale / d^2 max(0, 1 - |k - u|), where d = depth + i depth_per_row + j depth_per_column
    is its distance from the source along the central ray, that of the centre of rotation being 1.
    """

    rows: int
    columns: int
    n_detectors: int
    offset: Tensor
    per_row: Tensor
    per_column: Tensor
    depth: Tensor
    depth_per_row: Tensor
    depth_per_column: Tensor
    scale: Tensor


def project_rays(image: Tensor, rays: FanRays) -> Tensor:
    """y[a, k] = sum_ij w[a, k, i, j] x[i, j].

    Args:
        image: x, ``(batch, rows, columns)``, float32 or float64.
        rays: the weights w.

    Returns:
        y, ``(batch, angles, detectors)``, dtype and device of ``image``.
    """
    result = image.new_zeros(len(image), rays.start.numel())
    for chosen, lines in ((rays.over_rows, image), (~rays.over_rows, image.mT)):
        step = torch.arange(lines.shape[1], device=image.device)
        for index in chunks(chosen.flatten().nonzero().flatten(), len(image) * len(step)):
            start, slope, scale = (_columns(table.flatten()[index], image, 2) for table in rays[2:5])
            centre = start + step * slope
            values = interpolate(lines, step.expand_as(centre), centre, torch.ones_like(start)).sum(-1)
            result[:, index.to(image.device)] = values * scale[:, 0].to(image.dtype)
    return result.unflatten(1, rays.start.shape)


def transpose_rays(sinogram: Tensor, rays: FanRays) -> Tensor:
    """x[i, j] = sum_ak w[a, k, i, j] y[a, k]: the exact transpose of :func:`project_rays`.

    Args:
        sinogram: y, ``(batch, angles, detectors)``, float32 or float64.
        rays: the weights w.

    Returns:
        x, ``(batch, rows, columns)``, dtype and device of ``sinogram``.
    """
    result = sinogram.new_zeros(len(sinogram), rays.rows, rays.columns)
    values = sinogram.flatten(1)
    for chosen, lines in ((rays.over_rows, result), (~rays.over_rows, result.mT)):
        step = torch.arange(lines.shape[1], device=sinogram.device)
        for index in chunks(chosen.flatten().nonzero().flatten(), len(sinogram) * len(step)):
            start, slope, scale = (_columns(table.flatten()[index], sinogram, 2) for table in rays[2:5])
            centre = start + step * slope
            along = values[:, index.to(sinogram.device), None] * scale.to(sinogram.dtype)
            lines += _spread(along.expand(-1, -1, len(step)), step.expand_as(centre), centre, lines.shape[1:])
    return result


def transpose_pixels(sinogram: Tensor, pixels: FanPixels) -> Tensor:
    """x[i, j] = sum_ak w[a, k, i, j] y[a, k], with the weights of :class:`FanPixels`.

    Args:
        sinogram: y, ``(batch, angles, detectors)``, float32 or float64.
        pixels: the weights w.

    Returns:
        x, ``(batch, rows, columns)``, dtype and device of ``sinogram``.
    """
    result = sinogram.new_zeros(len(sinogram), pixels.rows, pixels.columns)
    for angles in chunks(torch.arange(len(pixels.offset)), result.numel()):
        centre, weight = _on_detector(pixels, angles, sinogram)
        line = torch.arange(len(angles), device=sinogram.device)[:, None, None].expand_as(centre)
        values = interpolate(sinogram[:, angles.to(sinogram.device)], line, centre, torch.ones_like(centre[:1, :1, :1]))
        result += (values * weight).sum(1)
    return result


def project_pixels(image: Tensor, pixels: FanPixels) -> Tensor:
    """y[a, k] = sum_ij w[a, k, i, j] x[i, j]: the exact transpose of :func:`transpose_pixels`.

    Args:
        image: x, ``(batch, rows, columns)``, float32 or float64.
        pixels: the weights w.

    Returns:
        y, ``(batch, angles, detectors)``, dtype and device of ``image``.
    """
    result = image.new_zeros(len(image), len(pixels.offset), pixels.n_detectors)
    for angles in chunks(torch.arange(len(pixels.offset)), image.numel()):
        centre, weight = _on_detector(pixels, angles, image)
        line = torch.arange(len(angles), device=image.device)[:, None, None].expand_as(centre)
        shape = torch.Size((len(angles), pixels.n_detectors))
        result[:, angles.to(image.device)] = _spread(image[:, None] * weight, line, centre, shape)
    return result


def _on_detector(pixels: FanPixels, angles: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """u and scale / d^2 of every pixel, ``(angles, rows, columns)``; the latter in the dtype of the values."""
    row = torch.arange(pixels.rows, device=like.device)[:, None]
    column = torch.arange(pixels.columns, device=like.device)
    tables = (_columns(table[angles], like, 3) for table in pixels[3:])
    offset, per_row, per_column, depth, depth_per_row, depth_per_column, scale = tables
    inverse = 1 / (depth + row * depth_per_row + column * depth_per_column)
    return (offset + row * per_row + column * per_column) * inverse, (scale * inverse**2).to(like.dtype)


def _columns(table: Tensor, like: Tensor, dims: int) -> Tensor:
    return table.to(like.device).view(-1, *[1] * (dims - 1))


def _spread(values: Tensor, line: Tensor, centre: Tensor, shape: torch.Size) -> Tensor:
    """The transpose of ``interpolate(..., 1)``: values ``(batch, *centre)`` onto lines ``(batch, *shape)``."""
    n_lines, length = shape
    total, first = values.new_zeros(len(values), n_lines * length), torch.floor(centre)
    for tap in range(2):
        index = first + tap
        weight = (1 - (index - centre).abs()) * ((index >= 0) & (index < length))
        at = (line * length + index.clamp(0, length - 1).long()).flatten()
        total.index_add_(1, at, (values * weight.to(values.dtype)).flatten(1))
    return total.unflatten(1, shape)
