"""What an evaluation found, in sentences: which run is best, by how much, and which are shift equivariant."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.qualities import BASELINES
from pipelines.reports.facts import Evaluation, protocol_name
from pipelines.reports.tables import decimals, error, short, small

ROUNDING = 1e-10  # NMSE_eq below it is rounding of float32 sums; an error of the method is above 1e-7


def answer(evaluation: Evaluation) -> list[str]:
    """The sentences."""
    equivariance = [_equivariance(evaluation, series.name) for series in evaluation.series]
    return [*_quality(evaluation), *equivariance, *_motion(evaluation)]


def _quality(evaluation: Evaluation) -> list[str]:
    runs = [series.name for series in evaluation.having("plain", "psnr")]
    if not runs:
        return ["The files have no target, so quality was not measured."] if not evaluation.protocols("psnr") else []
    if not evaluation.same_data():
        said = "; ".join(f"{run} {_mean(evaluation, run, 'psnr'):.2f} dB" for run in runs)
        return [f"The runs were measured on different data, so their quality does not compare. PSNR: {said}."]
    if len(runs) == 1:
        return [f"{runs[0]}: PSNR {_alone(evaluation, runs[0], 'psnr')}, SSIM {_alone(evaluation, runs[0], 'ssim')}."]
    return [_best(evaluation, runs, "psnr"), _best(evaluation, runs, "ssim")]


def _mean(evaluation: Evaluation, run: str, metric: str) -> float:
    return evaluation.get(run, "plain", metric, "mean")


def _said(metric: str, value: float) -> str:
    digits = {"psnr": 2, "ssim": 4}[metric]
    text = decimals(digits)(value)
    return (text if float(text.removeprefix("> ")) or not value else small(value)) + (" dB" if metric == "psnr" else "")


def _against_input(evaluation: Evaluation, run: str, metric: str) -> str:
    for baseline in evaluation.baselines():
        before = evaluation.get(run, baseline, metric, "mean")
        if before is not None:
            gain = _mean(evaluation, run, metric) - before
            return f"{_said(metric, abs(gain))} {'above' if gain >= 0 else 'below'} {BASELINES[baseline]}"
    return ""


def _alone(evaluation: Evaluation, run: str, metric: str) -> str:
    gain = _against_input(evaluation, run, metric)
    return _said(metric, _mean(evaluation, run, metric)) + (f" ({gain})" if gain else "")


def _best(evaluation: Evaluation, runs: Sequence[str], metric: str) -> str:
    """The best run, its lead over the second, and whether that is more than the spread between volumes."""
    first, second = sorted(runs, key=lambda run: -_mean(evaluation, run, metric))[:2]
    lead = _mean(evaluation, first, metric) - _mean(evaluation, second, metric)
    name = metric.upper()
    if not lead:
        return f"{name}: {first} and {second} are equal at {_alone(evaluation, first, metric)}."
    gain = _against_input(evaluation, first, metric)
    text = (
        f"Best {name}: {first} with {_said(metric, _mean(evaluation, first, metric))}, "
        f"{_said(metric, lead)} above {second}{f' and {gain}' if gain else ''}."
    )
    part = evaluation.get(first, "plain", metric)
    if part["n"] < 2:
        return (
            f"{text} With one {evaluation.cases_of_quality[:-1]} nothing tells whether this lead is more than chance."
        )
    verdict = "more than" if lead > part["two_sd"] else "within"
    return (
        f"{text} The lead over {second} is {verdict} the 2 sd of {_said(metric, part['two_sd'])} "
        f"between {part['n']} {evaluation.cases_of_quality}{_pairs(evaluation, first, second, metric)}."
    )


def _pairs(evaluation: Evaluation, first: str, second: str, metric: str) -> str:
    """In how many volumes or images the first is ahead, where both were measured on the same."""
    one, other = (
        {(row.volume, row.slice): value for row, value in evaluation.cases(run, "plain", metric)}
        for run in (first, second)
    )
    if not one or one.keys() != other.keys():
        return ""
    ahead = sum(one[case] > other[case] for case in one)
    return f"; it is ahead in {'all' if ahead == len(one) else ahead} of them"


def _equivariance(evaluation: Evaluation, run: str) -> str:
    parts = {p: evaluation.get(run, p) for p in evaluation.circular() if evaluation.get(run, p, "n_cases") is not None}
    cases, exact, ties = (sum(part[key] for part in parts.values()) for key in ("n_cases", "n_exact", "n_ties"))
    if not cases:
        return f"{run}: shift equivariance was not measured."
    apart = f" {_counted(ties)}, counted apart." if ties else ""
    if ties == cases:
        return f"{run}: every input is a tie, so nothing can be said of its shift equivariance."
    if exact == cases - ties:
        return f"{run} is shift equivariant, exact: all {exact} of {exact} pairs are equal bit for bit.{apart}"
    errors = {protocol: part["nmse_eq_max"] for protocol, part in parts.items() if "nmse_eq_max" in part}
    worst = max(errors, key=errors.__getitem__, default=None)
    if worst is None:
        return f"{run}: {exact} of {cases - ties} pairs are equal bit for bit; NMSE_eq is undefined.{apart}"
    if errors[worst] < ROUNDING:
        return (
            f"{run} is shift equivariant up to rounding: NMSE_eq is below 1e-10 in every circular protocol "
            f"(at most {small(errors[worst])}), and {exact} of {cases - ties} pairs are equal bit for bit.{apart}"
        )
    return f"{run} is not shift equivariant: {_errors(evaluation, run, errors, worst)}.{apart}"


def _counted(ties: int) -> str:
    return "1 more pair is a tie" if ties == 1 else f"{ties} more pairs are ties"


def _errors(evaluation: Evaluation, run: str, errors: dict[str, float], worst: str) -> str:
    """How large, on the test images first, and where it is worst."""
    usual = "equivariance" if "equivariance" in errors else worst
    text = f"NMSE_eq up to {small(errors[usual])}"
    change = evaluation.get(run, usual, "dpsnr_max")
    if change is not None:
        text += f", and a shift changes the PSNR by up to {short(change)} dB"
    if errors[worst] > errors[usual]:
        text += f"; NMSE_eq up to {small(errors[worst])} elsewhere ({protocol_name(worst)})"
    return text


def _motion(evaluation: Evaluation) -> list[str]:
    """What a patient's motion leaves, as it happens: circular shifts by whole pixels are not all of it."""
    said = []
    for kind, name in (("whole", "whole pixels"), ("fractional", "fractions of a pixel")):
        path = ("physical-shift", kind, "nmse_eq_mean")
        means = [f"{run.name} {error(evaluation.get(run.name, *path))}" for run in evaluation.having(*path)]
        said += [f"by {name}: {', '.join(means)}"] if means else []
    return [f"Mean NMSE_eq when the object moves before the acquisition, {'; '.join(said)}."] if said else []
