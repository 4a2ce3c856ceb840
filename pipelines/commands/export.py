"""``recon-export``: a trained network for other programs, with its normalisation inside and a proof beside it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from pipelines.exporting.export import export_run, refuse_existing
from pipelines.exporting.formats import FORMATS
from pipelines.measuring.kind import AnyRun
from pipelines.runs.checkpoints import find_checkpoint
from pipelines.runs.open import open_found
from pipelines.runtime.nested import Tree
from pipelines.runtime.shell import Parser, run_command, terminal
from pipelines.tasks import TASKS, describe_data
from recon.errors import InputError, check_choice

DETAILS = """\
formats:
  onnx          DIR/model.onnx, which onnxruntime runs; not of networks that start from k-space. Needs the extra
                "export": pip install 'shift-equivariant-recon[export]'
  torch-export  DIR/model.pt2, a program of torch.export, which torch alone loads and runs
  monai-bundle  DIR is a MONAI bundle of that program; its inference.json runs it
what it maps:   The run's normalisation, clamp and network are one model in the file's units. MRI: zero-filled magnitude
                to image; of networks that start from k-space: k-space, its real and imaginary parts as two channels,
                and mask to image. CT: filtered back-projection to image. Classifiers: pixels from 0 to 1 to logits.
                Any batch; any sides that are multiples of the total stride, twice it at least.
proof:          Three slices of the run's own data (where they are gone: of the bundled sample) go through the exported
                form: outputs equal to the run's within 1e-5, else nothing is written; and 50 circular shifts by whole
                pixels of each (of one, where images are large), whose error is printed and stored.
DIR:            The model, README.md and export.json. It must not be there yet, and appears when it is whole.
"""


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``recon-export``."""
    parser = Parser(
        prog="recon-export",
        description="Export a trained network with its normalisation, and prove that it computes the same elsewhere.",
        epilog=DETAILS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("run", metavar="RUN", help="a run folder of recon-train (its best.ckpt), or one of its checkpoints (.ckpt)")
    add("--format", required=True, help=f"{', '.join(FORMATS)}: see below")
    add("--out", required=True, metavar="DIR", help="the folder to make")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_export, argv)


def _export(argv: list[str]) -> None:
    arguments = build_parser().parse_args(argv)
    check_choice("format", arguments.format, FORMATS)
    if "" in (arguments.run, arguments.out):
        raise InputError("RUN and --out cannot be empty: give paths")
    out = Path(arguments.out)
    FORMATS[arguments.format].check_packages()
    refuse_existing(out)
    run = open_with_data(Path(arguments.run))
    facts = export_run(run, arguments.format, out, describe_data(run.config))
    print_proof(facts)
    print(f"Written: {out}")


def open_with_data(path: Path) -> AnyRun:
    """Open a run with its own data; where they are gone, with the bundled sample.

    Args:
        path: the run folder, or a ``.ckpt`` file in its ``checkpoints`` folder.

    Raises:
        InputError: see :func:`pipelines.runs.open.open_run`.
    """
    found = find_checkpoint(path)
    sample = TASKS[found.config.task].sample
    if found.config.data is not None and sample is not None and not Path(found.config.data).exists():
        print(f"{found.config.data} is gone: the proof is of the {sample.name}", file=sys.stderr)
        found.config.data = None
    return open_found(path, found)


def print_proof(facts: Tree) -> None:
    """Print what was measured."""
    proof = facts["proof"]
    table = Table("in the exported form", "slices", "largest", "median")
    table.add_row("outputs less the run's", str(len(proof["slices"])), f"{proof['difference_from_the_run']:.1e}", "")
    errors = (f"{proof[f'shift_error_{which}']:.1e}" for which in ("max", "median"))
    table.add_row(f"{proof['shifts_of_each']} shifts by whole pixels", str(len(proof["shifted_slices"])), *errors)
    terminal(100).print(table)
    kept = "is" if proof["shift_equivariant"] else "is not"
    print(f"|a - b| / |b| of each image, by {proof['run_by']}.")
    print(f"It {kept} shift equivariant (below {proof['tolerance']:.0e}).")


if __name__ == "__main__":
    raise SystemExit(main())
