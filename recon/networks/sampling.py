"""The variants of a network: what ``sampling`` and ``blur`` mean, as pairs of a selector and a low-pass."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from recon.errors import InputError, check_choice
from recon.layers import BinomialBlur, FixedPhase, LearnedScore, MaxNorm
from recon.layers.selectors import CRITERIA, SCORE_ON

SelectorAndLowpass = tuple[nn.Module, BinomialBlur | None]
"""The two that :class:`recon.layers.PolyphaseSampling` and :class:`recon.layers.PolyphaseMaxPool` take."""


class Settings(NamedTuple):
    """What a network says about all of its selectors; each variant uses some of it, and refuses the rest.

    Attributes:
        criterion: what aps maximises.
        score_on: where aps and lps score.
        temperature: of lps.
        selector: a module that obeys the selector law, of which each operation gets a copy of its own, in the place of
            MaxNorm; None for the variant's own.
    """

    criterion: str = "l2"
    score_on: str = "output"
    temperature: float = 1.0
    selector: nn.Module | None = None


class Variant(NamedTuple):
    """What one value of ``sampling`` means for every strided operation of a network.

    Attributes:
        selector: makes a selector of the settings and of the channels and the spatial dimensions of what it scores.
        uses: the settings that have an effect.
        otherwise: why another setting has none.
        blur: the size of the binomial blur unless it is given.
        blurs: the sizes that can be given.
        hint: what to say about another size from 1 to 7.
    """

    selector: Callable[[Settings, int, int], nn.Module]
    uses: frozenset[str]
    otherwise: str
    blur: int
    blurs: range
    hint: str = ""


def _fixed(settings: Settings, n_channels: int, spatial_dims: int) -> nn.Module:
    return FixedPhase()


def _largest(settings: Settings, n_channels: int, spatial_dims: int) -> nn.Module:
    if settings.selector is not None:
        return copy.deepcopy(settings.selector)
    return MaxNorm(settings.criterion, settings.score_on)


def _learned(settings: Settings, n_channels: int, spatial_dims: int) -> nn.Module:
    return LearnedScore(n_channels, spatial_dims, settings.score_on, settings.temperature)


FIXED = (_fixed, frozenset[str](), "whose phase is fixed")
VARIANTS = {
    "stride": Variant(*FIXED, 1, range(1, 2), "sampling stride has no blur: for blur {blur} write sampling lpf or aps"),
    "lpf": Variant(
        *FIXED, 3, range(2, 8), "sampling lpf with blur {blur} does not blur: write sampling stride, or blur 2 to 7"
    ),
    "aps": Variant(
        _largest, frozenset({"criterion", "score_on", "selector"}), "whose score is not learned", 1, range(1, 8)
    ),
    "lps": Variant(_learned, frozenset({"score_on", "temperature"}), "whose score is learned", 1, range(1, 8)),
}
DEFAULTS = Settings()


def resolve_blur(sampling: str, blur: int | None) -> int:
    """The size of the blur that a (sampling, blur) pair means: stride 1, lpf 3, aps and lps 1 by default.

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
    sampling: str, blur: int | None, settings: Settings, channels: tuple[int, int], spatial_dims: int = 2
) -> SelectorAndLowpass:
    """The selector and the low-pass of one strided operation, as the settings of a network say.

    Args:
        sampling: a row of VARIANTS.
        blur: size of the blur; None for the row's.
        settings: of all selectors of the network.
        channels: of the operation's input and of its output.
        spatial_dims: 1, 2 or 3.

    Raises:
        InputError: see :func:`resolve_blur`; an unknown criterion or score_on; a setting other than the default that
            nothing would use.
    """
    size, variant = resolve_blur(sampling, blur), VARIANTS[sampling]
    check_choice("criterion", settings.criterion, CRITERIA)
    check_choice("score_on", settings.score_on, SCORE_ON)
    if settings.selector is not None and "selector" not in variant.uses:
        raise InputError(f"sampling {sampling} takes no selector of your own: write sampling aps")
    for name in ("criterion", "score_on", "temperature"):
        value = getattr(settings, name)
        if value == getattr(DEFAULTS, name):
            continue
        if name not in variant.uses:
            user = next(other for other in VARIANTS if name in VARIANTS[other].uses)
            raise InputError(
                f"{name} {value} has no effect with sampling {sampling}, {variant.otherwise}: leave it out, "
                f"or write sampling {user}"
            )
        if settings.selector is not None:
            raise InputError(f"{name} {value} has no effect beside a selector of your own: leave one of them out")
    selector = variant.selector(settings, channels[settings.score_on == "output"], spatial_dims)
    return selector, BinomialBlur(size) if size > 1 else None
