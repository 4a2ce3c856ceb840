"""What every command shares: exit codes, one-sentence errors, and words to the terminal."""

from __future__ import annotations

import argparse
import errno
import io
import json
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rich.console import Console

from pipelines.memory import keep_freed_memory
from recon.errors import InputError

_CANNOT_WRITE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP),
)
DONE, OUR_FAULT, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def size_flag(text: str) -> list[int]:
    """Parse a size such as '[320, 320]', for argparse."""
    try:
        rows, columns = json.loads(text)
        if type(rows) is type(columns) is int:
            return [rows, columns]
    except (ValueError, TypeError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a size such as '[320, 320]'")


def command_line(*parts: object) -> str:
    """A command to be copied into a shell."""
    return shlex.join(map(str, parts))


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
    except InputError as error:
        text = str(error).strip()
        if "Original Traceback" in text:  # a loader's process found it; its own sentence stands last
            text = text.rpartition("InputError: ")[2]
        return _say(f"error: {text}", BAD_INPUT)
    except OSError as error:
        if error.errno in _CANNOT_WRITE:
            where = f" ({error.filename})" if error.filename else ""
            return _say(f"error: cannot write{where}: {os.strerror(error.errno)}; give another --out folder", BAD_INPUT)
        traceback.print_exc()
        return OUR_FAULT
    except Interrupted as stop:
        return _say(f"interrupted: {stop}", INTERRUPTED)
    except KeyboardInterrupt:
        return _say("interrupted", INTERRUPTED)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else DONE
    except Exception:
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
        ".*ended before the epoch ended and your dataloader is not resumable.*",  # ours is: see pipelines.data
        ".*is smaller than the logging interval.*",
        ".*GPU available but not used.*",
        ".*treespec, LeafSpec.*",
        ".*It is recommended to use `self.log.*sync_dist=True.*",  # what is logged is already reduced
        ".*pkg_resources is deprecated.*",
        ".*lr_scheduler.step\\(\\)` before `optimizer.step\\(\\)`.*",
    ):
        warnings.filterwarnings("ignore", message=text)
