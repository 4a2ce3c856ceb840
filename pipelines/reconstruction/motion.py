"""The section on patients who move: step by step, between the pixels, new content, and a change elsewhere."""

from __future__ import annotations

from pipelines.reconstruction.collected import Cases, ReconstructionFindings
from pipelines.reconstruction.columns import ShiftColumn, by_run
from pipelines.reconstruction.sections import SPREAD, error_columns
from pipelines.reports import figures
from pipelines.reports.page import Block, Facts, Figure, Image, Panel, Section, Words
from pipelines.reports.tables import Column, error

STEPS = {
    "nmse_eq_input": ("input", "The moved object, acquired again, against T x: before any network."),
    "nmse_eq_network": ("network alone", "f(T x) against T f(x): the network's own error."),
    "nmse_eq_acquisition": (
        "with acquisition",
        "The moved object, acquired again, the normalisation held: adds new content at the crop's border and what "
        "a fraction of a pixel changes.",
    ),
    "nmse_eq": ("with normalisation", "The same with the moved slice's own normalisation, as it happens."),
}
MOVES = {"whole": "whole pixels", "fractional": "fractions of a pixel"}


def motion(findings: ReconstructionFindings) -> Section:
    """The object moves before the acquisition, step by step; and new content enters the field of view."""
    blocks: list[Block] = []
    moves = {move: title for move, title in MOVES.items() if findings.having("physical-shift", move)}
    if moves:
        blocks.append(Facts(list(STEPS.values())))
    for move, title in moves.items():
        columns = [
            Column(f"{step[0].capitalize()}, {word}", ("physical-shift", move, f"{metric}_{end}"), error)
            for metric, step in STEPS.items()
            for word, end in (("mean", "mean"), ("worst", "max"))
        ]
        caption = f"Moved by {title} before the acquisition: NMSE_eq of each step."
        blocks.append(by_run(findings, findings.having("physical-shift", move), columns, caption))
    if moves:
        panels = [_steps(findings, move, title) for move, title in moves.items()]
        blocks.append(Figure(panels, f"NMSE_eq of each step: the median (mark), {SPREAD}.", findings.series))
    notes = [findings.get(series.name, "physical-shift", "note") for series in findings.series]
    if any(notes):
        blocks.append(Words(list(dict.fromkeys(note for note in notes if note))))
    blocks += [*_between_pixels(findings), *_local_change(findings)]
    runs = findings.having("realistic-shift", "n_cases")
    if runs:
        caption = (
            "Realistic shift: the field of view moves, new content enters at its border, and the interior is compared. "
            "No network with a large receptive field can be exact here."
        )
        columns = [*error_columns("realistic-shift"), Column("Pairs", ("realistic-shift", "n_cases"), str)]
        blocks.append(by_run(findings, runs, columns, caption + findings.shaded("the best")))
    text = (
        "Circular shifts test the network alone. A patient who moves also changes what is measured. Compared are the "
        "pixels in view before and after; T by a fraction of a pixel is the Fourier shift."
    )
    return Section("When the patient moves", text if blocks else "", blocks)


def _between_pixels(findings: ReconstructionFindings) -> list[Block]:
    """The errors of networks that give complex images, moved by fractions of a pixel, and against the shift."""
    blocks: list[Block] = []
    runs = findings.having("any-shift", "n_cases")
    if runs:
        caption = (
            "Moved by quarters and tenths of a pixel before the acquisition: complex images, before the magnitude; of "
            "networks that get k-space."
        )
        columns = [
            ShiftColumn("NMSE_eq, mean", ("any-shift", "nmse_eq_mean"), error, -1),
            ShiftColumn("NMSE_eq, worst", ("any-shift", "nmse_eq_max"), error, -1),
            Column("Pairs", ("any-shift", "n_cases"), str),
            Column("Ties", ("any-shift", "n_ties"), str),
        ]
        blocks.append(by_run(findings, runs, columns, caption + findings.shaded("the best")))
    lines = {
        series.number: [(float(t), value) for t, value in found.items()]
        for series in findings.series
        if (found := findings.get(series.name, "shift-curve"))
    }
    if lines:
        label = "NMSE_eq, worst"
        drawing = figures.curves("shift-curve", lines, label, True, "shift along both axes (pixels)")
        panel = Panel([Image(drawing, "NMSE_eq against the shift in tenths of a pixel, for each run")])
        blocks.append(Figure([panel], "The same against the shift: the worst of the middle slices.", findings.series))
    return blocks


def _local_change(findings: ReconstructionFindings) -> list[Block]:
    runs = findings.having("local-change", "nmse_rest")
    if not runs:
        return []
    columns = [
        Column("Input, mean", ("local-change", "nmse_rest_input", "mean"), error),
        Column("Output, mean", ("local-change", "nmse_rest", "mean"), error, -1),
        Column("Slices", ("local-change", "nmse_rest", "n"), str),
    ]
    caption = (
        "Local change: a bright spot is added near the border. NMSE between the complex images with and without it, "
        "away from the spot; that of the input is the undersampled spot's aliases."
    )
    return [by_run(findings, runs, columns, caption + findings.shaded("the least"))]


def _steps(findings: ReconstructionFindings, move: str, title: str) -> Panel:
    values = {
        series.number: {
            step: _of_moves(findings.rows.cases(series.name, "physical-shift", metric), move)
            for metric, (step, _) in STEPS.items()
        }
        for series in findings.series
    }
    drawing = figures.spread_plot(f"steps-{move}", values, [step for step, _ in STEPS.values()], "NMSE_eq", dot=0.5)
    return Panel([Image(drawing, f"NMSE_eq by step and run, moved by {title}")], f"Moved by {title}")


def _of_moves(found: Cases, move: str) -> list[float]:
    whole = (found.shifts == found.shifts.round()).all(1)
    return found.values[whole == (move == "whole")].tolist()
