"""Rules for views: the axes may change places, and the pixels stay in order; or a map becomes a vector."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from recon.networks.conversion.following import WINDOWS, Place, Run, tensors_in


def _probe(x: Tensor) -> tuple[Tensor, list[int]]:
    """A tensor without data, shaped as x, whose strides tell its axes apart."""
    base = max(x.shape) + 1
    strides = [base ** (x.dim() - axis) for axis in range(x.dim())]
    return torch.empty_strided(x.shape, strides, dtype=torch.int8, device="meta"), strides


def view(run: Run, function: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """What only moves, adds, drops or cuts axes: where each went is read off a probe's strides."""
    place = run.place(x)
    if place is None or any(isinstance(a, Tensor) for a in tensors_in((args, kwargs))):
        run.refuse(f"picks parts of a map by a tensor ({function.__name__})")
    probe, strides = _probe(x)
    seen = function(probe, *args, **kwargs)
    one = next(tensors_in(seen))
    if not one._is_view() and one is not probe:
        run.refuse(f"picks parts of a map in a way that is no view ({function.__name__})")
    steps = [1 if axis is None else _step(one, x.shape[axis], strides[axis], strides[-1]) for axis in place.axes]
    if any(step > 1 for step in steps):
        core, coarse = run.down(*run.core(x)[:2], steps)
        run.note(function, "every other pixel, on the grid that the content chooses")
        return run.put(function(core, *args, **kwargs), coarse)
    result = function(x, *args, **kwargs)
    for part, parts_probe in zip(tensors_in(result), tensors_in(seen), strict=True):
        run.put(part, _moved(run, place, x, parts_probe, strides))
    return result


def _step(view_of_probe: Tensor, side: int, stride: int, base: int) -> int:
    """By how many pixels a view strides along an axis of the map, of which it leaves no rest."""
    for s, n in zip(view_of_probe.stride(), view_of_probe.shape, strict=True):
        step = s // stride
        if n > 1 and s % stride == 0 and 1 < step < base and n * step == side:
            return step
    return 1


def _moved(run: Run, place: Place, x: Tensor, view_of_probe: Tensor, strides: list[int]) -> Place:
    """The place of a view that keeps all pixels."""
    axes: list[int | None] = []
    for axis in place.axes:
        where = None
        if axis is not None:
            found = [i for i, s in enumerate(view_of_probe.stride()) if s == strides[axis]]
            where = found[-1] - view_of_probe.dim() if found else None
            if x.shape[axis] > 1 and (where is None or view_of_probe.shape[where] != x.shape[axis]):
                run.refuse("cuts a part out of a map, or picks positions", "crop before or after the network")
        axes.append(where)
    return place._replace(axes=tuple(axes))


def reshape(run: Run, function: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Axes split and joined.

    Spatial ones stay whole; or take in channels behind them (pixel shuffle), or give channels away (its inverse); or
    all of them become one vector with the channels.
    """
    place = run.place(x)
    if place is None:
        run.refuse("takes the shape of a map")
    result = function(x, *args, **kwargs)
    axes = [None if axis is None else axis % x.dim() for axis in place.axes]
    if all(n == 1 for n in place.sides(x)) and not place.padded:
        return run.put(result, place._replace(axes=_same_ones(x, result, axes)))
    d = len(axes)
    if axes == list(range(x.dim() - d, x.dim())) and result.dim() > d and result.shape[-d:] == x.shape[-d:]:
        return run.put(result, place)  # only what stands before the pixels changes
    groups = _groups(x.shape, result.shape)
    new: list[int | None] = []
    ups, downs = [1] * len(axes), [1] * len(axes)
    for i, axis in enumerate(axes):
        old, now = next((group for group in groups if axis in group[0]), ([], []))
        if len(old) > 1 and (len(now) > 1 or old[0] != axis or len({*axes} & {*old}) > 1):
            return _flatten(run, function, x, result, args, kwargs)
        ups[i], downs[i] = (prod(shape[j] for j in rest[1:]) for shape, rest in ((x.shape, old), (result.shape, now)))
        new.append(now[0] - result.dim() if now else None)  # None for one of length 1
    if max(ups + downs) == 1:
        return run.put(result, place._replace(axes=tuple(new)))
    return _resize(run, function, x, place._replace(axes=tuple(new)), ups, downs, args, kwargs)


def _resize(
    run: Run, function: Any, x: Tensor, place: Place, ups: list[int], downs: list[int], args: Any, kwargs: Any
) -> Tensor:
    """Channels to pixels or back, by an exchange of axes: ``place`` is the result's, but for its stride."""
    d = len(ups)
    here = run.place(x)
    if max(downs) > 1 and here is not None and here.axes != tuple(range(-d, 0)):
        run.refuse(f"makes windows of the positions of a map ({function.__name__})", WINDOWS)
    if max(downs) > 1:
        core, old, _ = run.core(x)
        x, coarse = run.down(core, old, downs)
        place = place._replace(stride=coarse.stride)
    result = function(x, *args, **kwargs)
    run.note(function, "channels and pixels, on the grid that the content chooses")
    if max(ups) == 1:
        return run.put(result, place)
    if place.axes != tuple(range(-d, 0)) or result.dim() != d + 2 or place.padded:
        run.refuse(f"makes pixels of something else than channels ({function.__name__})")
    return run.up(result, place, ups)


def _same_ones(x: Tensor, result: Tensor, axes: list[int | None]) -> tuple[int | None, ...]:
    """Axes of length 1 that are still the last ones of a result."""
    d = len(axes)
    if result.dim() > d and axes == list(range(x.dim() - d, x.dim())) and all(n == 1 for n in result.shape[-d:]):
        return tuple(range(-d, 0))
    return (None,) * d


def _groups(old: torch.Size, new: torch.Size) -> list[tuple[list[int], list[int]]]:
    """Runs of axes, of equal numbers of elements, by which one shape becomes the other; those of length 1 left out."""
    left = [i for i, n in enumerate(old) if n > 1]
    right = [i for i, n in enumerate(new) if n > 1]
    groups = []
    while left:
        a, b = [left.pop(0)], [right.pop(0)]
        n, m = old[a[0]], new[b[0]]
        while n != m:
            if n < m:
                a.append(left.pop(0))
                n *= old[a[-1]]
            else:
                b.append(right.pop(0))
                m *= new[b[-1]]
        groups.append((a, b))
    return groups


def _flatten(run: Run, function: Any, x: Tensor, result: Tensor, args: Any, kwargs: Any) -> Tensor:
    """A whole map as one vector: each pixel is a component of its own; the one that is chosen comes to the centre."""
    if result.dim() != 2 or len(result) != run.batch:
        run.refuse(f"makes a sequence or windows of the positions of a map ({function.__name__})", WINDOWS)
    core, place, _ = run.core(x)
    sides = tuple(core.shape[2:])
    core, _ = run.down(core, place, sides, place.stride)
    run.note(function, f"the map {' x '.join(map(str, sides))} is turned so that its largest pixel is at the centre")
    return function(core.roll([n // 2 for n in sides], list(range(2, 2 + len(sides)))), *args, **kwargs)


def repeat(run: Run, function: Any, x: Tensor, *sizes: Any) -> Tensor:
    """Channels several times."""
    place = run.place(x)
    times = sizes if isinstance(sizes[0], int) else tuple(sizes[0])
    if place is None or any(axis is not None and times[axis] != 1 for axis in place.axes):
        run.refuse("puts a map beside itself (repeat)")
    return run.put(function(x, *sizes), place)


def roll(run: Run, function: Any, x: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """A circular shift of the whole map by fixed numbers of pixels; not one that mixes the images of a batch."""
    place = run.place(x)
    along = () if dims is None else (dims,) if isinstance(dims, int) else tuple(dims)
    if place is None or place.padded or not along or any(dim % x.dim() == 0 for dim in along):
        run.refuse("rolls a map over the batch, or over all axes as one")
    return run.put(function(x, shifts, dims), place)


def expand_as(run: Run, function: Any, x: Tensor, other: Tensor) -> Tensor:
    """A vector that is to be combined with a map, for instance."""
    place = run.place(x)
    result = function(x, other)
    if place is None:
        return result
    if result.shape != x.shape:
        run.refuse(f"makes a map larger ({function.__name__})")
    return run.put(result, place)
