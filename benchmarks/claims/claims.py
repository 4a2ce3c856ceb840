"""The claims, each with the figures that it is judged by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from benchmarks.claims.figures import Figures
from benchmarks.claims.verdicts import EXACT, Word, equal, exact, interval, larger

APS = ("aps", "aps3")
ANY_TRANSLATION = ("alias_free", "stride, centred")
SHIFTED = "stride, shifted in training"
OUTSIDE = ("white_mean", "natural_mean")
SAME_TIME = 1.05  # of stride's
STATES = ("trained", "untrained")


class Evidence(NamedTuple):
    """What one sweep says of a claim.

    Attributes:
        sweep: its name.
        text: the figures, in words.
        verdict: from them.
    """

    sweep: str
    text: str
    verdict: Word


class Claim(NamedTuple):
    """One claim.

    Attributes:
        letter: to refer to it.
        text: what is claimed.
        source: "the papers", or "this project".
        judge: gives the evidence of some figures, by the margins.
    """

    letter: str
    text: str
    source: str
    judge: Callable[[Figures, Mapping[str, float]], Iterator[Evidence]]


def equal_quality(figures: Figures, margins: Mapping[str, float]) -> Iterator[Evidence]:
    """PSNR of aps beside stride."""
    for sweep in figures.sweeps:
        for variant in APS:
            found = figures.samples(sweep, variant, "psnr", against="stride")
            if found:
                text = f"{variant} less stride: {interval(found)} dB, n {len(found)}"
                yield Evidence(sweep, text, equal(found, margins.get("psnr")))


def _exactness(figures: Figures, sweep: str, variants: tuple[str, ...], metrics: tuple[str, ...]) -> Iterator[Evidence]:
    for variant in variants:
        for state in STATES:
            found = [value for metric in metrics for value in figures.values(sweep, variant, metric, state)]
            control = [value for metric in metrics for value in figures.values(sweep, "stride", metric, state)]
            if found and control:
                text = (
                    f"{variant}, {state}: {max(found):.1e} at worst (stride: {max(control):.1e}), {len(found)} figures"
                )
                yield Evidence(sweep, text, exact(found, control))


def exact_networks(figures: Figures, margins: Mapping[str, float]) -> Iterator[Evidence]:
    """The U-Nets' largest error under whole-pixel shifts."""
    for sweep in figures.sweeps:
        if "unet" in sweep:
            yield from _exactness(figures, sweep, APS, ("whole_max",))


def exact_reconstructions(figures: Figures, margins: Mapping[str, float]) -> Iterator[Evidence]:
    """The unrolled networks' largest error, where the object moved before the acquisition; CT's projector is none."""
    for sweep in figures.sweeps:
        if sweep.startswith("mri-unrolled"):
            yield from _exactness(figures, sweep, APS, ("whole_max",))


def exact_between_pixels(figures: Figures, margins: Mapping[str, float]) -> Iterator[Evidence]:
    """The largest error under whole-pixel and fractional movements."""
    for sweep in figures.sweeps:
        yield from _exactness(figures, sweep, ANY_TRANSLATION, ("whole_max", "fraction_max"))


def lost_outside(figures: Figures, margins: Mapping[str, float]) -> Iterator[Evidence]:
    """By which factor augmentation and blur lower the error: on the training's kind of images, and on others."""
    for sweep in figures.sweeps:
        for variant in (SHIFTED, "lpf"):
            inside = _factors(figures, sweep, variant, "whole_mean")
            outside = [
                sum(parts) / len(parts)
                for parts in zip(*(_factors(figures, sweep, variant, metric) for metric in OUTSIDE), strict=False)
            ]
            if not inside or len(outside) != len(inside):
                continue
            lost = [a - b for a, b in zip(inside, outside, strict=True)]
            better, worse = larger(inside), larger(lost)
            words: Word = "holds" if (better, worse) == ("holds", "holds") else "inconclusive"
            text = (
                f"{variant}: error divided by {10 ** (sum(inside) / len(inside)):.1f} inside, by "
                f"{10 ** (sum(outside) / len(outside)):.1f} outside, n {len(inside)}"
            )
            yield Evidence(sweep, text, "fails" if "fails" in (better, worse) else words)


def _factors(figures: Figures, sweep: str, variant: str, metric: str) -> list[float]:
    """log10 of stride's error over the variant's, of each unit and seed that both have."""
    own, base = (figures.by_unit(sweep, name, metric) for name in (variant, "stride"))
    return [
        math.log10(base[unit][seed] / value)
        for unit, seeds in sorted(own.items())
        for seed, value in sorted(seeds.items())
        if value > 0 and base.get(unit, {}).get(seed, 0) > 0
    ]


def consistent(figures: Figures, margins: Mapping[str, float]) -> Iterator[Evidence]:
    """Classifiers: the share of pairs of shifts with the same answer, and the accuracy."""
    for sweep in figures.sweeps:
        for variant in APS:
            for state in STATES:
                found = figures.values(sweep, variant, "consistency", state)
                control = figures.values(sweep, "stride", "consistency", state)
                if found and control:
                    telling = min(control) < 1  # else nothing is shown by giving one answer always
                    same: Word = "fails" if min(found) < 1 else "holds" if telling else "inconclusive"
                    text = f"{variant}, {state}: {min(found):.2%} at least (stride: {min(control):.2%})"
                    yield Evidence(sweep, text, same)
            accuracy = figures.samples(sweep, variant, "accuracy", against="stride")
            if accuracy:
                text = f"{variant} less stride: {interval([100 * x for x in accuracy])} points, n {len(accuracy)}"
                yield Evidence(sweep, text, equal(accuracy, margins.get("accuracy")))


def gains_quality(figures: Figures, margins: Mapping[str, float]) -> Iterator[Evidence]:
    """PSNR of exact networks beside stride, on few measured data."""
    for sweep in figures.sweeps:
        for variant in (*APS, *ANY_TRANSLATION) if sweep.endswith("measured") else ():
            found = figures.samples(sweep, variant, "psnr", against="stride")
            if found:
                word: Word = larger(found) if margins else "inconclusive"
                yield Evidence(sweep, f"{variant} less stride: {interval(found)} dB, n {len(found)}", word)


def no_cost(figures: Figures, margins: Mapping[str, float]) -> Iterator[Evidence]:
    """Time beside stride in turns."""
    for sweep in figures.sweeps:
        for variant in (*APS, *ANY_TRANSLATION):
            ratios = {what: figures.values(sweep, variant, f"{what}_time_ratio") for what in ("training", "inference")}
            if all(ratios.values()):
                text = ", ".join(f"{what} {found[0]:.2f}" for what, found in ratios.items())
                most = max(found[0] for found in ratios.values())
                yield Evidence(sweep, f"{variant}: {text} of stride's time", "holds" if most <= SAME_TIME else "fails")


CLAIMS = (
    Claim("a", "aps reconstructs as well as the plain network", "papers", equal_quality),
    Claim("b", f"an aps U-Net is exact under circular shifts (NMSE_eq up to {EXACT:.0e}), trained or not", "papers",
          exact_networks),
    Claim("c", "augmentation and blur lower the error on the training's kind of images, and lose it on others",
          "papers", lost_outside),
    Claim("d", "aps classifiers give one answer for all shifts, trained or not, at no loss of accuracy", "papers",
          consistent),
    Claim("e", "the whole unrolled reconstruction with aps is exact when the object moves by whole pixels before the "
          "acquisition", "this project", exact_reconstructions),
    Claim("f", "alias_free and Centred are exact under any movement, fractions of a pixel as well", "this project",
          exact_between_pixels),
    Claim("g", "with few measured data exactness gains quality", "this project", gains_quality),
    Claim("h", f"it costs no time (up to {SAME_TIME:.2f} of the plain network's)", "this project", no_cost),
)  # fmt: skip
