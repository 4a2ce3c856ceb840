"""The section on phase margins, of any kind of network that chooses a phase."""

from __future__ import annotations

from pipelines.reports import figures
from pipelines.reports.facts import Findings, Margins
from pipelines.reports.page import Block, Cell, Details, Figure, Image, Panel, Section, Series, Table
from pipelines.reports.tables import number, small

WHAT_IT_IS = (
    "At each level the network keeps the phase with the highest score. The margin is the relative gap to the second. "
    "A margin of zero is a tie, and no choice can follow a shift: mostly the input equals its own shift, but two "
    "phases can score the same for other reasons as well."
)


def phase_margins(findings: Findings[Margins]) -> Section:
    """How clear the choice of the phase is at each level."""
    runs = findings.having("margins", "levels")
    if not runs:
        return Section("Phase margins", "", [])
    levels = [f"level {n}" for n in range(1, 1 + max(len(findings.get(s.name, "margins", "levels")) for s in runs))]
    rows = [[Cell.named(s), *(_smallest_and_median(findings, s.name, n) for n in range(len(levels)))] for s in runs]
    values = {
        series.number: {level: findings.rows.margins(series.name, n).tolist() for n, level in enumerate(levels, 1)}
        for series in runs
    }
    drawing = figures.spread_plot("margins", values, levels, "phase margin", dot=0.5, zero="tie")
    image = Image(drawing, "Phase margins by level and run; the marks are the medians of the table above")
    blocks: list[Block] = [
        Table(
            ["Run", *map(str.capitalize, levels)], rows, "Smallest / median margin of each level, from the image down."
        ),
        Figure(
            [Panel([image])],
            "Margins of all slices: the median (mark), the range (line) and the middle half (bar).",
            runs,
        ),
        *_nearest(findings, runs),
    ]
    return Section("Phase margins", WHAT_IT_IS, blocks)


def _smallest_and_median(findings: Findings[Margins], run: str, level: int) -> Cell:
    paths = [("margins", "levels", str(level), kind) for kind in ("min", "median")]
    if findings.get(run, *paths[0]) is None:
        return Cell.of("")
    smallest, median = (number(findings, run, path, small) for path in paths)
    return Cell.of(smallest, " / ", median)


def _nearest(findings: Findings[Margins], runs: list[Series]) -> list[Details]:
    rows: list[list[Cell | str]] = []
    for series in runs:
        for i, case in enumerate(findings.get(series.name, "margins", "nearest") or ()):
            margin = number(findings, series.name, ("margins", "nearest", str(i), "margin"), small)
            place = [str(case[key]) for key in ("volume", "slice", "level")]
            rows.append([Cell.named(series), *place, Cell.of(margin)])
    return [Details("Inputs nearest to a tie", [Table(["Run", "Volume", "Slice", "Level", "Margin"], rows, n_words=2)])]
