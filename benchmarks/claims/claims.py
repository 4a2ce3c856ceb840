"""The claims, each with the figures that it is judged by."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import fmean
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
            if not all(figures.values(sweep, variant, metric, state) for metric in metrics):
                continue  # one of them was not measured
            found = [value for metric in metrics for value in figures.values(sweep, variant, metric, state)]
            control = [value for metric in metrics for value in figures.values(sweep, "stride", metric, state)]
            if found and control:
                text = f"{variant}, {state}: {max(found):.1e} at worst (stride: {max(control):.1e}), n {len(found)}"
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
    """By which factor augmentation and blur lower the error: on the training's kind of images, and on others.

    Lost is more than half of the gain, in powers of ten. The short form says nothing.
    """
    for sweep in figures.sweeps:
        for variant in (SHIFTED, "lpf"):
            factors = [_factors(figures, sweep, variant, metric) for metric in ("whole_mean", *OUTSIDE)]
            units = sorted(set.intersection(*map(set, factors)))
            if not units:
                continue
            inside = [factors[0][unit] for unit in units]
            outside = [fmean(factor[unit] for factor in factors[1:]) for unit in units]
            kept = [b - a / 2 for a, b in zip(inside, outside, strict=True)]  # above 0: more than half of the gain
            better, stays = larger(inside), larger(kept)
            word: Word = "inconclusive"
            if margins and "inconclusive" not in (better, stays):
                word = "holds" if (better, stays) == ("holds", "fails") else "fails"
            text = (
                f"{variant}: error divided by {10 ** fmean(inside):.1f} inside, by {10 ** fmean(outside):.1f} outside, "
                f"n {len(units)}"
            )
            yield Evidence(sweep, text, word)


def _factors(figures: Figures, sweep: str, variant: str, metric: str) -> dict[str, float]:
    """log10 of stride's error over the variant's: each person's mean over seeds; of a single unit, each seed's."""
    own, base = (figures.by_unit(sweep, name, metric) for name in (variant, "stride"))
    found = {
        unit: {
            seed: math.log10(base[unit][seed] / value)
            for seed, value in seeds.items()
            if value > 0 and base.get(unit, {}).get(seed, 0) > 0
        }
        for unit, seeds in own.items()
    }
    if len(found) == 1:
        return {str(seed): factor for seeds in found.values() for seed, factor in seeds.items()}
    return {unit: fmean(seeds.values()) for unit, seeds in found.items() if seeds}


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
