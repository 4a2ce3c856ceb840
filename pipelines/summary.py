"""From rows to what a person reads: the summary's figures and the table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipelines.protocols import Row


def summarise(rows: Sequence[Row]) -> dict[str, Any]:
    """Condense rows: for each protocol the mean and two standard deviations over volumes, and the shifts' figures.

    Identical outputs ("exact") and ties enter no mean of PSNR_eq; ties enter no equivariance figure but their count.
    """
    summary: dict[str, Any] = {}
    for protocol in ("zero-filled", "plain"):
        part: dict[str, Any] = {}
        for metric in ("psnr", "ssim", "nmse"):
            values = [float(r.value) for r in rows if r.protocol == protocol and r.metric == metric]
            if values:
                part[metric] = {"mean": float(np.mean(values)), "two_sd": _two_sd(values), "n": len(values)}
        if part:
            summary[protocol] = part
    shifted = [r for r in rows if r.protocol == "equivariance" and r.metric != "margin"]
    if shifted:
        summary["equivariance"] = _equivariance(shifted) | _margins(rows)
    return summary


def _two_sd(values: Sequence[float]) -> float:
    """Twice the sample standard deviation (n - 1), as fastmri.evaluate has it; 0 for one value."""
    return float(2 * np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _equivariance(rows: Sequence[Row]) -> dict[str, Any]:
    def values(metric: str) -> list[float]:
        return [float(r.value) for r in rows if r.metric == metric and r.status != "tie" and r.value != ""]

    cases = [r for r in rows if r.metric == "nmse_eq"]
    part: dict[str, Any] = {
        "n_cases": len(cases),
        "n_exact": sum(r.status == "exact" for r in cases),
        "n_ties": sum(r.status == "tie" for r in cases),
    }
    for metric, kinds in {
        "nmse_eq": ("mean", "max"), "psnr_eq": ("mean", "min"), "ssim_eq": ("mean", "min"),
        "max_abs": ("max",), "dpsnr": ("mean", "max"),
    }.items():  # fmt: skip
        found = values(metric)
        if found:
            part |= {f"{metric}_{kind}": float(getattr(np, kind)(found)) for kind in kinds}
    return part


def _margins(rows: Sequence[Row]) -> dict[str, float]:
    margins = [float(r.value) for r in rows if r.metric == "margin"]
    if not margins:
        return {}
    return {"margin_min": min(margins), "margin_median": float(np.median(margins))}


def print_table(summaries: Mapping[str, Mapping[str, Any]], note: str) -> None:
    """Print two tables: the quality of the runs under their zero-filled baselines, and their equivariance.

    Args:
        summaries: by run name, what :func:`summarise` gives.
        note: on what data.
    """
    console = Console(width=None if sys.stdout.isatty() else 104)
    console.print(f"\n[bold]{escape(note)}[/bold]", highlight=False)
    quality = _table("Quality", "PSNR (dB)", "SSIM", "NMSE", "volumes")
    baselines: list[Any] = []
    for run, summary in summaries.items():
        baseline = summary.get("zero-filled")
        if baseline and baseline not in baselines:
            baselines.append(baseline)
            quality.add_row("zero-filled", *_quality(baseline))
        quality.add_row(run, *_quality(summary.get("plain", {})))
    console.print(quality, "Mean ± 2 sd over volumes.", highlight=False)
    if any("equivariance" in summary for summary in summaries.values()):
        shifts = _table("Shift equivariance", "NMSE_eq", "PSNR_eq (dB)", "dPSNR (dB)", "margin", "exact", "ties")
        for run, summary in summaries.items():
            shifts.add_row(run, *_shifts(summary.get("equivariance")))
        console.print(shifts, _SHIFT_CAPTION, highlight=False)


def _table(first: str, *columns: str) -> Table:
    table = Table(first)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


_SHIFT_CAPTION = (
    "Worst of all shifts. _eq: shifted output against output of the shifted input; dPSNR: change of PSNR\n"
    "by a shift; margin: smallest relative gap between phases; exact: outputs equal bit for bit."
)


def _quality(part: Mapping[str, Any]) -> list[str]:
    digits = {"psnr": 2, "ssim": 4, "nmse": 4}
    if "psnr" not in part:
        return ["no target", "", "", "0"]
    spread = part["psnr"]["n"] > 1
    return [
        *(f"{part[m]['mean']:.{n}f}" + (f" ± {part[m]['two_sd']:.{n}f}" if spread else "") for m, n in digits.items()),
        str(part["psnr"]["n"]),
    ]


def _shifts(part: Mapping[str, Any] | None) -> list[str]:
    if part is None:
        return ["not measured", *[""] * 5]
    all_exact = part["n_exact"] == part["n_cases"]
    psnr = "exact" if all_exact else f"{part['psnr_eq_min']:.1f}" if "psnr_eq_min" in part else "tie"
    return [
        f"{part['nmse_eq_max']:.1e}" if "nmse_eq_max" in part else "tie",
        psnr,
        f"{part['dpsnr_max']:.1e}" if "dpsnr_max" in part else "",
        f"{part['margin_min']:.1e}" if "margin_min" in part else "",
        f"{part['n_exact']}/{part['n_cases']}",
        str(part["n_ties"]),
    ]
