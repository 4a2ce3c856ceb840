"""Everything that needs a GPU, in at most nine minutes: agreement, exactness, speed, memory, and waits for the device.

    python -m benchmarks.gpu
    python -m benchmarks.gpu --device cpu --seconds 60

Each section measures one table within its share of the time, in a process of its own, so that a kernel that breaks the
device breaks its own section alone. What does not fit is cut, and the table says so; a section that fails says why, and
the others run. Writes the tables in Markdown and everything in JSON; exit code 1 if a check or a section failed. On a
CPU the same sections run with tiny sizes, numba's loops in the place of Triton's kernels.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch

from benchmarks.gpu.pages import describe, print_table, verdict, write_pages
from benchmarks.gpu.sections import SECTIONS
from benchmarks.gpu.table import CPU, CUDA, Setting, Table, run_apart, run_section
from pipelines.measuring.devices import find_device
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError

SECONDS = 520  # and the imports, some 20 s, before


def main(argv: Sequence[str] | None = None) -> int:
    """Run all sections and write what they found; exit code 1 if a check or a section failed."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 ..., or cpu, with tiny sizes (default cuda)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all sections (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of data and weights (default %(default)s)")
    parser.add_argument("--out", type=Path, help="Markdown to write, JSON beside it (default gpu/<device name>.md)")
    arguments = parser.parse_args(argv)
    if arguments.seconds <= 0 or arguments.seed < 0:
        raise InputError("--seconds must be positive, --seed 0 or more")
    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError("there is no GPU here that torch can use: run it on a machine with CUDA, or give --device cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic products; asked for once, at the start
    device = find_device(arguments.device)
    tables = run_all(Setting(device, arguments.seed, CPU if device.type == "cpu" else CUDA), arguments.seconds)
    facts = describe(device, arguments.seed, arguments.seconds)
    name = re.sub(r"[^a-z0-9]+", "-", facts["device"].lower()).strip("-")
    out = (arguments.out or Path("gpu") / name).with_suffix(".md")
    decision = verdict(tables, device)
    write_pages(out, tables, facts, decision)
    print(f"{decision}\nwritten to {out} and {out.with_suffix('.json')}", flush=True)
    if any(table.failed for table in tables):
        raise SystemExit(1)


def run_all(setting: Setting, seconds: float) -> list[Table]:
    """Run the sections one after the other; time that one leaves is the next ones'."""
    shares = [section.share for section in SECTIONS.values()]
    start, run = time.monotonic(), run_section if setting.device.type == "cpu" else run_apart
    tables = []
    for name, share in zip(SECTIONS, accumulate(shares), strict=True):
        tables.append(run(name, setting, start + seconds * share / sum(shares)))
        print_table(tables[-1])
    return tables
