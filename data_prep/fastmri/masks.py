"""Undersampling masks over the columns of k-space: fastMRI's own functions, seeded."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recon.errors import InputError, check_choice

if TYPE_CHECKING:
    from fastmri.data.subsample import MaskFunc

N_DRAWS = 1000  # of a mask that may have no column
MASK_TYPES = ("random", "equispaced", "equispaced_fraction", "magic", "magic_fraction")


def make_mask(
    mask_type: str,
    n_columns: int,
    center_fractions: Sequence[float],
    accelerations: Sequence[int],
    seed: tuple[int, ...],
) -> Tensor:
    """Draw a mask over the columns of k-space (arXiv 1811.08839, section 4.9; `fastmri.data.subsample`).

    All masks keep round(n_columns * center_fraction) columns around the centre. Of the rest, `random` keeps each
    with equal probability, `equispaced` every acceleration-th one from a random offset, `magic` the same with an
    offset that exploits conjugate symmetry (arXiv 1912.01101); the `_fraction` kinds widen the step so that the
    whole mask, centre included, has 1 / acceleration of the columns.

    Args:
        mask_type: one of `MASK_TYPES`.
        n_columns: the number of columns of k-space.
        center_fractions: fractions in (0, 1).
        accelerations: whole numbers >= 1, as many as center_fractions; one pair is drawn per mask.
        seed: whole numbers in [0, 2**32); equal seeds give equal masks. fastMRI's evaluation seeds with
            `tuple(map(ord, file_name))`.

    Returns:
        Tensor (n_columns,) bool, True where a column is measured: at least one. Where fastMRI's draw leaves none (a
        centre of no column, a high acceleration, few columns), the next one counts.

    Raises:
        InputError: an unknown type, or numbers that make no mask on so many columns.
    """
    return _draw(mask_type, n_columns, tuple(center_fractions), tuple(accelerations), seed).clone()


@lru_cache  # in evaluation all slices of a volume have one mask
def _draw(
    mask_type: str,
    n_columns: int,
    center_fractions: tuple[float, ...],
    accelerations: tuple[int, ...],
    seed: tuple[int, ...],
) -> Tensor:
    check_mask(mask_type, center_fractions, accelerations)
    function = _mask_func(mask_type, center_fractions, accelerations, threading.get_ident())
    try:
        for draw in range(N_DRAWS):
            mask, _ = function((1, n_columns, 1), seed=(*seed, draw) if draw else seed)
            if mask.any():
                return mask.reshape(-1).to(torch.bool)
    except (ValueError, ZeroDivisionError, IndexError) as error:
        raise InputError(
            f"mask type {mask_type!r} with center_fractions {list(center_fractions)} and accelerations "
            f"{list(accelerations)} has no columns left to place on {n_columns} columns: lower one of the two."
        ) from error
    raise InputError(
        f"mask type {mask_type!r} with center_fractions {list(center_fractions)} and accelerations "
        f"{list(accelerations)} measures none of {n_columns} columns: raise the former or lower the latter."
    )


def check_mask(mask_type: str, center_fractions: Sequence[float], accelerations: Sequence[int]) -> None:
    """Refuse mask settings that can make no mask.

    Raises:
        InputError: an unknown type; lists of unequal length or empty; a number outside its range; a centre that
            alone is more than 1 / acceleration of the columns.
    """
    check_choice("mask_type", mask_type, MASK_TYPES)
    if not center_fractions or len(center_fractions) != len(accelerations):
        raise InputError(
            f"center_fractions has {len(center_fractions)} and accelerations {len(accelerations)} entries: "
            "give one or more of each, in pairs."
        )
    for fraction, acceleration in zip(center_fractions, accelerations, strict=True):
        if not 0 < fraction < 1:
            raise InputError(f"center_fractions holds {fraction}: give a number between 0 and 1.")
        if acceleration < 1 or acceleration != int(acceleration):
            raise InputError(f"accelerations holds {acceleration}: give a whole number of at least 1.")
        if fraction * acceleration > 1:
            raise InputError(
                f"the centre alone (center_fractions {fraction}) is more than 1/{acceleration} of the columns: "
                f"lower it below {1 / acceleration:.3g} or lower the acceleration."
            )


@lru_cache  # making one takes as long as drawing with it
def _mask_func(
    mask_type: str, center_fractions: tuple[float, ...], accelerations: tuple[int, ...], thread: int
) -> MaskFunc:
    """fastMRI's own, one for each thread: its generator changes while it draws."""
    from fastmri.data import subsample  # fastmri takes seconds to import: not before the first mask

    functions = {
        "random": subsample.RandomMaskFunc,
        "equispaced": subsample.EquiSpacedMaskFunc,
        "equispaced_fraction": subsample.EquispacedMaskFractionFunc,
        "magic": subsample.MagicMaskFunc,
        "magic_fraction": subsample.MagicMaskFractionFunc,
    }
    return functions[mask_type](center_fractions, accelerations)
