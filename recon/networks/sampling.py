"""The variants of a network: what ``sampling`` and ``blur`` mean, as pairs of a selector and a low-pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from recon.errors import InputError, check_choice
from recon.layers import BinomialBlur, FixedPhase, MaxNorm
from recon.layers.selectors import CRITERIA, SCORE_ON

SelectorAndLowpass = tuple[nn.Module, BinomialBlur | None]
"""The two that :class:`recon.layers.PolyphaseSampling` and :class:`recon.layers.PolyphaseMaxPool` take."""


class Variant(NamedTuple):
    """What one value of ``sampling`` means for every strided operation of a network.

    Attributes:
        selector: the class of the selector, or a function that makes one, called with ``criterion`` and ``score_on``:
            a selector that is to be chosen by name must take both. None for the fixed phase.
        blur: the size of the binomial blur unless it is given.
        blurs: the sizes that can be given.
        hint: what to say about another size from 1 to 7.
    """

    selector: Callable[[str, str], nn.Module] | None
    blur: int
    blurs: range
    hint: str = ""


VARIANTS = {
    "stride": Variant(None, 1, range(1, 2), "sampling stride has no blur: for blur {blur} write sampling lpf or aps"),
    "lpf": Variant(
        None, 3, range(2, 8), "sampling lpf with blur {blur} does not blur: write sampling stride, or blur 2 to 7"
    ),
    "aps": Variant(MaxNorm, 1, range(1, 8)),
}


def resolve_blur(sampling: str, blur: int | None) -> int:
    """The size of the blur that a (sampling, blur) pair means: stride 1, lpf 3 and aps 1 by default.

    Raises:
        InputError: an unknown sampling, a size outside 1 to 7, stride with a blur, lpf without one.
    """
    if sampling == "alias_free":
        raise InputError(
            "sampling alias_free is a network of its own, AliasFreeUNet, and for complex images: take it, or for MRI "
            f"one of the networks complex_unet, varnet and modl, or sampling {', '.join(VARIANTS)}"
        )
    check_choice("sampling", sampling, VARIANTS)
    variant = VARIANTS[sampling]
    size = variant.blur if blur is None else blur
    BinomialBlur(size)
    if size not in variant.blurs:
        raise InputError(variant.hint.format(blur=size))
    return size


def make_selector_and_lowpass(
    sampling: str,
    blur: int | None,
    criterion: str = "l2",
    score_on: str = "output",
    selector: nn.Module | None = None,
) -> SelectorAndLowpass:
    """The selector and the low-pass of one strided operation, as the settings of a network say.

    Args:
        sampling: a row of VARIANTS.
        blur: size of the blur; None for the row's.
        criterion: of the row's selector; the default where there is none, or where ``selector`` stands for it.
        score_on: the same.
        selector: a module that obeys the selector law, of which the operation gets a copy of its own; None for the
            row's.

    Raises:
        InputError: see :func:`resolve_blur`; a selector for a variant of fixed phase; an unknown criterion or score_on,
            or one other than the default that nothing would use.
    """
    size, variant = resolve_blur(sampling, blur), VARIANTS[sampling]
    lowpass = BinomialBlur(size) if size > 1 else None
    check_choice("criterion", criterion, CRITERIA)
    check_choice("score_on", score_on, SCORE_ON)
    if variant.selector is None and selector is not None:
        raise InputError(f"sampling {sampling} has a fixed phase and takes no selector: write sampling aps")
    if variant.selector is not None and selector is None:
        return variant.selector(criterion, score_on), lowpass
    for setting, value, default in (("criterion", criterion, "l2"), ("score_on", score_on, "output")):
        if value == default:
            continue
        if selector is not None:
            raise InputError(f"{setting} {value} has no effect beside a selector of your own: leave one of them out")
        raise InputError(
            f"{setting} {value} has no effect with sampling {sampling}, whose phase is fixed: leave it out, "
            "or write sampling aps"
        )
    return copy.deepcopy(selector) if selector is not None else FixedPhase(), lowpass
