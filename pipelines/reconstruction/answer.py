"""What an evaluation found, in sentences: which run is best, by how much, and which are shift equivariant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.reconstruction.collected import ReconstructionFindings, protocol_name
from pipelines.reports.tables import decimals, error, short, small

NO_TARGET = "The files have no target, so quality was not measured."
MANY = 8  # runs that have a sentence each
ROUNDING = 1e-10  # NMSE_eq below it is rounding of float32 sums; an error of the method is above 1e-7


def answer(findings: ReconstructionFindings) -> list[str]:
    """The sentences."""
    names = [series.name for series in findings.series]
    each = len(names) <= MANY
    equivariance = [_equivariance(findings, name) for name in names] if each else _in_short(findings, names)
    return [*_quality(findings), *equivariance, *_motion(findings)]


def _quality(findings: ReconstructionFindings) -> list[str]:
    runs = [series.name for series in findings.having("plain", "psnr")]
    if not findings.same_data():
        said = "; ".join(f"{run} {_mean(findings, run, 'psnr'):.2f} dB" for run in runs)
        text = "The runs were measured on different data, so their figures do not compare."
        return [f"{text} PSNR: {said}." if said else text]
    if not runs:
        return [] if findings.protocols("psnr") or not findings.wants_quality() else [NO_TARGET]
    if len(runs) == 1:
        return [f"{runs[0]}: PSNR {_alone(findings, runs[0], 'psnr')}, SSIM {_alone(findings, runs[0], 'ssim')}."]
    return [_best(findings, runs, "psnr"), _best(findings, runs, "ssim")]


def _mean(findings: ReconstructionFindings, run: str, metric: str) -> float:
    return findings.get(run, "plain", metric, "mean")


def _said(metric: str, value: float) -> str:
    digits = {"psnr": 2, "ssim": 4}[metric]
    text = decimals(digits)(value)
    return (text if float(text.removeprefix("> ")) or not value else small(value)) + (" dB" if metric == "psnr" else "")


def _against_input(findings: ReconstructionFindings, run: str, metric: str) -> str:
    for baseline in findings.measured_baselines():
        before = findings.get(run, baseline, metric, "mean")
        if before is not None:
            gain = _mean(findings, run, metric) - before
            return f"{_said(metric, abs(gain))} {'above' if gain >= 0 else 'below'} {findings.baselines[baseline]}"
    return ""


def _alone(findings: ReconstructionFindings, run: str, metric: str) -> str:
    gain = _against_input(findings, run, metric)
    return _said(metric, _mean(findings, run, metric)) + (f" ({gain})" if gain else "")


def _best(findings: ReconstructionFindings, runs: Sequence[str], metric: str) -> str:
    """The best run, its lead over the second, and whether that is more than the spread of the paired differences."""
    first, second = sorted(runs, key=lambda run: -_mean(findings, run, metric))[:2]
    lead = _mean(findings, first, metric) - _mean(findings, second, metric)
    name = metric.upper()
    if not lead:
        return f"{name}: {first} and {second} are equal at {_alone(findings, first, metric)}."
    return f"Best {name}: {first} with {_alone(findings, first, metric)}. {_lead(findings, first, second, metric)}"


def _lead(findings: ReconstructionFindings, first: str, second: str, metric: str) -> str:
    """How far the first is ahead, and whether that is more than chance: the volumes or images of both tell."""
    one, other = (findings.rows.by_image(run, metric) for run in (first, second))
    lead = _said(metric, _mean(findings, first, metric) - _mean(findings, second, metric))
    cases = findings.cases_of_quality
    if len(one) < 2 or one.keys() != other.keys():
        why = f"with one {cases[:-1]}" if one.keys() == other.keys() else f"measured on other {cases}"
        return f"It is {lead} above {second}; {why}, nothing tells whether that is more than chance."
    leads = np.array([one[case] - other[case] for case in one])
    errors, ahead = float(2 * leads.std(ddof=1) / len(leads) ** 0.5), int((leads > 0).sum())
    return (
        f"It is ahead of {second} by {lead} on average (2 standard errors: {_said(metric, errors)} over {len(leads)} "
        f"{cases}; ahead in {'all' if ahead == len(leads) else ahead} of them): the lead "
        f"{'exceeds' if leads.mean() > errors else 'does not exceed'} two standard errors of the paired differences."
    )


def _equivariance(findings: ReconstructionFindings, run: str) -> str:
    parts = {p: findings.get(run, p) for p in findings.circular() if findings.get(run, p, "n_cases") is not None}
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
    return f"{run} is not shift equivariant: {_errors(findings, run, errors, worst)}.{apart}"


def _in_short(findings: ReconstructionFindings, runs: Sequence[str]) -> list[str]:
    """One sentence for all runs that are equivariant, and one for all others; the tables have the ties."""
    worst: dict[str, float] = {}
    for run in runs:
        errors = [findings.get(run, protocol, "nmse_eq_max") for protocol in findings.circular()]
        if known := [float(value) for value in errors if value is not None]:
            worst[run] = max(known)
    exact = [run for run, error_of_run in worst.items() if error_of_run < ROUNDING]
    others = [run for run in worst if run not in exact]
    said = []
    if exact:
        most = small(max(worst[run] for run in exact))
        said.append(f"Shift equivariant, exact or up to rounding (NMSE_eq at most {most}): {', '.join(exact)}.")
    if others:
        listed = ", ".join(f"{run} {small(worst[run])}" for run in others)
        said.append(f"Not shift equivariant, with the worst NMSE_eq of all circular protocols: {listed}.")
    return said


def _counted(ties: int) -> str:
    return "1 more pair is a tie" if ties == 1 else f"{ties} more pairs are ties"


def _errors(findings: ReconstructionFindings, run: str, errors: dict[str, float], worst: str) -> str:
    """How large, on the test images first, and where it is worst."""
    usual = "equivariance" if "equivariance" in errors else worst
    text = f"NMSE_eq up to {small(errors[usual])}"
    before = findings.get(run, usual, "nmse_eq_input_max")
    if before is not None:
        text += f" (its input, back-projected before and after the movement: {small(before)})"
    change = findings.get(run, usual, "dpsnr_max")
    if change is not None:
        text += f", and a shift changes the PSNR by up to {short(change)} dB"
    if errors[worst] > errors[usual]:
        text += f"; NMSE_eq up to {small(errors[worst])} elsewhere ({protocol_name(worst)})"
    return text


def _motion(findings: ReconstructionFindings) -> list[str]:
    """What a patient's motion leaves, as it happens: circular shifts by whole pixels are not all of it."""
    said = []
    for move, name in (("whole", "whole pixels"), ("fractional", "fractions of a pixel")):
        path = ("physical-shift", move, "nmse_eq_mean")
        means = [f"{run.name} {error(findings.get(run.name, *path))}" for run in findings.having(*path)]
        said += [f"by {name}: {', '.join(means)}"] if means else []
    found = [f"Mean NMSE_eq when the object moves before the acquisition, {'; '.join(said)}."] if said else []
    worst = [
        f"{run.name} {error(findings.get(run.name, 'any-shift', 'nmse_eq_max'))}"
        for run in findings.having("any-shift", "nmse_eq_max")
    ]
    if worst:
        found.append(f"Worst NMSE_eq of complex images moved by quarters and tenths of a pixel: {', '.join(worst)}.")
    return found
