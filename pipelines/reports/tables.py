"""Figures of the summaries as cells and tables, with their keys, and how they read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.reports.facts import Findings, Margins
from pipelines.reports.page import Cell, Number, Series, Table

Form = Callable[[float], str]


@dataclass(frozen=True)
class Column:
    """One figure of the summary.

    Attributes:
        title: its name.
        path: its keys, from the protocol on.
        form: how a value reads.
        better: 1 where more is better, -1 where less is, 0 where neither.
    """

    title: str
    path: tuple[str, ...]
    form: Form
    better: int = 0

    def cell(self, findings: Findings[Margins], run: str) -> Cell:
        """The figure of one run; empty where it was not measured."""
        value = findings.get(run, *self.path)
        if value is None:
            return Cell.of("")
        if not isinstance(value, Mapping):
            return Cell.of(number(findings, run, self.path, self.form))
        mean = number(findings, run, (*self.path, "mean"), self.form)
        if value["n"] < 2:
            return Cell.of(mean)
        return Cell.of(mean, " ± ", number(findings, run, (*self.path, "two_sd"), self.form))


def decimals(n: int) -> Form:
    """A fixed number of decimals; a value that would read as 1 without being 1 reads as above the last before."""
    almost = 1 - 10.0**-n
    return lambda value: f"> {almost:.{n}f}" if almost < value < 1 else f"{value:.{n}f}"


def small(value: float) -> str:
    """Two digits and the power of ten, as in 2.3e-3."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}" if value else "0"


def short(value: float) -> str:
    """Two digits, with a power of ten only where the value is very small."""
    return f"{value:#.2g}".rstrip(".") if 1e-3 <= abs(value) < 100 else small(value)


def error(value: float) -> str:
    """A relative error; zero means that the outputs are identical."""
    return small(value) if value else "exact"


def number(findings: Findings[Margins], run: str, path: Sequence[str], form: Form) -> Number:
    """A figure with its key."""
    value = findings.get(run, *path)
    return Number(form(value), value, "/".join((run, *path)))


def cells(findings: Findings[Margins], runs: Sequence[Series], column: Column) -> list[Cell]:
    """The same figure of several runs; the best ones are marked where they differ and compare."""
    row = [column.cell(findings, series.name) for series in runs]
    ranks = [_rank(one) for one in row]
    known = [rank for rank in ranks if rank is not None]
    if not column.better or len(set(known)) < 2 or not findings.same_data():
        return row
    best = max(known) if column.better > 0 else min(known)
    return [Cell(one.parts, best=rank == best) for one, rank in zip(row, ranks, strict=True)]


def _rank(one: Cell) -> float | None:
    first = one.parts[0]
    if isinstance(first, Number):
        return first.value
    return math.inf if first == "exact" else None  # PSNR_eq and SSIM_eq of identical outputs


def by_run(findings: Findings[Margins], runs: Sequence[Series], columns: Sequence[Column], caption: str) -> Table:
    """A row for each run; a column that no run has a figure for is left out."""
    filled = [(column, cells(findings, runs, column)) for column in columns]
    filled = [(column, found) for column, found in filled if any(one.parts != ("",) for one in found)]
    rows = [[Cell.named(series), *(found[i] for _, found in filled)] for i, series in enumerate(runs)]
    return Table(["Run", *(column.title for column, _ in filled)], rows, caption)
