"""Figures of the summaries as cells and tables, with their keys, and how they read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pipelines.reconstruction.summary import AGREEMENTS, SHIFT_ERRORS, all_exact, n_counted, only_ties
from pipelines.reports.facts import Findings, protocol_name
from pipelines.reports.page import Cell, Number, Series, Table

Form = Callable[[float], str]


class Column(NamedTuple):
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


def exact(value: float) -> str:
    """The outputs are identical."""
    return "exact"


QUALITY = (
    ("psnr", "PSNR (dB)", decimals(2), 1),
    ("ssim", "SSIM", decimals(4), 1),
    ("nmse", "NMSE", decimals(4), -1),
    ("psnr_fr", "PSNR-FR (dB)", decimals(2), 1),
    ("ssim_fr", "SSIM-FR", decimals(4), 1),
    ("hu_lung", "Error, lung (HU)", decimals(1), -1),
    ("hu_soft", "Error, soft tissue (HU)", decimals(1), -1),
)


def number(findings: Findings, run: str, path: Sequence[str], form: Form) -> Number:
    """A figure with its key."""
    value = findings.get(run, *path)
    return Number(form(value), value, "/".join((run, *path)))


def cell(findings: Findings, run: str, column: Column) -> Cell:
    """One figure of one run: "exact" where all outputs are identical, empty where it was not measured."""
    part, value = findings.get(run, column.path[0]), findings.get(run, *column.path)
    form, metric = column.form, column.path[-1]
    is_agreement = metric.startswith(AGREEMENTS)
    if part and "n_cases" in part and (is_agreement or metric.startswith(("nmse_eq", "dpsnr"))):
        if only_ties(part) and not metric.startswith("dpsnr"):
            return Cell.of("ties only")
        if all_exact(part):
            form = exact
    if value is None:
        return Cell.of("exact" if is_agreement and form is exact else "")
    if not isinstance(value, Mapping):
        return Cell.of(number(findings, run, column.path, form))
    mean = number(findings, run, (*column.path, "mean"), form)
    if value["n"] < 2 or form is exact:
        return Cell.of(mean)
    return Cell.of(mean, " ± ", number(findings, run, (*column.path, "two_sd"), column.form))


def cells(findings: Findings, runs: Sequence[Series], column: Column) -> list[Cell]:
    """The same figure of several runs; the best ones are marked where they differ and compare."""
    row = [cell(findings, series.name, column) for series in runs]
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


def by_run(findings: Findings, runs: Sequence[Series], columns: Sequence[Column], caption: str) -> Table:
    """A row for each run; a column that no run has a figure for is left out."""
    filled = [(column, cells(findings, runs, column)) for column in columns]
    filled = [(column, found) for column, found in filled if any(one.parts != ("",) for one in found)]
    rows = [[Cell.named(series), *(found[i] for _, found in filled)] for i, series in enumerate(runs)]
    apart = _unequal(findings, runs, [column.path for column, _ in filled])
    return Table(["Run", *(column.title for column, _ in filled)], rows, caption + apart)


def by_protocol(findings: Findings, protocols: Sequence[str], column: Column, caption: str) -> Table:
    """A row for each protocol and a column for each run; the column's path is what follows the protocol."""
    rows: list[list[Cell | str]] = []
    for protocol in protocols:
        own = column._replace(path=(protocol, *column.path))
        rows.append([protocol_name(protocol), *cells(findings, findings.series, own)])
    apart = _unequal(findings, findings.series, [(protocol, *column.path) for protocol in protocols])
    return Table(["Input", *(series.name for series in findings.series)], rows, caption + apart)


def _unequal(findings: Findings, runs: Sequence[Series], paths: Sequence[tuple[str, ...]]) -> str:
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


def share(findings: Findings, run: str, protocol: str) -> Cell:
    """How many of a protocol's pairs of outputs are equal bit for bit."""
    counts = [number(findings, run, (protocol, key), str) for key in ("n_exact", "n_cases")]
    return Cell.of(counts[0], " of ", counts[1])
