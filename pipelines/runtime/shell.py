"""What every command shares: exit codes, one-sentence errors, and words to the terminal."""

from __future__ import annotations

import argparse
import io
import json
import logging
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from rich.console import Console

from pipelines.runtime.bounds import BOUNDS
from pipelines.runtime.failures import SHOWN, sentence_of
from pipelines.runtime.memory import keep_freed_memory
from recon import __version__
from recon.errors import InputError

N = TypeVar("N", int, float)
DONE, OUR_FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def size_flag(text: str) -> list[int]:
    """Parse a size such as '[320, 320]', for argparse."""
    least, most = BOUNDS["dataset.image_size"]
    try:
        rows, columns = json.loads(text)
        if type(rows) is type(columns) is int and all(least <= side <= most for side in (rows, columns)):
            return [rows, columns]
    except (ValueError, TypeError, RecursionError):
        pass
    raise argparse.ArgumentTypeError(f"{text[:SHOWN]!r} is not a size such as '[320, 320]'")


def whole(least: int, most: int) -> Callable[[str], int]:
    """What parses a whole number between two bounds, for argparse."""
    return _between(int, "a whole number", least, most)


def real(least: float, most: float) -> Callable[[str], float]:
    """What parses a number between two bounds, for argparse."""
    return _between(float, "a number", least, most)


def _between(kind: Callable[[str], N], what: str, least: float, most: float) -> Callable[[str], N]:
    def parse(text: str) -> N:
        try:
            if least <= (value := kind(text)) <= most:
                return value
        except (ValueError, OverflowError):
            pass
        raise argparse.ArgumentTypeError(f"{text[:SHOWN]!r} is not {what} from {least} to {most}")

    return parse


def command_line(*parts: object) -> str:
    """A command to be copied into a shell."""
    return shlex.join(map(str, parts))


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add ``--version``, which prints the command's name and the version and ends."""
    parser.add_argument("--version", action="version", version=f"{parser.prog} {__version__}", help="print it and exit")


def terminal(width: int) -> Console:
    """Where tables are printed: names stay as they are, whatever brackets and colons they have.

    Args:
        width: in columns, where the output is no terminal.
    """
    return Console(width=None if sys.stdout.isatty() else width, markup=False, emoji=False, highlight=False)


def show_any_name() -> None:
    """Write what the terminal's encoding cannot show as an escape: a name must not end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class Interrupted(BaseException):
    """Raised where a run stopped on a signal with its state saved; the message says how to resume."""


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence like all the others, and whose flags are spelled out."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings, allow_abbrev=False)
        if " " not in self.prog:  # not of recon-prepare's parts
            add_version(self)

    def error(self, message: str) -> NoReturn:
        """Raise what :func:`run_command` prints.

        Raises:
            InputError: always.
        """
        raise InputError(f"{message}; {self.prog} --help explains the flags")


def run_command(command: Callable[[list[str]], None], argv: Sequence[str] | None) -> int:
    """Run a command and turn how it ended into an exit code: 0 done, 2 bad input, 1 our fault, 130 interrupted.

    Args:
        command: takes the arguments; raises InputError for what the user can mend.
        argv: the arguments, by default the process's own.
    """
    show_any_name()
    quiet_libraries()
    keep_freed_memory()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, with its exit code
    try:
        command(list(sys.argv[1:] if argv is None else argv))
    except Interrupted as stop:
        return _say(f"interrupted: {stop}", INTERRUPTED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is not None:
            return _say(f"error: {sentence}", BAD_INPUT)
        traceback.print_exc()
        return _say("This is a fault of the program, not of your input: please report it.", OUR_FAULT)
    return DONE


def _say(sentence: str, code: int) -> int:
    print(sentence, file=sys.stderr, flush=True)
    return code


def quiet_libraries() -> None:
    """Keep other libraries' advice off the terminal where it does not concern the user."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for text in (
        ".*does not have many workers.*",  # the sample's loader needs none
        ".*ended before the epoch ended and your dataloader is not resumable.*",  # ours is
        ".*is smaller than the logging interval.*",
        ".*GPU available but not used.*",
        ".*treespec, LeafSpec.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # what is logged is already reduced
        ".*pkg_resources is deprecated.*",
        ".*lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`.*",
    ):
        warnings.filterwarnings("ignore", message=text)
