"""What a report tells of the runs beside their measurements: training, settings, machine, command."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

import yaml

from pipelines.reports import figures
from pipelines.reports.facts import Findings, RunFacts
from pipelines.reports.page import Block, Details, Facts, Figure, Image, Panel, Section, Table, Words
from pipelines.runtime.nested import Tree, flat

CURVES = {
    "train_loss": ("Training loss", "loss"),
    "val_psnr": ("Validation PSNR", "PSNR (dB)"),
    "val_nmse_eq": ("Validation NMSE_eq", "NMSE_eq"),
    "val_loss": ("Validation loss", "loss"),
    "val_accuracy": ("Validation accuracy", "share of images"),
    "val_consistency": ("Validation consistency", "share of images"),
}


def title(names: Sequence[str]) -> str:
    """The report's name."""
    if len(names) > 4:
        return f"Evaluation of {len(names)} runs"
    return f"Evaluation of {', '.join(names[:-1])}{' and ' if len(names) > 1 else ''}{names[-1]}"


def training(findings: Findings, runs: Sequence[RunFacts]) -> Section:
    """The curves of metrics.csv."""
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


def differences(runs: Sequence[RunFacts]) -> Section:
    """The settings that differ, but for the folder that a run was written to."""
    title = "Differences between the runs' settings"
    configs = [flat(run.config) for run in runs]
    keys = dict.fromkeys(key for config in configs for key in config if key != "out")
    rows = [[key, *(_say(config.get(key, "not there")) for config in configs)] for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    if not rows:
        return Section(title, "None: all settings are equal." if len(runs) > 1 else "", [])
    columns = ["Key", *(run.name for run in runs)]
    count = f"{len(rows)} settings differ" if len(rows) > 1 else "1 setting differs"
    return Section(title, "", [Details(count, [Table(columns, rows, n_words=len(columns))])])


def _say(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def what_was_run(runs: Sequence[RunFacts], settings: Tree, environment: Tree) -> Section:
    """The command, the measurement and each training, folded."""
    blocks: list[Block] = [Words([environment["command"]], code=True)] if "command" in environment else []
    blocks.append(Details("The measurement", [Facts(_facts(settings) + _facts(environment))]))
    for run in runs:
        config = Words([yaml.safe_dump(dict(run.config), sort_keys=False)], code=True)
        blocks.append(Details(f"The training of {run.name}", [Facts(_facts(run.environment)), config]))
    return Section("What was run", "", blocks)


def _facts(content: Tree) -> list[tuple[str, str]]:
    return [
        (
            key.replace("_", " "),
            ", ".join(f"{name} {_say(part)}" for name, part in value.items())
            if isinstance(value, Mapping)
            else _say(value),
        )
        for key, value in content.items()
    ]
