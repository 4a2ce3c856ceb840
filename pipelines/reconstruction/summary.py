"""From rows to what a person reads: the summary's figures and the tables on the terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table

from pipelines.measuring.margins import summarise_margins
from pipelines.measuring.rows import Row, Summaries, Summary
from pipelines.runtime.shell import terminal

SHIFT_ERRORS = {
    "nmse_eq": ("mean", "max"), "psnr_eq": ("mean", "min"), "ssim_eq": ("mean", "min"),
    "max_abs": ("max",), "dpsnr": ("mean", "max"), "nmse_eq_input": ("mean", "max"),
}  # fmt: skip
AGREEMENTS = ("psnr_eq", "ssim_eq")  # of identical outputs: infinite, and 1


def summarise(rows: Sequence[Row], acquisitions: Mapping[str, str] | None = None) -> Summary:
    """Condense the rows of one run: by protocol, the quality of volumes and the errors of shifts.

    Quality: mean and two standard deviations over volumes, or images. Identical outputs ("exact") enter no figure
    of PSNR_eq and SSIM_eq, what is undefined no figure of NMSE_eq ("n_blank" counts them, where there are some), and
    ties no figure but their count.

    Args:
        rows: of one run.
        acquisitions: by volume, such as CORPD_FBK, to give the plain quality by acquisition as well.
    """
    by_protocol: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_protocol[row.protocol].append(row)
    summary: Summary = {}
    for protocol, found in by_protocol.items():
        if protocol == "margins":
            summary[protocol] = summarise_margins(found)
        elif protocol == "physical-shift":
            summary[protocol] = _physical(found)
        elif protocol == "shift-curve":
            summary[protocol] = _curve(found)
        else:
            summary[protocol] = _quality(found) | _shift_errors(found)
    names = set((acquisitions or {}).values())
    if "plain" in summary and acquisitions and len(names) > 1:
        summary["plain"]["by_acquisition"] = {
            name: _quality([row for row in by_protocol["plain"] if acquisitions[row.volume] == name])
            for name in sorted(names)
        }
    return summary


def _statistics(values: Sequence[float]) -> Summary:
    """Mean, twice the sample standard deviation (n - 1, as fastmri.evaluate has it; 0 for one value), and number."""
    two_sd = float(2 * np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return {"mean": float(np.mean(values)), "two_sd": two_sd, "n": len(values)}


def _quality(rows: Sequence[Row]) -> Summary:
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.metric not in SHIFT_ERRORS:
            values[row.metric].append(float(row.value))
    return {metric: _statistics(found) for metric, found in values.items()}


def _shift_errors(rows: Sequence[Row]) -> Summary:
    cases = [row for row in rows if row.metric == "nmse_eq"]
    if not cases:
        return {}
    part = _counts(cases)
    part["n_exact"] = sum(row.status == "exact" for row in cases)
    for metric, statistics in SHIFT_ERRORS.items():
        found = _values(rows, metric)
        if found:
            part |= {f"{metric}_{name}": float(getattr(np, name)(found)) for name in statistics}
    worst: dict[tuple[str, float | str], float] = {}
    for row in rows:
        if row.metric == "dpsnr" and row.status != "tie" and row.value != "":
            image = (row.volume, row.slice)
            worst[image] = max(worst.get(image, 0.0), float(row.value))
    if worst:
        part["dpsnr_image_max"] = _statistics(list(worst.values()))
    return part


def _counts(cases: Sequence[Row]) -> Summary:
    """How many cases there are, how many of them are ties, and of how many others NMSE_eq has no value."""
    part = {"n_cases": len(cases), "n_ties": sum(row.status == "tie" for row in cases)}
    n_blank = sum(row.status == "ok" and row.value == "" for row in cases)
    return part | ({"n_blank": n_blank} if n_blank else {})


def _values(rows: Sequence[Row], metric: str) -> list[float]:
    left_out = ("tie", "exact") if metric in AGREEMENTS else ("tie",)
    return [float(row.value) for row in rows if row.metric == metric and row.status not in left_out and row.value != ""]


def _physical(rows: Sequence[Row]) -> Summary:
    """The errors of each step, for shifts by whole pixels and by fractions of one."""
    part: Summary = {}
    for move in ("whole", "fractional"):
        found = [row for row in rows if _is_whole(row) == (move == "whole")]
        cases = [row for row in found if row.metric == "nmse_eq"]
        if cases:
            part[move] = _counts(cases)
        for step in dict.fromkeys(row.metric for row in found):
            values = _values(found, step)
            if values:
                part[move] |= {f"{step}_mean": float(np.mean(values)), f"{step}_max": float(np.max(values))}
    return part


def _curve(rows: Sequence[Row]) -> Summary:
    """The worst NMSE_eq at each shift, in pixels along both axes."""
    by_shift: dict[float, list[Row]] = defaultdict(list)
    for row in rows:
        by_shift[float(row.shift_y)].append(row)
    found = {f"{t:g}": _values(some, "nmse_eq") for t, some in sorted(by_shift.items())}
    return {t: max(values) for t, values in found.items() if values}


def _is_whole(row: Row) -> bool:
    return float(row.shift_y).is_integer() and float(row.shift_x).is_integer()


def n_counted(part: Summary) -> int:
    """How many cases of a protocol are no ties."""
    return int(part["n_cases"] - part["n_ties"])


def all_exact(part: Summary) -> bool:
    """Whether all outputs of a protocol are equal bit for bit, ties aside."""
    return 0 < part.get("n_exact", 0) == n_counted(part)


def only_ties(part: Summary) -> bool:
    """Whether a protocol met nothing but ties."""
    return n_counted(part) == 0


def print_tables(summaries: Summaries, note: str, baselines: Mapping[str, str]) -> None:
    """Print the quality of the runs under their baselines, and their equivariance by protocol.

    Args:
        summaries: by run name, what :func:`summarise` gives.
        note: on what data.
        baselines: names of what needs no training, by protocol.
    """
    console = terminal(104)
    console.print(f"\n{note}", style="bold")
    quality = _table("Quality", "PSNR (dB)", "SSIM", "NMSE", "cases")
    shown: list[Summary] = []
    for run, summary in summaries.items():
        for key, name in baselines.items():
            if key in summary and summary[key] not in shown:
                shown.append(summary[key])
                quality.add_row(name, *_quality_cells(summary[key]))
        quality.add_row(run, *_quality_cells(summary.get("plain", {})))
    console.print(quality, "Mean ± 2 sd over the cases: volumes (MRI) or images (CT).")
    protocols = dict.fromkeys(p for summary in summaries.values() for p, part in summary.items() if "n_exact" in part)
    if not protocols:
        return
    shifts = _table("Shift equivariance", "NMSE_eq", "PSNR_eq (dB)", "dPSNR (dB)", "margin", "exact", "ties")
    for protocol in protocols:
        if len(summaries) > 1:
            shifts.add_section()
        for run, summary in summaries.items():
            if protocol in summary:
                margin = _smallest_margin(summary) if protocol == "equivariance" else ""
                name = run if len(protocols) == 1 else f"{protocol}: {run}"
                shifts.add_row(name, *_shift_cells(summary[protocol], margin))
                if "nmse_eq_input_max" in summary[protocol]:
                    shifts.add_row("  its input alone", f"{summary[protocol]['nmse_eq_input_max']:.1e}")
    console.print(shifts, _SHIFT_CAPTION)


def _smallest_margin(summary: Summary) -> str:
    levels = summary.get("margins", {}).get("levels")
    return f"{min(level['min'] for level in levels):.1e}" if levels else ""


def _table(first: str, *columns: str) -> Table:
    table = Table(first)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


_SHIFT_CAPTION = (
    "Worst of all shifts. _eq: shifted output against output of the shifted input; dPSNR: change of PSNR\n"
    "by a shift; margin: smallest relative gap between phases; exact: outputs equal bit for bit."
)


def _quality_cells(part: Summary) -> list[str]:
    digits = {"psnr": 2, "ssim": 4, "nmse": 4}
    if "psnr" not in part:
        return ["not measured", "", "", "0"]
    spread = part["psnr"]["n"] > 1
    return [
        *(f"{part[m]['mean']:.{n}f}" + (f" ± {part[m]['two_sd']:.{n}f}" if spread else "") for m, n in digits.items()),
        str(part["psnr"]["n"]),
    ]


def _shift_cells(part: Summary, margin: str) -> list[str]:
    def said(key: str, form: str) -> str:
        if key not in part:
            return ""
        return "exact" if all_exact(part) else f"{part[key]:{form}}"

    return [
        "tie" if only_ties(part) else said("nmse_eq_max", ".1e"),
        "tie" if only_ties(part) else "exact" if all_exact(part) else said("psnr_eq_min", ".1f"),
        said("dpsnr_max", ".1e"),
        margin,
        f"{part['n_exact']}/{part['n_cases']}",
        str(part["n_ties"]),
    ]
