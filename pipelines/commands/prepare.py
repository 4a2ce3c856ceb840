"""``recon-prepare``: index a data folder, compute what a training starts from, simulate or import raw data."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from pipelines.reconstruction.preparation import AddFlags, Preparation
from pipelines.runtime.bounds import SEED
from pipelines.runtime.shell import Parser, run_command, whole
from pipelines.tasks import TASKS
from recon.errors import InputError

PREPARATIONS = {task: row.preparation for task, row in TASKS.items() if row.preparation is not None}
IMPORTING = [task for task, preparation in PREPARATIONS.items() if preparation.imports]
SPLITS = ("train", "val", "test")


def build_parser() -> argparse.ArgumentParser:
    """The flags of ``recon-prepare``."""
    parser = Parser(prog="recon-prepare", description="Prepare data for recon-train.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="index | cache | simulate | import")

    index = commands.add_parser("index", help="check every file of a folder and remember what is in it")
    index.add_argument("data", type=Path, help="the folder that recon-train takes as --data")
    _add_task(index, list(PREPARATIONS))

    cache = commands.add_parser("cache", help="compute beforehand what a training starts from")
    _add_task(cache, [task for task, preparation in PREPARATIONS.items() if preparation.cache])
    cache.add_argument("--data", type=Path, help="the folder that recon-train takes (none: the bundled sample)")
    cache.add_argument("--split", choices=SPLITS, action="append", help="may be given again (default: all there are)")

    simulate = commands.add_parser("simulate", help="make raw data and targets, as files, from images")
    kinds = "; ".join(f"{task}: {preparation.images}" for task, preparation in PREPARATIONS.items())
    simulate.add_argument("images", nargs="*", type=Path, help=f"{kinds}; none: the bundled sample")
    _add_task(simulate, list(PREPARATIONS))
    simulate.add_argument("--out", type=Path, required=True, help="root folder of the files")
    simulate.add_argument("--split", choices=SPLITS, default="train", help="(default %(default)s)")
    simulate.add_argument("--seed", type=whole(*SEED), default=0, help="of the noise (default %(default)s)")

    imports = commands.add_parser("import", help="make data for recon-train from what a scanner or a lab measured")
    kinds = "; ".join(f"{task}: {PREPARATIONS[task].imported}" for task in IMPORTING)
    imports.add_argument("files", nargs="+", type=Path, help=kinds)
    _add_task(imports, IMPORTING)
    imports.add_argument("--out", type=Path, required=True, help="root folder of the files")

    for task, preparation in PREPARATIONS.items():
        preparation.index_flags(index.add_argument_group(f"--task {task}").add_argument)
        preparation.cache_flags(cache.add_argument_group(f"--task {task}").add_argument)
        preparation.simulate_flags(simulate.add_argument_group(f"--task {task}", preparation.written).add_argument)
        if preparation.imports:
            preparation.import_flags(imports.add_argument_group(f"--task {task}", preparation.written).add_argument)
    return parser


def _add_task(parser: argparse.ArgumentParser, tasks: Sequence[str]) -> None:
    parser.add_argument("--task", choices=tasks, default=tasks[0], help="(default %(default)s)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(_prepare, argv)


def _prepare(argv: list[str]) -> None:
    arguments = build_parser().parse_args(argv)
    preparation = PREPARATIONS[arguments.task]
    if arguments.command == "simulate":
        preparation.simulate(arguments, _given(arguments, ["simulate", "--out=."], lambda task: task.simulate_flags))
    elif arguments.command == "import" and preparation.imports:
        _given(arguments, ["import", "--out=.", "file"], lambda task: task.import_flags)
        preparation.imports(arguments)
    elif arguments.command == "cache" and preparation.cache:
        preparation.cache(arguments)
    else:
        preparation.index(arguments)


def _given(
    arguments: argparse.Namespace, least: Sequence[str], flags_of: Callable[[Preparation], AddFlags]
) -> list[str]:
    """The flags of a command that have another value than the default, but those that every call has.

    Args:
        arguments: of the command.
        least: the shortest command line that it takes.
        flags_of: adds a task's flags to it.

    Raises:
        InputError: one of them is another task's.
    """
    plain = vars(build_parser().parse_args(least))
    given = [key for key in plain.keys() - {"out", "task", "files"} if vars(arguments)[key] != plain[key]]
    for task, preparation in PREPARATIONS.items():
        flags = flags_of(preparation)(argparse.ArgumentParser().add_argument)
        for key in sorted({flag.dest for flag in flags} & set(given)) if task != arguments.task else ():
            raise InputError(f"--{key.replace('_', '-')} is for --task {task}: leave it out")
    return given


if __name__ == "__main__":
    raise SystemExit(main())
