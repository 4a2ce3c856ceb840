"""Damaged input of every kind: whether each command answers with a result or with one sentence.

    python -m benchmarks.fuzz fastmri 250 0
    python -m benchmarks.fuzz all 250 0

Each case is a tiny valid input, damaged as its seed says, before a command that a user would give. Case i of N has the
seed SEED + i, so that `python -m benchmarks.fuzz FAMILY 1 SEED_OF_THE_CASE` repeats it alone. The libraries are loaded
once; each case runs in a fork of this process, with its time and its memory limited. Wanted is exit code 0, or 2 with
one sentence; exit code 1, a traceback, a hang, memory without end, a changed input, and a file that is left half
written are faults: they are listed, and the exit code is 1.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError

FAMILIES = ("fastmri", "lodopab", "dicom", "nifti", "images", "settings", "runs", "spaces")


def main(argv: Sequence[str] | None = None) -> int:
    """Try cases and print a table; exit code 1 if one of them is a fault."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.fuzz", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("family", choices=("all", *FAMILIES), nargs="?", default="all", help="(default %(default)s)")
    parser.add_argument("cases", type=int, nargs="?", default=100, metavar="N", help="of each family (default 100)")
    parser.add_argument("seed", type=int, nargs="?", default=0, metavar="SEED", help="of the first case (default 0)")
    parser.add_argument("--seconds", type=float, default=60, help="for one case (default %(default)s)")
    parser.add_argument("--gigabytes", type=float, default=4, help="that a case may add (default %(default)s)")
    parser.add_argument("--out", type=Path, help="keep the faulty cases' files and output in this folder")
    arguments = parser.parse_args(argv)
    if min(arguments.cases, arguments.seconds, arguments.gigabytes) <= 0 or arguments.seed < 0:
        raise InputError("N, --seconds and --gigabytes must be positive, SEED 0 or more")
    from benchmarks.forks import ready_to_fork
    from benchmarks.fuzz.suite import Limits, Suite  # loads every command

    limits = Limits(arguments.seconds, arguments.gigabytes)
    with tempfile.TemporaryDirectory() as temporary, ready_to_fork(Path(temporary) / "cache"):
        suite = Suite(Path(temporary), limits, arguments.out)
        names = FAMILIES if arguments.family == "all" else (arguments.family,)
        faults = [found for name in names for found in suite.run(name, arguments.cases, arguments.seed)]
    suite.print_table()
    for fault in faults:
        print(f"{fault.family} 1 {fault.seed}: {fault.verdict}; {fault.command}\n    {fault.why}", file=sys.stderr)
    kinds = Counter(fault.why for fault in faults)
    if faults:
        print(f"{len(faults)} faults, of {len(kinds)} kinds", file=sys.stderr)
        raise SystemExit(1)
