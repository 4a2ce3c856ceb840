"""What classical methods and networks make of measured raw data: the tables and pictures of docs/measured.md.

    python -m benchmarks.measured discs ct_discs.h5
    python -m benchmarks.measured tooth ct_tooth.h5 --run zoo:ct
    python -m benchmarks.measured people evaluation

The files are those that docs/measured.md names; a run is a network trained on a bundled sample. Prints each table in
Markdown, and draws the images beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.measured import discs, people, tooth
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError

PARTS = {"discs": discs, "tooth": tooth, "people": people}
OF_A_RUN = ("tooth",)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one of the data sets."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.measured", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("part", choices=PARTS, help="which data; people is an evaluation of networks of each fold")
    parser.add_argument("source", type=Path, help="the file of measured data; of people the folder of the evaluation")
    parser.add_argument("--run", help="of tooth: the network to put beside the classical methods")
    parser.add_argument("--threads", type=int, help="of torch (default: as many as there are cores)")
    parser.add_argument("--out", type=Path, default=Path("measured"), help="folder of the pictures (%(default)s)")
    arguments = parser.parse_args(argv)
    if not arguments.source.exists():
        raise InputError(f"there is no {arguments.source}: docs/measured.md says where such data come from")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if (arguments.run is not None) != (arguments.part in OF_A_RUN):
        raise InputError(f"--run goes with {' and '.join(OF_A_RUN)}, and these need one")
    given = [arguments.run] if arguments.run else []
    PARTS[arguments.part].measure(arguments.source, arguments.out, *given)
