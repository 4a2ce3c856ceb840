"""Rules for what looks at neighbours or changes the resolution: align, run it periodically, restore.

A rule has the signature of torch's function, after the run and the function itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from recon.layers.periodic import MODES, pad_for_windows, resample, transposed_convolution
from recon.networks.conversion.following import Run, Sides

Number = int | Sequence[int]
GRID = "on the grid that the content chooses"


def each(value: Number, d: int) -> Sides:
    """One number for each of d axes."""
    if isinstance(value, int):
        return (value,) * d
    return tuple(value) * (d if len(value) == 1 else 1)


def _span(kernel: Sequence[int], dilation: Sequence[int]) -> Sides:
    return tuple(spread * (k - 1) + 1 for k, spread in zip(kernel, dilation, strict=True))


def _windows(run: Run, x: Tensor, left: Sequence[int], span: Sides, step: Sides) -> tuple[Tensor, Any]:
    """Align to the step and pad, so that an operation of windows needs no padding; also the place of its output."""
    core, place, margins = run.core(x)
    core, place = run.down(core, place, step)
    return pad_for_windows(core, [p + margin for p, margin in zip(left, margins, strict=True)], span, step), place


def _how(step: Sequence[int], padded: bool) -> str:
    parts = ["periodic padding"] * padded + [f"stride {max(step)} {GRID}"] * (max(step) > 1)
    return ", ".join(parts)


def convolve(
    run: Run,
    function: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Number = 1,
    padding: Number | str = 0,
    dilation: Number = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution."""
    d = weight.dim() - 2
    step, spread = each(stride, d), each(dilation, d)
    span = _span(weight.shape[2:], spread)
    if isinstance(padding, str):
        padding = [(length - 1) // 2 if padding == "same" else 0 for length in span]
    padded, place = _windows(run, input, each(padding, d), span, step)
    if how := _how(step, max(span) > 1):
        run.note(function, how)
    return run.put(function(padded, weight, bias, step, (0,) * d, spread, groups), place)


def convolve_transposed(
    run: Run,
    function: Any,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Number = 1,
    padding: Number = 0,
    output_padding: Number = 0,
    groups: int = 1,
    dilation: Number = 1,
) -> Tensor:
    """A transposed convolution."""
    d = weight.dim() - 2
    core, place, margins = run.core(input)
    if any(margins):
        run.refuse("pads a map before a transposed convolution", "leave the padding to the convolution")
    steps = each(stride, d)
    run.note(function, f"wraps around, {max(steps)} times larger, restored to the image's place")
    y = transposed_convolution(core, weight, bias, steps, each(padding, d), each(dilation, d), groups)
    return run.up(y, place, steps)


def max_pool(
    run: Run,
    function: Any,
    input: Tensor,
    kernel_size: Number,
    stride: Number | None = None,
    padding: Number = 0,
    dilation: Number = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """A max-pool."""
    d = len(run.size)
    kernel, spread = each(kernel_size, d), each(dilation, d)
    step = each(stride or kernel_size, d)
    padded, place = _windows(run, input, each(padding, d), _span(kernel, spread), step)
    run.note(function, _how(step, kernel != step))
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[d - 1]
    return run.put(pool(padded, kernel, step, 0, spread), place)


def avg_pool(
    run: Run,
    function: Any,
    input: Tensor,
    kernel_size: Number,
    stride: Number | None = None,
    padding: Number = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """An average pool."""
    d = len(run.size)
    kernel, step = each(kernel_size, d), each(stride or kernel_size, d)
    padded, place = _windows(run, input, each(padding, d), kernel, step)
    run.note(function, _how(step, kernel != step))
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[d - 1]
    divisor: Any = {"divisor_override": divisor_override} if divisor_override else {}
    return run.put(pool(padded, kernel, step, **divisor), place)


def adaptive_pool(run: Run, function: Any, input: Tensor, output_size: Any, return_indices: bool = False) -> Tensor:
    """An adaptive pool: over the whole map, or with windows that all have one size."""
    d = len(run.size)
    core, place, _ = run.core(input)
    wanted = (output_size,) * d if isinstance(output_size, int | None) else output_size
    sides = [n if side is None else side for side, n in zip(wanted, core.shape[2:], strict=True)]
    if all(side == 1 for side in sides) or all(n == 1 for n in core.shape[2:]):
        return function(core, output_size)  # the same wherever the image is
    multiples = tuple(s * side for s, side in zip(place.stride, sides, strict=True))
    if any(n % side for n, side in zip(core.shape[2:], sides, strict=True)):
        run.refuse(f"pools a map of {tuple(core.shape[2:])} into {sides} unequal windows", multiples=multiples)
    window = tuple(n // side for n, side in zip(core.shape[2:], sides, strict=True))
    core, place = run.down(core, place, window, multiples)
    run.note(function, _how(window, padded=False))
    pools = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), (F.max_pool1d, F.max_pool2d, F.max_pool3d)
    return run.put(pools["max" in function.__name__][d - 1](core, window), place)


def interpolate(
    run: Run,
    function: Any,
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """An interpolation by whole factors, to a finer or a coarser map."""
    d = len(run.size)
    core, place, margins = run.core(input)
    if size is None:
        factors = scale_factor if isinstance(scale_factor, Sequence) else [scale_factor] * d
        size = [int(n * factor) for n, factor in zip(core.shape[2:], factors, strict=True)]
    size = each(size, d)
    ratios = [Fraction(n, m) for n, m in zip(core.shape[2:], size, strict=True)]
    if all(ratio == 1 for ratio in ratios):
        return run.put(input.clone(), place._replace(margins=(run.place(input) or place).margins))
    if mode == "area":
        return adaptive_pool(run, function, input, size)
    if align_corners:
        run.refuse(
            "interpolates with align_corners=True, by which the distance of the new pixels depends on the image's size",
            "set its align_corners to False",
        )
    whole = all(1 in (ratio.numerator, ratio.denominator) for ratio in ratios)
    if any(margins) or antialias or mode not in MODES or not whole:
        run.refuse(
            f"interpolates {tuple(core.shape[2:])} to {size} (mode {mode})",
            f"interpolate by a whole factor, in one of the modes {', '.join(MODES)} without antialias",
        )
    core, place = run.down(core, place, [ratio.numerator for ratio in ratios])
    for axis, ratio in enumerate(ratios, start=2):
        if ratio != 1:
            core = resample(core, axis, ratio, mode)
    run.note(function, f"{mode}, wraps around, {GRID}")
    return run.up(core, place, [ratio.denominator for ratio in ratios])


def pixel_shuffle(run: Run, function: Any, input: Tensor, upscale_factor: int) -> Tensor:
    """Channels to pixels."""
    core, place, _ = run.core(input)
    run.note(function, "restored to the image's place")
    return run.up(function(core, upscale_factor), place, (upscale_factor,) * len(run.size))


def pixel_unshuffle(run: Run, function: Any, input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels to channels."""
    core, place, _ = run.core(input)
    core, place = run.down(core, place, (downscale_factor,) * len(run.size))
    run.note(function, GRID)
    return run.put(function(core, downscale_factor), place)


def pad(
    run: Run, function: Any, input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None
) -> Tensor:
    """Padding of the spatial axes becomes periodic, and is remembered as a margin; that of channels stays."""
    place = run.place(input)
    if place is not None and not any(pad):
        return run.put(input.clone(), place)  # a new tensor, as torch's is: what follows may work in place
    by_axis = {-1 - i: (pad[2 * i], pad[2 * i + 1]) for i in range(len(pad) // 2)}
    if place is None:
        run.refuse("pads a map by one that is followed")
    spatial = [by_axis.pop(axis, (0, 0)) if axis is not None else (0, 0) for axis in place.axes]
    left_over = [by_axis.get(-1 - i, (0, 0)) for i in range(len(pad) // 2)]
    if any(map(any, left_over)):
        if mode != "constant" or -input.dim() in by_axis:
            run.refuse("pads something else than the channels or the spatial axes")
        input = run.put(function(input, [n for both in left_over for n in both], mode, value), place)
    if not any(map(any, spatial)):
        return input
    core, place, _ = run.core(input)
    old = (run.place(input) or place).margins
    margins = [(a + c, b + e) for (a, b), (c, e) in zip(old, spatial, strict=True)]
    if any(n < 0 for both in margins for n in both):
        run.refuse("crops a map", "crop before or after the network")
    span = [before + after + 1 for before, after in margins]
    run.note(function, "periodic")
    padded = pad_for_windows(core, [before for before, _ in margins], span, (1,) * len(span))
    return run.put(padded, place._replace(margins=tuple(margins)))
