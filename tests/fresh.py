"""Commands and calls in processes that have the libraries loaded and have never trained.

A cold ``python -m pipelines.commands.train`` imports for seconds before it does what a test asks about, and torch does
not train in the fork of a process that has trained. So each test process has one parent beside it, started at the
first use, which only imports; what runs here is a fork of it. Where the start itself is the question, use
:mod:`subprocess`.
"""

from __future__ import annotations

import atexit
import importlib
import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch

from benchmarks.forks import ready_to_fork

LOADED = (
    *(f"pipelines.commands.{name}" for name in ("train", "evaluate", "predict", "prepare", "tune")),
    *("benchmarks.chaos", "benchmarks.fuzz.suite"),
)
PATIENCE = 600  # seconds; a loaded machine needs some of it


class Popen:
    """A command in a fork, used like :class:`subprocess.Popen` with text in pipes.

    Args:
        command: ``[sys.executable, "-m", module, ...]`` or ``[sys.executable, "-c", code, ...]``.
        env: its environment; None: this process's.
        cwd: its working folder; None: this process's.
        largest_file: in bytes, which no file may grow past; None: as they like.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        largest_file: int | None = None,
    ) -> None:
        self.args, self.returncode = list(command), None
        self._said = tempfile.mkdtemp(prefix="said-")
        start = _Start(
            self.args[1:], dict(os.environ if env is None else env), str(cwd or Path.cwd()), self._said, largest_file
        )
        self.pid = _in_parent(_fork, _command, start)

    def poll(self) -> int | None:
        """The exit code, a signal's negative; None while it runs."""
        if self.returncode is None:
            self.returncode = _in_parent(_exit_code, self.pid)
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """What it said on standard output and on standard error until it ended."""
        self.wait(timeout)
        out, errors = (Path(self._said, name).read_text("utf-8", "replace") for name in _STREAMS)
        return out, errors

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def run(command: Sequence[str], timeout: float = PATIENCE, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a fork to its end; the settings are those of :class:`Popen`."""
    process = Popen(command, **settings)
    try:
        out, errors = process.communicate(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, errors)


@contextmanager
def fresh_process(make: Callable[[Path], Any], folder: Path) -> Iterator[Callable[..., Any]]:
    """Give what calls ``function(made, *arguments)`` in one fork, where ``made`` is ``make(folder)``."""
    with Listener() as listener:
        process = _in_parent(_fork, _serve, make, folder, listener.address)
        with listener.accept() as connection:

            def call(function: Callable[..., Any], *arguments: Any) -> Any:
                connection.send((function, arguments))
                result, fault = connection.recv()
                if fault:
                    raise RuntimeError(fault)
                return result

            yield call
    while _in_parent(_exit_code, process) is None:
        time.sleep(0.01)


@cache
def _parent() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), _load)


def _in_parent(function: Callable[..., Any], *arguments: Any) -> Any:
    return _parent().submit(function, *arguments).result()


# ---- from here on: what runs in the parent and in its forks

_STREAMS = ("stdout", "stderr")
_ready: list[Any] = []


class _Start(NamedTuple):
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    said: str
    largest_file: int | None


def _load() -> None:
    for name in LOADED:
        importlib.import_module(name)
    ready = ready_to_fork(Path(tempfile.mkdtemp(prefix="cache-")))
    ready.__enter__()
    _ready.append(ready)  # for as long as this process lives


def _fork(function: Callable[..., None], *arguments: Any) -> int:
    process = os.fork()
    if process:
        return process
    _run_and_exit(function, *arguments)


def _exit_code(process: int) -> int | None:
    found, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _run_and_exit(function: Callable[..., None], *arguments: Any) -> NoReturn:
    """As the interpreter ends."""
    code = 1
    try:
        function(*arguments)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(start: _Start) -> None:
    """As the interpreter starts."""
    os.environ.clear()
    os.environ.update(start.environment)
    os.chdir(start.folder)
    if start.largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (start.largest_file, start.largest_file))
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for number, name in enumerate(_STREAMS, 1):
        os.dup2(os.open(Path(start.said, name), os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, errors=errors or "strict")
    sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    kind, what, *sys.argv[1:] = start.arguments
    if kind == "-m":
        del sys.modules[what]  # as nobody has imported it
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = kind
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def _serve(make: Callable[[Path], Any], folder: Path, address: str) -> None:
    with Client(address) as connection:
        os.environ["RECON_CACHE"] = str(folder / "cache")
        (folder / "work").mkdir()
        made, fault = None, ""
        try:
            made = make(folder / "work")
        except Exception:
            fault = traceback.format_exc()
        while True:
            try:
                function, arguments = connection.recv()
            except EOFError:
                return
            try:
                connection.send((None, fault) if fault else (function(made, *arguments), ""))
            except Exception:
                connection.send((None, traceback.format_exc()))
