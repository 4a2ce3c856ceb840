"""Columns of a report on reconstructions: quality, and errors of shifts, which may be exact or of ties only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipelines.reconstruction.collected import ReconstructionFindings, protocol_name
from pipelines.reconstruction.summary import AGREEMENTS, SHIFT_ERRORS, all_exact, n_counted, only_ties
from pipelines.reports import tables
from pipelines.reports.facts import Findings, Margins
from pipelines.reports.page import Cell, Series, Table
from pipelines.reports.tables import Column, cells, decimals, number

QUALITY = (
    ("psnr", "PSNR (dB)", decimals(2), 1),
    ("ssim", "SSIM", decimals(4), 1),
    ("nmse", "NMSE", decimals(4), -1),
    ("psnr_fr", "PSNR-FR (dB)", decimals(2), 1),
    ("ssim_fr", "SSIM-FR", decimals(4), 1),
    ("hu_lung", "Error, lung (HU)", decimals(1), -1),
    ("hu_soft", "Error, soft tissue (HU)", decimals(1), -1),
)


@dataclass(frozen=True)
class ShiftColumn(Column):
    """A column of NMSE_eq, PSNR_eq, SSIM_eq or dPSNR: "exact" where all outputs are identical."""

    def cell(self, findings: Findings[Margins], run: str) -> Cell:
        """The figure of one run; in words where there is nothing but ties, or no difference at all."""
        part, metric = findings.get(run, self.path[0]), self.path[-1]
        shifted = part is not None and "n_cases" in part
        if shifted and only_ties(part) and not metric.startswith("dpsnr"):
            return Cell.of("ties only")
        if not shifted or not all_exact(part):
            return super().cell(findings, run)
        value = findings.get(run, *self.path)
        if value is None:
            return Cell.of("exact" if metric.startswith(AGREEMENTS) else "")
        path = (*self.path, "mean") if isinstance(value, Mapping) else self.path
        return Cell.of(number(findings, run, path, lambda value: "exact"))


def by_run(findings: ReconstructionFindings, runs: Sequence[Series], columns: Sequence[Column], caption: str) -> Table:
    """As :func:`pipelines.reports.tables.by_run`; the caption tells of unequal numbers of pairs."""
    apart = unequal_counts(findings, runs, [column.path for column in columns])
    return tables.by_run(findings, runs, columns, caption + apart)


def by_protocol(findings: ReconstructionFindings, protocols: Sequence[str], column: Column, caption: str) -> Table:
    """A row for each protocol and a column for each run; the column's path is what follows the protocol."""
    rows: list[list[Cell | str]] = []
    for protocol in protocols:
        own = replace(column, path=(protocol, *column.path))
        rows.append([protocol_name(protocol), *cells(findings, findings.series, own)])
    apart = unequal_counts(findings, findings.series, [(protocol, *column.path) for protocol in protocols])
    return Table(["Input", *(series.name for series in findings.series)], rows, caption + apart)


def unequal_counts(findings: ReconstructionFindings, runs: Sequence[Series], paths: Sequence[tuple[str, ...]]) -> str:
    """How many cases the errors in a table are over, where that differs from run to run: a network's own ties."""
    paths = list(dict.fromkeys(path[:-1] for path in paths if path[-1].startswith(tuple(SHIFT_ERRORS))))
    said = []
    for path in paths:
        parts = {series.name: findings.get(series.name, *path) for series in runs}
        numbers = {
            run: n_counted(part) for run, part in parts.items() if part and "n_ties" in part and "n_cases" in part
        }
        if len(set(numbers.values())) > 1:
            listed = ", ".join(f"{run} {n}" for run, n in numbers.items())
            said.append(listed if len(paths) == 1 else f"{protocol_name(path[0])}: {listed}")
    return f" Without ties the runs have different numbers of pairs ({'; '.join(said)})." if said else ""


def share(findings: ReconstructionFindings, run: str, protocol: str) -> Cell:
    """How many of a protocol's pairs of outputs are equal bit for bit."""
    counts = [number(findings, run, (protocol, key), str) for key in ("n_exact", "n_cases")]
    return Cell.of(counts[0], " of ", counts[1])
