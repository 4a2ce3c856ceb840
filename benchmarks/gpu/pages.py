"""What is written: tables on the terminal and in Markdown, everything in JSON, and the verdict on Triton's kernels."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.table import Table as RichTable

from benchmarks.gpu.sections import AGREEMENT, SECTIONS
from benchmarks.gpu.table import Table, Value
from pipelines.runtime.run_folder import environment, write_json
from pipelines.runtime.shell import terminal

FASTER = 0.95
"""The kernels' training step must take at most so much of plain torch's."""


def verdict(tables: Sequence[Table], device: torch.device) -> str:
    """Whether Triton's kernels should be the default on CUDA, by the rule of docs/gpu.md; one sentence."""
    by_name = dict(zip(SECTIONS, tables, strict=True))
    ratio = by_name["unets"].kernels_to_torch
    if device.type != "cuda":
        return "Triton default: undecided, since a CPU says nothing about it."
    wrong = [table.title for name, table in by_name.items() if name in AGREEMENT and table.failed]
    if wrong:
        return f"Triton default: no, since checks failed: {'; '.join(wrong)}."
    if ratio is None or {by_name["forms"].status, by_name["kernels"].status} != {"ok"}:
        return (
            "Triton default: undecided, since the agreement or the U-Net's training step was not measured to the end."
        )
    answer = "yes" if ratio <= FASTER else "no"
    return f"Triton default: {answer}, the U-Net's training step takes {ratio:.2f} of plain torch's (limit {FASTER})."


def describe(device: torch.device, seed: int, seconds: float) -> dict[str, Any]:
    """Device, driver, versions, commit, seed and date."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    facts: dict[str, Any] = {**environment(name), "seed": seed, "seconds": seconds, "driver": None, "triton": None}
    with suppress(PackageNotFoundError):
        facts["triton"] = version("triton")
    if device.type == "cuda":
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        facts["memory_gb"] = round(torch.cuda.get_device_properties(device).total_memory / 2**30, 1)
        with suppress(OSError, subprocess.SubprocessError, IndexError):
            command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
            facts["driver"] = answer.split()[0]
    return facts


def shown(value: Value) -> str:
    """A cell's text."""
    if value is None:
        return ""
    if not isinstance(value, float) or value == 0:
        return str(value).removesuffix(".0") if value == 0 else str(value)
    if 0.01 <= abs(value) < 1e5:
        return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:.1e}"


def cells(table: Table) -> list[list[str]]:
    """The header and the rows, as text."""
    columns = list(dict.fromkeys(name for row in table.rows.values() for name in row))
    rows = [[name, *(shown(row.get(column)) for column in columns)] for name, row in table.rows.items()]
    return [["", *columns], *rows]


def remarks(table: Table) -> list[str]:
    """The sentences below a table."""
    return [*table.remarks, *(f"FAILED: {fault}." for fault in table.faults)]


def print_table(table: Table) -> None:
    """To the terminal."""
    console = terminal(140)
    (_, *columns), *rows = cells(table)
    picture = RichTable("", title=f"{table.title}, {table.seconds:.0f} s")
    for column in columns:
        picture.add_column(column, justify="right")
    for row in rows:
        picture.add_row(*row)
    console.print(picture if rows else table.title)
    for remark in remarks(table):
        console.print(remark)


def write_pages(path: Path, tables: Sequence[Table], facts: dict[str, Any], decision: str) -> None:
    """Write Markdown to ``path`` and JSON beside it."""
    versions = ", ".join(f"{name} {facts['versions'][name]}" for name in ("torch", "monai", "numba"))
    machine = f"driver {facts['driver']}, CUDA {facts['cuda']}, " if "cuda" in facts else ""
    lines = [
        f"# {facts['device']}",
        "",
        f"{machine}{versions}, Triton {facts['triton']}; commit {facts['git_commit']}, seed {facts['seed']}, "
        f"{facts['started']}.",
        "",
        f"**{decision}**",
    ]
    for table in tables:
        header, *rows = cells(table)
        rule = ["---", *("---:" for _ in header[1:])]
        lines += ["", f"## {table.title}", "", *(f"{remark}  " for remark in remarks(table)), f"{table.seconds:.0f} s."]
        if rows:
            lines += ["", *(f"| {' | '.join(row)} |" for row in (header, rule, *rows))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*lines, ""]))
    sections = {name: _content(table) for name, table in zip(SECTIONS, tables, strict=True)}
    write_json(path.with_suffix(".json"), {**facts, "verdict": decision, "sections": sections})


def _content(table: Table) -> dict[str, Any]:
    """What JSON can hold: numbers that are not finite become text."""
    rows = [{"name": name, **{key: _finite(value) for key, value in row.items()}} for name, row in table.rows.items()]
    return {
        "title": table.title,
        "status": "FAILED" if table.failed else table.status,
        "seconds": round(table.seconds, 1),
        "remarks": remarks(table),
        "kernels_to_torch": table.kernels_to_torch,
        "rows": rows,
    }


def _finite(value: Value) -> Value:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
