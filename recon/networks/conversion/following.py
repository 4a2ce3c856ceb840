"""One run of somebody's network, in which every feature map knows which pixels of the image it stands on.

A map of total stride S holds, at index n, what belongs to pixel ``offset + S n`` of the image (circularly). The content
chooses the offset of each total stride once in a run, and all maps of that stride share it: so the branches of a
residual block, and both ends of a skip connection, agree without any analysis of the network. It is align, run,
restore: :meth:`Run.down` aligns, :meth:`Run.up` restores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import lcm
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from recon.errors import InputError
from recon.layers import circular_shift, phase_offsets

Sides = tuple[int, ...]


WINDOWS = (
    "attention over windows or positions, and positional embeddings, have no exact form here: use a convolutional "
    "network, or align the whole image (recon.Centred does it for networks of k-space)"
)


class SizeError(InputError):
    """An image whose sides do not fit.

    Attributes:
        multiples: what each side of the image must be a multiple of, as far as is known.
    """

    def __init__(self, message: str, multiples: Sides) -> None:
        super().__init__(message)
        self.multiples = multiples


class Place(NamedTuple):
    """Where the pixels of a feature map are.

    Attributes:
        stride: its total stride on each spatial axis of the image.
        axes: which dimension of the tensor each of them is, counted from the end; None where it has been reduced.
        margins: pixels that have been padded (periodically) on both sides of each.
    """

    stride: Sides
    axes: tuple[int | None, ...]
    margins: tuple[tuple[int, int], ...]

    @property
    def padded(self) -> bool:
        """Whether it has margins."""
        return any(before or after for before, after in self.margins)

    def sides(self, x: Tensor) -> Sides:
        """The sides of the map without its margins, 1 for a reduced one."""
        lengths = (1 if axis is None else x.shape[axis] for axis in self.axes)
        return tuple(n - sum(margin) for n, margin in zip(lengths, self.margins, strict=True))


class Change(NamedTuple):
    """What became of one operation: the module that calls it, its name in torch, and how it runs now."""

    module: str
    operation: str
    how: str


def tensors_in(values: Any) -> Iterator[Tensor]:
    """All tensors in nested lists, tuples and dicts."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))


class Run(TorchFunctionMode):
    """Follow the image through a network: every function of torch that meets it runs by a rule for it.

    Args:
        rules: name of the function -> ``rule(run, function, *args, **kwargs)``; others are refused.
        network: whose modules have the names for messages.
        selector: chooses the phases, of the input of the strided operation.
        image: ``(batch, channel, *spatial)``, followed from here on, and with it all arguments of its size.
        arguments: of the network.

    Attributes:
        offsets: of each total stride that a map has had; (batch, spatial_dims) in pixels, or None for 0.
        multiples: what the sides of the image must be multiples of, by the operations so far.
        changes: where a list is set, what runs otherwise than in torch is put into it.
    """

    def __init__(
        self,
        rules: dict[str, Callable[..., Any]],
        network: nn.Module,
        selector: nn.Module,
        image: Tensor,
        arguments: Iterable[Tensor] = (),
    ) -> None:
        super().__init__()
        self.rules, self.network, self.selector = rules, network, selector
        self.size = tuple(image.shape[2:])
        d = len(self.size)
        self.batch, self.with_gradient = len(image), torch.is_grad_enabled()
        self.offsets: dict[Sides, Tensor | None] = {(1,) * d: None}
        self.places: Any = WeakTensorKeyDictionary()
        self.multiples: Sides = (1,) * d
        self.changes: list[Change] | None = None
        place = Place((1,) * d, tuple(range(-d, 0)), ((0, 0),) * d)
        self.put([image, *(x for x in arguments if x.shape[2:] == image.shape[2:])], place)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not any(self.place(x) for x in tensors_in((args, kwargs))):
            return func(*args, **kwargs)
        name = func.__name__
        if name in ("__get__", "__set__"):
            name = func.__self__.__name__
        rule = self.rules.get(name.strip("_"))
        if rule is None:
            self.refuse(f"calls {name}, for which no exactly equivariant form is known")
        return rule(self, func, *args, **kwargs)

    def place(self, x: Any) -> Place | None:
        """Where a tensor's pixels are; None for one that does not depend on where the image is."""
        return self.places.get(x) if isinstance(x, Tensor) else None

    def put(self, result: Any, place: Place) -> Any:
        """Note where the pixels of all tensors of a result are, and give it back."""
        if all(axis is None for axis in place.axes):
            return result
        for x in tensors_in(result):
            self.places[x] = place
        return result

    def core(self, x: Tensor) -> tuple[Tensor, Place, list[int]]:
        """A map without margins, for an operation of the spatial axes.

        Returns:
            ``(batch, channel, *spatial)``, its place, and the margins that were before it.
        """
        if self.with_gradient and any("torch/utils/checkpoint" in frame.f_code.co_filename for frame in _frames()):
            self.refuse("runs under activation checkpointing, whose second run is not followed", "switch it off")
        if self.changes is not None and any(map(_is_function, _frames())):  # while it is converted
            self.refuse("runs inside a torch.autograd.Function, whose backward is not followed", "call it directly")
        place = self.place(x)
        d = len(self.size)
        if place is None or place.axes != tuple(range(-d, 0)) or x.dim() != d + 2 or len(x) != self.batch:
            self.refuse("works on the pixels of a map that is not (batch, channel, *spatial)", WINDOWS)
        before = [margin[0] for margin in place.margins]
        if place.padded:
            for axis, first, side in zip(range(2, 2 + d), before, place.sides(x), strict=True):
                x = x.narrow(axis, first, side)
        return x, place._replace(margins=((0, 0),) * d), before

    def down(
        self, x: Tensor, place: Place, steps: Sequence[int], multiples: Sides | None = None
    ) -> tuple[Tensor, Place]:
        """Align a map to the grid of a larger stride, which the content of the first such map chooses.

        Args:
            x: ``(batch, channel, *spatial)`` without margins.
            place: where its pixels are.
            steps: by which factor the stride grows on each axis.
            multiples: what the sides of the image must be multiples of for it; None means the new stride.

        Returns:
            The map, shifted circularly, and the place of what an ordinary strided operation makes of it.
        """
        stride = tuple(s * step for s, step in zip(place.stride, steps, strict=True))
        sides = x.shape[2:]
        if any(n % step for n, step in zip(sides, steps, strict=True)):
            has = " x ".join(str(n * s) for n, s in zip(sides, place.stride, strict=True))
            wants = " x ".join(map(str, stride))
            self.refuse(
                f"needs images whose sides are multiples of {wants}, and this one has {has}",
                "pad or crop it to such a size",
                multiples=stride,
            )
        self.multiples = tuple(map(lcm, self.multiples, multiples or stride))
        if all(step == 1 for step in steps):
            return x, place
        if stride not in self.offsets:
            self.offsets[stride] = self._choose(x, place.stride, stride)
        return self._move(x, place.stride, stride, -1), place._replace(stride=stride)

    def up(self, x: Tensor, place: Place, steps: Sequence[int]) -> Tensor:
        """Restore what an operation made larger to the grid of the smaller stride, and note where it is.

        Args:
            x: ``(batch, channel, *spatial)``, larger by ``steps``.
            place: of what it was made of.
            steps: by which factor the stride shrinks on each axis.
        """
        if any(s % step for s, step in zip(place.stride, steps, strict=True)):
            self.refuse("makes a map finer than the image", "convert the part before it")
        stride = tuple(s // step for s, step in zip(place.stride, steps, strict=True))
        if stride not in self.offsets:
            self.offsets[stride] = _remainder(self.offsets[place.stride], stride)
        return self.put(self._move(x, stride, place.stride, 1), place._replace(stride=stride))

    def _move(self, x: Tensor, fine: Sides, coarse: Sides, sign: int) -> Tensor:
        """Shift a map of stride ``fine`` circularly by the coarse grid's offset, in pixels of the map."""
        offset = self.offsets[coarse]
        if offset is None:
            return x
        return circular_shift(x, sign * torch.stack([offset[:, axis] // s for axis, s in enumerate(fine)], dim=1))

    def _choose(self, x: Tensor, fine: Sides, coarse: Sides) -> Tensor | None:
        """The offset of a new stride, in agreement with those of its multiples and of its parts."""
        for known, offset in self.offsets.items():
            if _divides(coarse, known):
                return _remainder(offset, coarse)
        between = [known for known in self.offsets if _divides(fine, known) and _divides(known, coarse)]
        known = max(between, key=lambda stride: sum(stride))
        if any(_divides(other, coarse) and not _divides(other, known) for other in self.offsets):
            self.refuse(f"makes a stride of {coarse} of {fine} beside others that it is a multiple of")
        x = self._move(x, fine, known, -1)
        for axis, (k, s) in enumerate(zip(known, fine, strict=True), start=2):
            x = x[(slice(None),) * axis + (slice(None, None, k // s),)]
        steps = [c // k for c, k in zip(coarse, known, strict=True)]
        phase = self.selector(x.detach(), steps[0] if len(set(steps)) == 1 else tuple(steps))
        offset = self.offsets[known]
        if phase is None:
            return offset
        new = phase_offsets(phase, steps, len(steps))
        new = torch.stack([new[:, axis] * k for axis, k in enumerate(known)], dim=1)
        return new if offset is None else offset + new

    def note(self, function: Any, how: str) -> None:
        """Record how an operation runs now, where somebody asks for it."""
        if self.changes is not None:
            change = Change(self.where(), function.__name__, how)
            if change not in self.changes:
                self.changes.append(change)

    def refuse(self, why: str, remedy: str = "", multiples: Sides = ()) -> NoReturn:
        """Refuse what cannot be exact, naming the module."""
        remedy = remedy or (
            "replace this part, convert only the part of the network before it, or, for a network of k-space, "
            "use recon.Centred, which aligns the whole image instead"
        )
        message = f"{self.where()} {why}: {remedy}"
        raise SizeError(message, multiples) if multiples else InputError(message)

    def where(self) -> str:
        """The module that is running: its name in the network and its class."""
        names = {id(module): name for name, module in self.network.named_modules()}
        for frame in _frames():
            code = frame.f_code
            module = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
            if isinstance(module, nn.Module) and id(module) in names:
                return f"{names[id(module)]} ({type(module).__name__})" if names[id(module)] else "the network itself"
        return "the network itself"


def _frames() -> Iterator[FrameType]:
    """The functions that are running, from the innermost on."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_function(frame: FrameType) -> bool:
    """Whether a frame is the forward of a torch.autograd.Function, whose first argument is its context."""
    code = frame.f_code
    first = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return isinstance(first, FunctionCtx)


def _remainder(offset: Tensor | None, stride: Sides) -> Tensor | None:
    """The offset of a grid of a smaller stride that holds a grid of this offset."""
    return offset if offset is None else torch.stack([offset[:, axis] % s for axis, s in enumerate(stride)], dim=1)


def _divides(small: Sides, large: Sides) -> bool:
    return all(b % a == 0 for a, b in zip(small, large, strict=True))
