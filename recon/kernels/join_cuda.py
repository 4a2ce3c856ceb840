"""Shifting, concatenating and padding, and their adjoint, on CUDA."""
# mypy: disable-error-code="no-untyped-def, import-not-found, import-untyped"

from __future__ import annotations

from collections.abc import Iterator, Sequence

import triton.language as tl
from torch import Tensor

from recon.kernels.tiles_cuda import collected, inner, kernel, launch, repeats_of, tile


def join(images: Sequence[Tensor], components: Tensor | None, shifts: Tensor | None, pads: Sequence[int]) -> Tensor:
    """What :func:`recon.kernels.join.shift_join_pad` computes."""
    top, bottom, left, right = pads
    batch, _, rows, columns = images[0].shape
    n_channels = [x.shape[1] for x in images] + ([] if components is None else [components.shape[1] // 4])
    size = (rows + top + bottom, columns + left + right)
    result = images[0].new_empty(batch, sum(n_channels), *size)
    sources = [*images] if components is None else [*images, components]
    for i, (x, part) in enumerate(zip(sources, _parts(n_channels, shifts), strict=True)):
        numbers = (rows, columns, *size, top % rows, left % columns, *part[1:])
        x, halved = x.detach().contiguous(), i == len(images)
        launch(_place, batch * n_channels[i], size, x, part[0], result, *numbers, COMPONENTS=halved)
    return result


def join_back(
    grad: Tensor,
    n_channels: Sequence[int],
    by_components: bool,
    size: Sequence[int],
    shifts: Tensor | None,
    pads: Sequence[int],
) -> list[Tensor]:
    """The adjoint: an image of that size for each number of channels, the last one by its components if so given."""
    grad, results = grad.detach().contiguous(), []
    (batch, _, *padded), (rows, columns) = grad.shape, size
    for i, part in enumerate(_parts(n_channels, shifts)):
        n, halved = n_channels[i], by_components and i == len(n_channels) - 1
        shape = (4 * n, rows // 2, columns // 2) if halved else (n, rows, columns)
        results.append(grad.new_empty(batch, *shape))
        numbers = (rows, columns, *padded, pads[0] % rows, pads[2] % columns, *part[1:])
        constants = {"COMPONENTS": halved, **repeats_of(padded, size)}
        launch(_collect, batch * n, size, grad, part[0], results[-1], *numbers, **constants)
    return results


def _parts(n_channels: Sequence[int], shifts: Tensor | None) -> Iterator[tuple[Tensor | None, int, int, int]]:
    """For each image of :func:`join`: its shifts, its channels, the first of them in the joined image, and all."""
    last = len(n_channels) - 1
    for i, n in enumerate(n_channels):
        own = shifts.contiguous() if shifts is not None and i == last else None
        yield own, n, sum(n_channels[:i]), sum(n_channels)


@inner
def _pixel(plane, i, j, rows, columns, COMPONENTS: tl.constexpr):
    """Where the pixel (i, j) of a plane lies in memory; with ``COMPONENTS`` it is stored as its four components."""
    start = (i % 2 * 2 + j % 2) * (rows // 2) * (columns // 2)
    return plane * rows * columns + (start + i // 2 * (columns // 2) + j // 2 if COMPONENTS else i * columns + j)


@inner
def _shift(shifts_ptr, sample, axis: tl.constexpr, size):
    """A sample's shift modulo the size, between -size and size."""
    return 0 if shifts_ptr is None else (tl.load(shifts_ptr + 2 * sample + axis) % size).to(tl.int32)


@kernel
def _place(
    x_ptr, shifts_ptr, out_ptr, rows, columns, out_rows, out_columns, top, left, channels, first, total,
    COMPONENTS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Shift and pad an image's planes, and write them as the channels from ``first`` on of ``total``."""
    plane, i, j, inside = tile(out_rows, out_columns, HEIGHT, WIDTH)
    sample = plane // channels
    row = (i + 2 * rows - top - _shift(shifts_ptr, sample, 0, rows)) % rows
    column = (j + 2 * columns - left - _shift(shifts_ptr, sample, 1, columns)) % columns
    value = tl.load(x_ptr + _pixel(plane, row, column, rows, columns, COMPONENTS), inside)
    target = sample * total + first + plane % channels
    tl.store(out_ptr + target * out_rows * out_columns + i * out_columns + j, value, inside)


@kernel
def _collect(
    grad_ptr, shifts_ptr, out_ptr, rows, columns, out_rows, out_columns, top, left, channels, first, total,
    COMPONENTS: tl.constexpr, DOWN: tl.constexpr, ACROSS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The adjoint of :func:`_place`."""
    plane, i, j, inside = tile(rows, columns, HEIGHT, WIDTH)
    sample = plane // channels
    row = (i + rows + top + _shift(shifts_ptr, sample, 0, rows)) % rows
    column = (j + columns + left + _shift(shifts_ptr, sample, 1, columns)) % columns
    grad_ptr += (sample * total + first + plane % channels) * out_rows * out_columns
    value = collected(grad_ptr, row, column, inside, rows, columns, out_rows, out_columns, DOWN, ACROSS, HEIGHT, WIDTH)
    tl.store(out_ptr + _pixel(plane, i, j, rows, columns, COMPONENTS), value, inside)
