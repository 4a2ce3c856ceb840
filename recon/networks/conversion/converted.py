"""Somebody's network, made exactly shift equivariant with its own weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from math import ceil, lcm
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers import FixedPhase, check_multiples, circular_shift
from recon.networks.conversion.following import Change, Place, Run, Sides, SizeError, tensors_in
from recon.networks.conversion.pointwise import differs
from recon.networks.conversion.rules import RULES
from recon.networks.conversion.selector import FourthPowers

N_SHIFTS = 3
LARGEST_ERROR = 0.05  # that rounding may leave, of 16-bit numbers
OTHER_SIZES = (
    "because its convolutions do not pad, a pool has ceil_mode, or a transposed convolution lacks output_padding: give "
    "convolutions padding, and sides that the strides divide"
)


class ConversionReport(NamedTuple):
    """What :func:`make_equivariant` did.

    Attributes:
        changes: one for each operation that runs otherwise than before.
        total_stride: what the sides of an image must be multiples of, on each spatial axis.
        error_before: largest |f(T x) - T f(x)| / |f(x)| of the original network, over a few random shifts T by whole
            pixels of the example.
        error_after: the same for the converted network.
    """

    changes: tuple[Change, ...]
    total_stride: Sides
    error_before: float
    error_after: float

    def __str__(self) -> str:
        widths = [max(len(change[i]) for change in self.changes or [Change("", "", "")]) for i in range(2)]
        lines = [f"{c.module:{widths[0]}}  {c.operation:{widths[1]}}  {c.how}" for c in self.changes]
        sides = " x ".join(map(str, self.total_stride))
        lines.append(f"sides of the image: multiples of {sides}")
        lines.append(f"relative shift error: {self.error_before:.1e} before, {self.error_after:.1e} after")
        return "\n".join(lines)


class Converted(nn.Module):
    """What stands before the class of a network that is converted; its forward is followed.

    Attributes:
        conversion: what was changed and measured; print it.
    """

    conversion: ConversionReport | None = None
    _phase_selector: nn.Module = FourthPowers()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own forward, on the grids that the content chooses.

        Raises:
            InputError: sides that are not multiples of the total stride; what has no exact form, by the module's name.
        """
        if self.conversion is not None:
            check_multiples(_image_of(args, kwargs).shape[2:], self.conversion.total_stride)
        output, run = _follow(self, args, kwargs)
        for y in tensors_in(output):
            _checked_place(run, y)
        return output

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        new, (_, *args), *state = reduced
        return _rebuild, (new, type(self).__mro__[2], *args), *state


@cache
def _converted_class(original: Any) -> Any:
    return type(f"Equivariant{original.__name__}", (Converted, original), {"__module__": __name__})


def _rebuild(new: Any, original: type, *args: Any) -> Any:
    """Make a converted network again, for copy and pickle, which cannot know its class by name."""
    network = new(original, *args)
    network.__class__ = _converted_class(original)
    return network


def _image_of(args: Any, kwargs: Any) -> Tensor:
    for x in tensors_in((args, kwargs)):
        if x.dim() >= 3:
            return x
    raise InputError("a converted network needs an image (batch, channel, *spatial): none is among the arguments")


def _follow(network: Any, args: Any, kwargs: Any, changes: list[Change] | None = None) -> tuple[Any, Run]:
    """Run the original forward, followed."""
    run = Run(RULES, network, network._phase_selector, _image_of(args, kwargs), tensors_in((args, kwargs)))
    run.changes = changes
    with run:
        return super(Converted, network).forward(*args, **kwargs), run


def make_equivariant(
    network: nn.Module, example: Tensor | tuple[Any, ...], selector: nn.Module | None = None
) -> nn.Module:
    """A copy of a network, with the same weights, that is exactly equivariant to circular shifts by whole pixels.

    Convolutions, pools and interpolations pad periodically; strided ones run on the grid that the content chooses, and
    what goes up again is restored to its place. Images come out moved as they went in; vectors (of a classifier) do
    not change. The copy is of the network's own class, with its state dict key for key; it trains, copies and pickles
    as the network does. ``print(copy.conversion)`` says what runs otherwise, and the measured error.

    Args:
        network: maps images ``(batch, channel, *spatial)``, and perhaps more, to tensors.
        example: an image, or the tuple of all arguments; those that have the image's sides move with it.
        selector: chooses the phases by the input of each strided operation, and has no parameters; None means
            :class:`FourthPowers`. With FixedPhase it is the network with periodic padding alone, a control.

    Returns:
        The copy, in the network's mode (train or eval).

    Raises:
        InputError: what cannot be exact, with the module's name; sides of the example that do not fit; a network
            whose measured error is not that of rounding.

    Source: arXiv 2011.14214 and 2105.04040, of whose choice all operations on one grid here take the same one.
    """
    if any(isinstance(module, Converted) for module in network.modules()):
        raise InputError("the network is converted already: give the original one")
    if isinstance(network, torch.jit.ScriptModule) or "forward" in vars(network):
        raise InputError(
            "this network has no forward of its class that could be followed (as in TorchScript): give one"
        )
    selector = selector or FourthPowers()
    if any(True for _ in selector.parameters()):
        raise InputError(
            f"the selector {type(selector).__name__} has parameters, which nothing would train: give another"
        )
    args = example if isinstance(example, tuple) else (example,)
    image = _image_of(args, {})
    if not image.is_floating_point():
        raise InputError(
            f"the example is {image.dtype}: give an image of floating-point numbers, as the layers take it"
        )
    if any(not isinstance(x, Tensor) and any(y.dim() >= 3 for y in tensors_in(x)) for x in args):
        raise InputError("the example has images inside a list or a mapping: give a network that takes them one by one")
    if hasattr(network, "conversion"):
        raise InputError("the network has an attribute conversion, which the report would hide: rename it")
    converted: Any = copy.deepcopy(network)
    theirs: Any = type(network)
    converted.__class__ = _converted_class(theirs)
    object.__setattr__(converted, "_phase_selector", selector)  # no module of the network, whatever its class does
    converted.conversion = None
    changes: list[Change] = []
    with torch.no_grad(), _evaluating(network), _evaluating(converted):
        total_stride = _total_stride(converted, args)
        output, run = _follow(converted, args, {}, changes)
        places = [_checked_place(run, y) for y in tensors_in(output)]
        original_output = network(*args)
        for ours, original in zip(tensors_in(output), tensors_in(original_output), strict=True):
            if ours.shape != original.shape:
                raise InputError(
                    f"the converted network would give {tuple(ours.shape)} where the original gives "
                    f"{tuple(original.shape)}, {OTHER_SIZES}"
                )
        before = _shift_error(lambda *args: (network(*args), None), args, places)
        after = _shift_error(lambda *args: _follow(converted, args, {}), args, places)
    converted.conversion = ConversionReport(tuple(changes), total_stride, before, after)
    limit = min(1e4 * torch.finfo(image.dtype).eps, LARGEST_ERROR)
    if not isinstance(selector, FixedPhase) and not after <= limit:
        raise InputError(
            f"the converted network still changes by {after:.1e} when the image moves, by a part that could not be "
            "seen, or because the example equals its own shift (is it blank?): try another example, or convert less"
        )
    return converted


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _total_stride(converted: nn.Module, args: tuple[Any, ...]) -> Sides:
    """What the sides of an image must be multiples of, found by larger and larger ones.

    Raises:
        InputError: those of the example are not.
    """
    size = _image_of(args, {}).shape[2:]
    multiples = (1,) * len(size)
    larger = args
    while True:
        try:
            _, run = _follow(converted, larger, {})
            multiples = tuple(map(lcm, multiples, run.multiples))
        except SizeError as error:
            multiples = tuple(map(lcm, multiples, error.multiples))
            sides = [ceil(n / m) * m for n, m in zip(_image_of(larger, {}).shape[2:], multiples, strict=True)]
            larger = tuple(
                x.new_zeros(*x.shape[:2], *sides) if isinstance(x, Tensor) and x.shape[2:] == size else x for x in args
            )
            continue
        except RuntimeError as error:  # a layer for one size only, as a linear one
            if larger is args:
                text = f"the converted network has maps of other sizes than the original, {OTHER_SIZES} ({error})"
                raise InputError(text) from error
        check_multiples(size, multiples)
        return multiples


def _checked_place(run: Run, y: Tensor) -> Place | None:
    """The place of an output, which must be whole and move with the image."""
    place, d = run.place(y), len(run.size)
    if place is None and y.dim() >= d + 2:
        if differs(y, range(-d, 0)):
            run.refuse("gives an image that does not move with the input, as it was made of a vector")
    elif place is not None and (place.padded or None in place.axes):
        run.refuse("gives a padded map, or one that has lost an axis")
    return place


def _shift_error(f: Callable[..., tuple[Any, Run | None]], args: tuple[Any, ...], places: list[Place | None]) -> float:
    """The largest |f(T x) - T f(x)| / |f(x)| over some shifts T, another vector for each image."""
    image = _image_of(args, {})
    generator, worst = torch.Generator().manual_seed(0), 0.0
    outputs, run = f(*args)
    if not all(bool(y.isfinite().all()) for y in tensors_in(outputs)):
        raise InputError("the network gives values that are not finite for the example: try another one, or float32")
    for _ in range(N_SHIFTS):
        draws = [torch.randint(0, side, (len(image),), generator=generator) for side in image.shape[2:]]
        shifts = torch.stack(draws, dim=1).to(image.device)
        moved = (circular_shift(x, shifts) if _is_map(x, image) else x for x in args)
        new_outputs, new_run = f(*moved)
        for y, new, place in zip(tensors_in(outputs), tensors_in(new_outputs), places, strict=True):
            if place is not None:
                pixels = shifts + _offset(run, place) - _offset(new_run, place)
                pixels = torch.stack([pixels[:, i] // s for i, s in enumerate(place.stride)], dim=1)
                axes = tuple(axis for axis in place.axes if axis is not None)
                last = tuple(range(-len(axes), 0))
                y, new = (z.movedim(axes, last).flatten(1, -1 - len(last)) for z in (y, new))
                y = circular_shift(y, pixels)
            difference, size = ((z.flatten(1).double().norm(dim=1)) for z in (new - y, y))
            worst = max(worst, float((difference / size.clamp_min(1e-30)).max()))
    return worst


def _is_map(x: Any, image: Tensor) -> bool:
    return isinstance(x, Tensor) and x.dim() == image.dim() and x.shape[2:] == image.shape[2:]


def _offset(run: Run | None, place: Place) -> Tensor | int:
    offset = run.offsets[place.stride] if run else None
    return 0 if offset is None else offset
