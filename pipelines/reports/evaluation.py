"""The report of an evaluation, from plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from pipelines.protocols import Row
from pipelines.reports import figures
from pipelines.reports.answer import answer
from pipelines.reports.facts import Collected, Example, Findings, RunFacts
from pipelines.reports.page import Block, Details, Facts, Figure, Image, Panel, Report, Section, Table, Words
from pipelines.reports.pictures import pictures
from pipelines.reports.sections import motion, outside_training, phase_margins, quality, shift_equivariance

__all__ = ["Example", "RunFacts", "evaluation_report"]

CURVES = {
    "train_loss": ("Training loss", "loss"),
    "val_psnr": ("Validation PSNR", "PSNR (dB)"),
    "val_nmse_eq": ("Validation NMSE_eq", "NMSE_eq"),
}
DEFINITIONS = [
    ("PSNR, SSIM, NMSE", "Of a volume, R its largest target value. NMSE = |g - p|² / |g|². PSNR = 10 log10(R² / mean "
     "(g - p)²). SSIM: mean over slices, 7 x 7 windows. g is the target, p the reconstruction."),
    ("± 2 sd", "Two sample standard deviations over volumes (MRI) or images (CT); of dPSNR per image, over images."),
    ("x, f, T", "The network's normalised input, the network with its clamp, a circular shift by whole pixels; where "
     "the object moves by fractions of one, the Fourier shift."),
    ("NMSE_eq", "|T f(x) - f(T x)|² / |T f(x)|², of a slice, on de-normalised images, with the unshifted image's "
     "normalisation. PSNR_eq and SSIM_eq: T f(x) is the reference."),
    ("dPSNR", "|PSNR(g, f(x)) - PSNR(T g, f(T x))| of a slice: what a shift changes. Per image, worst: the mean over "
     "images of their worst shift."),
    ("exact", "Both outputs are equal bit for bit. They enter no figure of PSNR_eq (infinite) and SSIM_eq."),
    ("tie", "The input equals one of its own shifts, or two phases have the same score: there is no phase to choose. "
     "Ties enter no figure but their count."),
    ("zero-filled, FBP", "The input itself, as an image: the baseline of MRI, of CT."),
    ("TV", "CT without training: the back-projection with the cosine window, made smooth by total variation "
     "(scikit-image, Chambolle's iteration) as strongly as the slice's photon noise asks for."),
]  # fmt: skip


def evaluation_report(
    runs: Sequence[RunFacts],
    summaries: Mapping[str, Mapping[str, Any]],
    rows: Iterable[tuple[str, Row]] | Collected,
    examples: Sequence[Example],
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> Report:
    """The report of some runs, side by side. What was not measured is left out.

    Args:
        runs: in the order to show them in.
        summaries: by run, what :func:`pipelines.summary.summarise` gives, and "data".
        rows: (run, row) of all runs, or what was collected of them; gone through once.
        examples: slices to show.
        settings: of the measurement; "protocols" are the names that were asked for.
        environment: of the measurement, as :func:`pipelines.run_folder.environment` gives it.
    """
    collected = rows if isinstance(rows, Collected) else Collected(rows)
    findings = Findings(runs, summaries, collected, settings.get("protocols"))
    sections = [
        quality(findings),
        pictures(findings, examples),
        shift_equivariance(findings),
        outside_training(findings),
        motion(findings),
        phase_margins(findings),
        _training(findings, runs),
        _differences(runs),
        _what_was_run(runs, settings, environment),
        Section("Definitions", "", [Facts(DEFINITIONS)]),
    ]
    return Report(
        _title([run.name for run in runs]),
        list(dict.fromkeys(run.data for run in runs)),
        answer(findings),
        [section for section in sections if section.text or section.blocks],
    )


def _title(names: Sequence[str]) -> str:
    if len(names) > 4:
        return f"Evaluation of {len(names)} runs"
    return f"Evaluation of {', '.join(names[:-1])}{' and ' if len(names) > 1 else ''}{names[-1]}"


def _training(findings: Findings, runs: Sequence[RunFacts]) -> Section:
    panels = []
    for column, (title, label) in CURVES.items():
        lines = {number: _line(run.curves, column) for number, run in enumerate(runs)}
        lines = {number: line for number, line in lines.items() if line}
        if lines:
            drawing = figures.curves(f"curve-{column}", lines, label, logarithmic=column == "val_nmse_eq")
            panels.append(Panel([Image(drawing, f"{title} against the epoch, a line for each run")], title))
    if not panels:
        return Section("Training", "", [])
    caption = "Losses compare only between runs that have the same loss."
    return Section("Training", "One value for each epoch.", [Figure(panels, caption, findings.series)])


def _line(curves: Sequence[Mapping[str, str]], column: str) -> list[tuple[float, float]]:
    points = [(float(row["epoch"]), float(row[column])) for row in curves if row.get(column)]
    return [point for point in points if math.isfinite(point[1])]


def _differences(runs: Sequence[RunFacts]) -> Section:
    """The settings that differ, but for the folder that a run was written to."""
    title = "Differences between the runs' settings"
    flat = [_flatten(run.config) for run in runs]
    keys = dict.fromkeys(key for config in flat for key in config if key != "out")
    rows = [[key, *(_say(config.get(key, "not there")) for config in flat)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if not rows:
        return Section(title, "None: all settings are equal." if len(runs) > 1 else "", [])
    columns = ["Key", *(run.name for run in runs)]
    count = f"{len(rows)} settings differ" if len(rows) > 1 else "1 setting differs"
    return Section(title, "", [Details(count, [Table(columns, rows, n_words=len(columns))])])


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _say(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _what_was_run(runs: Sequence[RunFacts], settings: Mapping[str, Any], environment: Mapping[str, Any]) -> Section:
    blocks: list[Block] = [Words([environment["command"]], code=True)] if "command" in environment else []
    blocks.append(Details("The measurement", [Facts(_facts(settings) + _facts(environment))]))
    for run in runs:
        config = Words([yaml.safe_dump(dict(run.config), sort_keys=False)], code=True)
        blocks.append(Details(f"The training of {run.name}", [Facts(_facts(run.environment)), config]))
    return Section("What was run", "", blocks)


def _facts(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (
            key.replace("_", " "),
            ", ".join(f"{name} {_say(part)}" for name, part in value.items())
            if isinstance(value, Mapping)
            else _say(value),
        )
        for key, value in content.items()
    ]
