"""Rules for what treats all pixels alike: arithmetic, activations, norms, reductions, products with weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from recon.networks.conversion.following import Place, Run, tensors_in


def common_place(run: Run, *values: Any) -> Place | None:
    """The place that all maps among the values have, as operands of one operation; None where there is no map.

    Another operand may not differ from pixel to pixel: else it would stay where it is when the image moves.

    Raises:
        InputError: maps of several resolutions; a learned or fixed map of positions.
    """
    tensors = list(tensors_in(values))
    maps = [(x, place) for x in tensors if (place := run.place(x))]
    moving = [(x, place) for x, place in maps if any(n > 1 for n in place.sides(x))] or maps[:1]
    if not moving:
        return None
    _, place = moving[0]
    for _, other in moving[1:]:
        if (other.stride, other.margins) != (place.stride, place.margins):
            run.refuse(f"combines a map of stride {place.stride} with one of stride {other.stride}")
        axes = [one if two is None else two for one, two in zip(place.axes, other.axes, strict=True)]
        if any(two not in (None, both) for both, two in zip(axes, place.axes, strict=True)):
            run.refuse("combines maps whose spatial axes are not in the same places")
        place = place._replace(axes=tuple(axes))
    for x in tensors:
        if run.place(x) is None:
            check_same_everywhere(run, x, place)
    return place


def check_same_everywhere(run: Run, x: Tensor, place: Place) -> None:
    """Refuse an operand that differs from pixel to pixel, though it does not come from the image."""
    axes = [axis for axis in place.axes if axis is not None and -axis <= x.dim() and x.shape[axis] > 1]
    learned = isinstance(x, torch.nn.Parameter)
    if axes and (learned or differs(x, axes)):
        kind = "learned" if learned else "fixed"
        run.refuse(
            f"combines the map with {kind} values of shape {tuple(x.shape)} that differ from position to position"
        )


def differs(x: Tensor, axes: Iterable[int]) -> bool:
    """Whether a tensor differs along any of these axes by more than rounding."""
    first = x
    for axis in axes:
        first = first.narrow(axis, 0, 1)
    if not x.is_floating_point():
        return bool((x != first).any())
    return bool(((x - first).abs() > 16 * torch.finfo(x.dtype).eps * first.abs()).any())


def pointwise(run: Run, function: Any, *args: Any, **kwargs: Any) -> Any:
    """What treats each pixel by itself, or all alike."""
    place = common_place(run, args, kwargs)
    result = function(*args, **kwargs)
    return result if place is None else run.put(result, place)


def first(args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
    """The first argument of a function of torch."""
    x = args[0] if args else kwargs["input"]
    assert isinstance(x, Tensor)
    return x


def of_the_first(run: Run, function: Any, *args: Any, **kwargs: Any) -> Any:
    """What treats all pixels of its first argument alike; the others belong to channels, or lend their type."""
    place = run.place(first(args, kwargs))
    result = function(*args, **kwargs)
    return result if place is None else run.put(result, place)


def over_statistics(run: Run, function: Any, *args: Any, **kwargs: Any) -> Any:
    """A norm by means and variances of whole maps: margins must not count."""
    place = run.place(first(args, kwargs))
    if place is None or place.padded:
        run.refuse(f"calls {function.__name__} on a padded map, or with weights that come from a map")
    return of_the_first(run, function, *args, **kwargs)


def layer_norm(
    run: Run, function: Any, input: Tensor, normalized_shape: Sequence[int], *args: Any, **kwargs: Any
) -> Any:
    """A norm over the last axes, whose weights may not belong to positions."""
    place = run.place(input)
    if place is None or all(axis not in range(-len(normalized_shape), 0) for axis in place.axes):
        return of_the_first(run, function, input, normalized_shape, *args, **kwargs)
    if [*tensors_in((args, kwargs))]:
        run.refuse(
            f"normalises over {tuple(normalized_shape)} with learned weights for each position",
            "normalise over the channels only, or without elementwise_affine",
        )
    return over_statistics(run, function, input, normalized_shape, *args, **kwargs)


def linear(run: Run, function: Any, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer over the last axis, which may not be spatial."""
    place = run.place(input)
    if place is None or -1 in place.axes:
        run.refuse("applies a linear layer along an axis of the image")
    return run.put(function(input, weight, bias), place)


def matmul(run: Run, function: Any, input: Tensor, other: Tensor) -> Tensor:
    """A product of each pixel's channels with a matrix."""
    place = run.place(input)
    if place is None or run.place(other) is not None or other.dim() != 2 or -1 in place.axes:
        run.refuse("multiplies matrices that hold positions, as attention over positions does")
    return run.put(function(input, other), place)


def _reduced_dims(name: str, args: Sequence[Any], kwargs: dict[str, Any], n_dims: int) -> set[int]:
    at = 2 if name == "norm" else 1
    dims = kwargs.get("dim", kwargs.get("axis", args[at] if len(args) > at else None))
    if dims is None or isinstance(dims, bool):  # std(unbiased)
        return set(range(n_dims))
    dims = [dims] if isinstance(dims, int) else list(dims)
    return {dim % n_dims for dim in dims} or set(range(n_dims))


def reduce(run: Run, function: Any, *args: Any, **kwargs: Any) -> Any:
    """A sum, mean, maximum ... over channels, over the whole map, or over one of its axes."""
    x = first(args, kwargs)
    name = function.__name__.strip("_")
    if any(isinstance(other, Tensor) for other in (*args[1:2], kwargs.get("other"))):
        return pointwise(run, function, *args, **kwargs)  # the larger of two
    place = run.place(x)
    if place is None:
        run.refuse(f"calls {name} on a map in an unknown way")
    result = function(*args, **kwargs)
    dims = _reduced_dims(name, args, kwargs, x.dim())
    spatial = [None if axis is None else axis % x.dim() for axis in place.axes]
    if any(axis in dims for axis in spatial):
        if place.padded:
            run.refuse(f"calls {name} on a padded map", "pad after it")
        if name.startswith("arg"):
            run.refuse(f"asks where a map is largest or smallest ({name})")
    if 0 in dims and any(axis not in (None, *dims) for axis in spatial):
        run.refuse(f"calls {name} over the images of a batch, which do not move together")
    kept = next(tensors_in(result)).dim() == x.dim()
    order = list(range(x.dim())) if kept else [dim for dim in range(x.dim()) if dim not in dims]
    axes = [None if axis is None or axis in dims else order.index(axis) - len(order) for axis in spatial]
    return run.put(result, place._replace(axes=tuple(axes)))


def join(run: Run, function: Any, tensors: Any, dim: int = 0, **kwargs: Any) -> Tensor:
    """Maps side by side along an axis, or along a new one."""
    name = function.__name__
    dim = kwargs.pop("axis", dim)
    place = common_place(run, list(tensors))
    n_dims = tensors[0].dim() + (name == "stack")
    if place is None or dim % n_dims == 0 or (name != "stack" and dim % n_dims - n_dims in place.axes):
        run.refuse(f"joins maps along the batch or a spatial axis ({name})")
    result = function(tensors, dim, **kwargs)
    if name == "stack":
        axes = [axis if axis is None or axis + n_dims > dim % n_dims else axis - 1 for axis in place.axes]
        place = place._replace(axes=tuple(axes))
    return run.put(result, place)


def pass_on(run: Run, function: Any, *args: Any, **kwargs: Any) -> Any:
    """What gives no values of the map away: its shape, type or device."""
    return function(*args, **kwargs)
