"""A trained network as it can leave the project: what it takes and gives in the file's units, and real slices of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers import circular_shift

N_SLICES = 3
MOST_TRIED = 30  # slices that are looked at, where others are ties


class Port(NamedTuple):
    """An input or the output of an exported network.

    Attributes:
        name: as the exported form calls it.
        shape: numbers, and the names of what is free: batch, rows and columns.
        meaning: what it is, and in which unit.
        dtype: its type.
    """

    name: str
    shape: tuple[str | int, ...]
    meaning: str
    dtype: torch.dtype = torch.float32

    def size(self, **free: int) -> list[int]:
        """The shape with numbers for the names."""
        return [free[side] if isinstance(side, str) else side for side in self.shape]


class RealSlice(NamedTuple):
    """A slice or image of the run's data, a batch of one, and what the run makes of it.

    Attributes:
        name: of the file or image, and the slice.
        inputs: one for each port.
        output: the run's, by whatever kernels it runs with.
        moved: the inputs of the object moved by circular shifts ``(n, 2)`` in pixels, n of them.
        moves: the output is an image, which moves along; else it is to stay.
    """

    name: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    moved: Callable[[Tensor], tuple[Tensor, ...]]
    moves: bool

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.inputs[0].shape[-2:]
        return int(rows), int(columns)

    def expected(self, shifts: Tensor) -> Tensor:
        """T f(x), what an equivariant network makes of the object moved by n shifts ``(n, 2)``."""
        outputs = self.output.expand(len(shifts), *self.output.shape[1:])
        return circular_shift(outputs, shifts) if self.moves else outputs


class Portable(NamedTuple):
    """All of a run that an export needs.

    Attributes:
        network: with the run's normalisation, a module of plain tensors in eval mode.
        inputs: its ports.
        output: the same.
        multiple: of each side, the network's total stride.
        slices: real ones, none of which is a tie.
    """

    network: nn.Module
    inputs: tuple[Port, ...]
    output: Port
    multiple: int
    slices: list[RealSlice]


def spread_out(n: int) -> Iterator[int]:
    """The numbers below n, first some that lie far apart: a tie at one place need not be one at the next."""
    first = [(2 * i + 1) * n // (2 * N_SLICES) for i in range(min(n, N_SLICES))]
    yield from first
    yield from (number for number in range(n) if number not in first)


def without_ties(slices: Iterable[RealSlice | None]) -> list[RealSlice]:
    """The first slices that there are; None stands for a tie.

    Raises:
        InputError: all are ties.
    """
    found = list(islice((each for each in islice(slices, MOST_TRIED) if each is not None), N_SLICES))
    if not found:
        raise InputError(
            f"none of {MOST_TRIED} slices of the run's data proves anything, since each is blank or equals its own "
            "shift: export it beside data with content"
        )
    return found
