"""The sections of an evaluation's report: each is one question, its tables and its figures."""

from __future__ import annotations

import json
import math
from collections import defaultdict

import numpy as np

from pipelines.reconstruction.collected import ReconstructionFindings, protocol_name
from pipelines.reconstruction.columns import QUALITY, ShiftColumn, by_protocol, by_run, share
from pipelines.reports import figures
from pipelines.reports.drawing import log_scale
from pipelines.reports.page import Block, Cell, Details, Figure, Image, Panel, Section, Table
from pipelines.reports.tables import Column, decimals, error, short

SPREAD = "the range (line) and the middle half (bar)"


def quality(findings: ReconstructionFindings) -> Section:
    """PSNR, SSIM and NMSE beside the baselines', and by acquisition."""
    runs = findings.having("plain", "psnr")
    if not runs:
        text = "No target, no quality: PSNR, SSIM and NMSE were not measured."
        return Section("Quality", text if findings.wants_quality() else "", [])
    columns = _quality_columns(findings, "plain")
    of = findings.cases_of_quality
    shifted = [Column("PSNR, shifted inputs (dB)", ("shift", "psnr"), decimals(2), 1)]
    caption = f"Mean ± 2 sd over {of}.{findings.shaded('the best mean of the runs')}"
    table = by_run(findings, runs, columns + shifted, caption)
    baselines = [[*row, *[""] * (len(table.columns) - len(row))] for row in _baselines(findings)]
    blocks: list[Block] = [Table(table.columns, [*baselines, *table.rows], table.caption)]
    acquisitions = dict.fromkeys(name for s in runs for name in findings.get(s.name, "plain", "by_acquisition") or ())
    rows = [
        [
            acquisition,
            Cell.named(s),
            *(c.cell(findings, s.name) for c in _quality_columns(findings, "plain", "by_acquisition", acquisition)),
        ]
        for acquisition in acquisitions
        for s in runs
    ]
    if rows:
        titles = ["Acquisition", "Run", *(column.title for column in columns)]
        blocks.append(Table(titles, rows, f"By acquisition: mean ± 2 sd over {of}.", n_words=2))
    text = "" if findings.same_data() else "The runs were measured on different data: they do not compare."
    return Section("Quality", text, blocks)


def _quality_columns(findings: ReconstructionFindings, *path: str) -> list[Column]:
    columns = [
        Column(title, (*path, metric), form, better)
        for metric, title, form, better in QUALITY
        if findings.having("plain", metric)
    ]
    return [*columns, Column(findings.cases_of_quality.capitalize(), (*path, "psnr", "n"), str)]


def _baselines(findings: ReconstructionFindings) -> list[list[Cell | str]]:
    """The baselines' rows, one for each data set."""
    rows: list[list[Cell | str]] = []
    for baseline in findings.measured_baselines():
        owners: dict[str, list[str]] = defaultdict(list)
        for series in findings.having(baseline, "psnr"):
            owners[json.dumps(findings.get(series.name, baseline), sort_keys=True)].append(series.name)
        columns, label = _quality_columns(findings, baseline), findings.baselines[baseline]
        for names in owners.values():
            name = label if len(owners) == 1 else f"{label}, for {', '.join(names)}"
            rows.append([name, *(column.cell(findings, names[0]) for column in columns)])
    return rows


def shift_equivariance(findings: ReconstructionFindings) -> Section:
    """The errors of circular shifts, over the plane of shifts and against their distance."""
    captions = {
        "equivariance": "Circular shifts drawn for each slice.",
        "all-phases": "Every phase of the network's total stride, on the middle slice of each volume.",
    }
    blocks: list[Block] = [
        _shift_table(findings, protocol, caption)
        for protocol, caption in captions.items()
        if findings.having(protocol, "n_cases")
    ]
    if blocks:
        blocks += [*_heat_maps(findings), *_against_distance(findings)]
    text = "A shift of the input should shift the output and change nothing else: f(T x) is compared with T f(x)."
    return Section("Shift equivariance", text if blocks else "", blocks)


def error_columns(protocol: str) -> list[Column]:
    """The figures of a protocol's errors."""
    return [
        ShiftColumn("NMSE_eq, mean", (protocol, "nmse_eq_mean"), error, -1),
        ShiftColumn("NMSE_eq, worst", (protocol, "nmse_eq_max"), error, -1),
        ShiftColumn("PSNR_eq, worst (dB)", (protocol, "psnr_eq_min"), decimals(1), 1),
        ShiftColumn("SSIM_eq, worst", (protocol, "ssim_eq_min"), decimals(4), 1),
        Column("Difference, largest", (protocol, "max_abs_max"), short, -1),
        ShiftColumn("dPSNR, worst (dB)", (protocol, "dpsnr_max"), short, -1),
        ShiftColumn("dPSNR per image, worst (dB)", (protocol, "dpsnr_image_max"), short, -1),
    ]


def _shift_table(findings: ReconstructionFindings, protocol: str, caption: str) -> Table:
    runs = findings.having(protocol, "n_cases")
    columns = [
        *error_columns(protocol),
        Column("Ties", (protocol, "n_ties"), str),
        Column("NMSE_eq undefined", (protocol, "n_blank"), str),
    ]
    table = by_run(findings, runs, columns, caption + findings.shaded("the best"))
    rows = [
        [row[0], share(findings, series.name, protocol), *row[1:]] for series, row in zip(runs, table.rows, strict=True)
    ]
    return Table([table.columns[0], "Equal bit for bit", *table.columns[1:]], rows, table.caption)


def _heat_maps(findings: ReconstructionFindings) -> list[Figure]:
    """A map for each run at one scale: of every phase where that was measured, else of the drawn shifts."""
    protocol = "all-phases" if findings.having("all-phases", "n_cases") else "equivariance"
    maps = {series: _worst_by_shift(findings, series.name, protocol) for series in findings.series}
    maps = {series: found for series, found in maps.items() if found}
    if not maps:
        return []
    scale = log_scale([value for found in maps.values() for value in found.values()])
    panels = []
    for series, found in maps.items():
        label = f"exact at {sum(value == 0 for value in found.values())} of {len(found)} shifts"
        drawing = figures.heat_map(f"map-{series.number}", found, scale)
        alt = f"{series.name}: NMSE_eq over the plane of shifts, {label}"
        panels.append(Panel([Image(drawing, alt, label)], series=series))
    bar = Image(
        figures.colour_bar("map-scale", scale, "NMSE_eq, worst of all images"),
        "Colours of NMSE_eq on a logarithmic scale, and the colour of exact",
    )
    caption = f"NMSE_eq over the plane of shifts ({protocol_name(protocol)}): the worst of all images, without ties."
    return [Figure(panels, caption, scales=[bar], size="map")]


def _worst_by_shift(findings: ReconstructionFindings, run: str, protocol: str) -> dict[tuple[int, int], float]:
    worst: dict[tuple[int, int], float] = {}
    found = findings.rows.cases(run, protocol, "nmse_eq")
    for value, (y, x) in zip(found.values.tolist(), found.shifts.tolist(), strict=True):
        shift = round(y), round(x)
        worst[shift] = max(value, worst.get(shift, 0.0))
    return worst


def _against_distance(findings: ReconstructionFindings) -> list[Figure]:
    """The change of the PSNR, and PSNR_eq, against the distance of the drawn shifts."""
    panels = []
    for metric, title, label in (
        ("dpsnr", "Change of the PSNR", "dPSNR (dB)"),
        ("psnr_eq", "Agreement of f(T x) with T f(x)", "PSNR_eq (dB)"),
    ):
        points = {series.number: _distances(findings, series.name, metric) for series in findings.series}
        points = {number: found for number, found in points.items() if found}
        if points:
            drawing = figures.distance_plot(f"distance-{metric}", points, label, from_zero=metric == "dpsnr")
            panels.append(Panel([Image(drawing, f"{label} against the distance of the shift, for each run")], title))
    caption = "Against the distance of the shift: the mean over images and shifts (line) and the range (band)."
    return [Figure(panels, caption, findings.series)] if panels else []


def _distances(findings: ReconstructionFindings, run: str, metric: str) -> list[tuple[float, float | None]]:
    found = findings.rows.cases(run, "equivariance", metric)
    distances = np.hypot(*found.shifts.T.astype(np.float64)).tolist()
    values = (value if math.isfinite(value) else None for value in found.values.tolist())
    return list(zip(distances, values, strict=True))


def outside_training(findings: ReconstructionFindings) -> Section:
    """Equivariance and quality on inputs unlike the training's."""
    circular = findings.circular()
    others = [protocol for protocol in circular if protocol not in ("equivariance", "all-phases")]
    blocks: list[Block] = []
    if others:
        shown = [protocol for protocol in circular if protocol == "equivariance"] + others
        column = ShiftColumn("", ("nmse_eq_max",), error, -1)
        caption = f"Shift equivariance: NMSE_eq, the worst of all images and shifts.{findings.shaded('the best run')}"
        blocks += [by_protocol(findings, shown, column, caption), _by_input(findings, shown)]
    changed = [protocol for protocol in findings.protocols("psnr") if protocol not in findings.baselines]
    if set(changed) - {"plain", "shift"}:
        tables = [
            by_protocol(
                findings,
                changed,
                Column("", (metric,), form, better),
                f"{title}: mean ± 2 sd over {findings.cases_of_quality}.{findings.shaded('the best mean')}",
            )
            for metric, title, form, better in QUALITY
            if any(findings.having(protocol, metric) for protocol in changed)
        ]
        blocks += [tables[0], Details("SSIM, NMSE and others of the same", tables[1:])]
    text = "The same networks on inputs unlike those of the training. The first row is for comparison."
    return Section("Outside the training distribution", text if blocks else "", blocks)


def _by_input(findings: ReconstructionFindings, protocols: list[str]) -> Figure:
    values = {
        series.number: {
            protocol_name(protocol): findings.rows.cases(series.name, protocol, "nmse_eq").values.tolist()
            for protocol in protocols
        }
        for series in findings.series
    }
    drawing = figures.spread_plot("inputs", values, list(map(protocol_name, protocols)), "NMSE_eq", dot=1)
    image = Image(drawing, "NMSE_eq by input and run; the marks are the worst values of the table above")
    caption = f"NMSE_eq over all images and shifts: the worst (mark), {SPREAD}."
    return Figure([Panel([image])], caption, findings.series)
