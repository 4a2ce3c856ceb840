"""What the Triton kernels share: tiles of planes, sums over them, and starting a kernel.

A program computes one tile of one plane, the image of a sample and a channel, which has fewer than 2^31 pixels. Sums
are float64: each program writes the sum of its tile, and torch adds those up, so that no result depends on which
program ran first. Nothing waits for the device. Multiplications and additions are not fused, so that the backward sees
the signs of the forward.
"""
# mypy: disable-error-code="no-untyped-def, import-not-found, import-untyped"

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

inner = triton.jit
kernel = triton.jit(do_not_specialize=["top", "left", "pad", "channels", "first", "total"])  # these vary


@inner
def tile(rows, columns, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """This program's plane; rows and columns of its tile, and which of them are inside the plane."""
    across, number = tl.cdiv(columns, WIDTH), tl.program_id(0)
    n_tiles = tl.cdiv(rows, HEIGHT) * across
    which = number % n_tiles
    i = which // across * HEIGHT + tl.arange(0, HEIGHT)[:, None]
    j = which % across * WIDTH + tl.arange(0, WIDTH)[None, :]
    return (number // n_tiles).to(tl.int64), i, j, (i < rows) & (j < columns)


@inner
def store_sum(partial_ptr, which, n, values):
    """Write the sum of a tile's values, as number ``which`` of the ``n`` sums of this program."""
    tl.store(partial_ptr + tl.program_id(0).to(tl.int64) * n + which, tl.sum(tl.sum(values, 1), 0))


@inner
def collected(
    grad_ptr, row, column, inside, rows, columns, out_rows, out_columns,
    DOWN: tl.constexpr, ACROSS: tl.constexpr, HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The sum over a padded plane's rows ``row``, ``row + rows``, ... and likewise columns, in this order."""
    result = tl.zeros([HEIGHT, WIDTH], grad_ptr.dtype.element_ty)
    for a in tl.static_range(DOWN):
        for b in tl.static_range(ACROSS):
            y, x = row + a * rows, column + b * columns
            result += tl.load(grad_ptr + y * out_columns + x, inside & (y < out_rows) & (x < out_columns), 0.0)
    return result


def _tile_size(rows: int, columns: int) -> tuple[int, int]:
    """1024 pixels or, for a smaller plane, a tile that covers it."""
    width = min(128, triton.next_power_of_2(columns))
    return min(1024 // width, triton.next_power_of_2(rows)), width


def _n_tiles(size: Sequence[int]) -> int:
    return math.prod(-(-n // side) for n, side in zip(size, _tile_size(*size), strict=True))


def launch(function: Any, n_planes: int, size: Sequence[int], x: Tensor, *arguments: object, **constants: Any) -> None:
    """Run a kernel on the device of ``x``, over the tiles of planes of that size."""
    height, width = _tile_size(*size)
    with torch.cuda.device_of(x):
        run = function[(n_planes * _n_tiles(size),)]
        run(x, *arguments, **constants, HEIGHT=height, WIDTH=width, enable_fp_fusion=False)


def space_for_sums(x: Tensor, size: Sequence[int], n_sums: int) -> Tensor:
    """For the sums of each tile of planes of that size."""
    return x.new_empty(*x.shape[:2], _n_tiles(size), n_sums, dtype=torch.float64)


def repeats_of(padded: Sequence[int], size: Sequence[int]) -> dict[str, int]:
    """How often a row and a column can occur in a padded plane."""
    return {"DOWN": -(-padded[0] // size[0]), "ACROSS": -(-padded[1] // size[1])}
