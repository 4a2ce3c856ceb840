"""The variants of a network: what sampling and blur mean together."""

from __future__ import annotations

import copy

from torch import nn

from recon.errors import InputError, check_choice
from recon.layers import BinomialBlur, FixedPhase, MaxNorm

SAMPLINGS = ("stride", "lpf", "aps")


def resolve_blur(sampling: str, blur: int | None) -> int:
    """The size of the blur that a (sampling, blur) pair means: stride 1, lpf 3 and aps 1 by default.

    Raises:
        InputError: an unknown sampling, a size outside 1 to 7, stride with a blur, lpf without one.
    """
    check_choice("sampling", sampling, SAMPLINGS)
    size = {"stride": 1, "lpf": 3, "aps": 1}[sampling] if blur is None else blur
    BinomialBlur(size)
    if sampling == "stride" and size != 1:
        raise InputError(f"sampling stride has no blur: for blur {size} write sampling lpf or aps")
    if sampling == "lpf" and size == 1:
        raise InputError("sampling lpf with blur 1 does not blur: write sampling stride, or blur 2 to 7")
    return size


def make_selector(sampling: str, criterion: str, score_on: str, selector: nn.Module | None) -> nn.Module:
    """The selector of one strided place: of FixedPhase, MaxNorm and a given one, what the settings mean.

    Args:
        sampling: stride, lpf or aps.
        criterion: of MaxNorm.
        score_on: of MaxNorm.
        selector: a module that obeys the selector law, of which each place gets a copy of its own; None for MaxNorm.

    Raises:
        InputError: a selector is given for another sampling than aps; or an unknown criterion or score_on.
    """
    if selector is None:
        return MaxNorm(criterion, score_on) if sampling == "aps" else FixedPhase()
    if sampling != "aps":
        raise InputError(f"sampling {sampling} has a fixed phase and takes no selector: write sampling aps")
    return copy.deepcopy(selector)
