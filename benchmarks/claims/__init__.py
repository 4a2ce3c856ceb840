"""The papers' claims and this project's: train and measure by a protocol, write each verdict from the figures.

    python -m benchmarks.claims --measured /data/lowfield
    python -m benchmarks.claims --full
    python -m benchmarks.claims --figures docs/claims.csv

The short form trains each network once, for an hour on two CPU cores, and gives no verdict on quality; the full one
takes nights. Both go on where they were stopped. The last line writes the page anew from figures that are there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from benchmarks.claims.cost import costs
from benchmarks.claims.figures import Figure, Figures, read_figures, write_figures
from benchmarks.claims.measuring import measure_all
from benchmarks.claims.page import write_page
from benchmarks.claims.protocol import PROTOCOL, read_protocol
from benchmarks.claims.trainings import train, trained
from data_prep import replace_file
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError

TURNS = 5  # of what is timed


def main(argv: Sequence[str] | None = None) -> int:
    """Train, measure, and write the page."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.claims", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--full", action="store_true", help="the full protocol (default: the short one)")
    add("--protocol", type=Path, default=PROTOCOL, help="another YAML, such as one of data on a disk")
    add("--measured", type=Path, help="folder of imported measured data (docs/measured.md); left out without it")
    add("--only", nargs="+", metavar="SWEEP", help="some sweeps of the protocol (default: all)")
    add("--out", type=Path, help="folder of all trainings (default claims/short or claims/full)")
    add("--figures", type=Path, help="write the page from this CSV; nothing is trained")
    add("--page", type=Path, default=Path("docs/claims.md"), help="to be written to (default %(default)s)")
    arguments = parser.parse_args(argv)
    protocol = read_protocol(arguments.protocol, quick=not arguments.full)
    if arguments.figures:
        _write(arguments.page, Figures(read_figures(arguments.figures)), protocol.margins, arguments.full)
        return
    out = arguments.out or Path("claims") / ("full" if arguments.full else "short")
    names = [sweep.name for sweep in protocol.sweeps]
    if unknown := set(arguments.only or ()) - set(names):
        raise InputError(f"there is no sweep {min(unknown)}: choose from {', '.join(names)}")
    chosen = [sweep for sweep in protocol.sweeps if sweep.name in (arguments.only or names)]
    if arguments.measured is None:
        left_out = [sweep.name for sweep in chosen if sweep.data == "measured"]
        print(f"without --measured, left out: {', '.join(left_out)}" if left_out else "", flush=True)
        chosen = [sweep for sweep in chosen if sweep.data != "measured"]
    make_folder(out)
    found: list[Figure] = []
    for number, sweep in enumerate(chosen, 1):
        print(f"[{number}/{len(chosen)}] {sweep.name}: {len(sweep.points())} trainings", flush=True)
        train(sweep, out, arguments.measured if sweep.data == "measured" else None)
        runs = list(trained(sweep, out))
        found += measure_all(runs, protocol.shifts, os.cpu_count() or 1)
        found += costs(runs, TURNS)
        write_figures(out / "figures.csv", found)
    page_figures = arguments.page.with_name(f"{arguments.page.stem}-{'full' if arguments.full else 'short'}.csv")
    if page_figures.is_file():  # sweeps that were left out stay as they are
        found += [figure for figure in read_figures(page_figures) if figure.sweep not in {s.name for s in chosen}]
    write_figures(page_figures, found)
    _write(arguments.page, Figures(read_figures(page_figures)), protocol.margins, arguments.full)


def _write(path: Path, figures: Figures, margins: dict[str, float], full: bool) -> None:
    before = path.read_text() if path.is_file() else "# The claims\n\n"
    page = write_page(before, figures, margins, full=full)
    with replace_file(path) as temporary:
        temporary.write_text(page)
    print(f"Written: {path}")
