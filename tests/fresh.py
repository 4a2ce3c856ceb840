"""Commands and calls in processes that have the libraries loaded and have never trained.

A cold ``python -m pipelines.commands.train`` imports for seconds before it does what a test asks about, and torch does
not train in the fork of a process that has trained. So each test process has a parent of forks beside it, started at
the first use, which only imports; what runs here is a fork of that. Where the start itself is the question, use
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
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch

from benchmarks.forks import ready_to_fork

ROOT = Path(__file__).parents[1]
LOADED = (
    *(f"pipelines.commands.{name}" for name in ("train", "evaluate", "predict", "prepare", "tune", "export")),
    *("benchmarks.chaos", "benchmarks.fuzz.suite"),
    *("matplotlib.backends.backend_agg", "numba", "tensorboard.plugins.hparams.api_pb2"),  # what they load on the way
)
PATIENCE = 600  # seconds; a loaded machine needs some of it
TEMPORARY = tempfile.gettempdir()  # as the tests begin: one of them may set another, which goes when it ends


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
        environment = dict(os.environ if env is None else env)
        start = _Start(self.args[1:], environment, str(cwd or Path.cwd()), self._said, largest_file)
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
    return subprocess.CompletedProcess(process.args, process.wait(), out, errors)


@contextmanager
def fresh_process(make: Callable[[Path], Any], folder: Path) -> Iterator[Callable[..., Any]]:
    """Give what calls ``function(made, *arguments)`` in one fork, where ``made`` is ``make(folder)``."""
    process = _in_parent(_fork_server, make, folder)
    try:
        yield lambda function, *arguments: _in_parent(_forward, process, function, arguments)
    finally:
        _in_parent(_end_server, process)


@cache
def _parent() -> Connection:
    """The way to the parent of forks, which ends with this process however that ends."""
    ours, theirs = Pipe()
    command = [sys.executable, "-m", "tests.fresh", str(theirs.fileno())]
    environment = {**os.environ, "TMPDIR": TEMPORARY}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)  # the first of the two
    return ours


def _in_parent(function: Callable[..., Any], *arguments: Any) -> Any:
    return _ask(_parent(), function, arguments)


def _ask(connection: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    connection.send((function, arguments))
    result, fault = connection.recv()
    if fault:
        raise RuntimeError(fault)
    return result


# ---- from here on: what runs in the parent of forks, and in the forks

_STREAMS = ("stdout", "stderr")
_running: set[int] = set()
_servers: dict[int, Connection] = {}


class _Start(NamedTuple):
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    said: str
    largest_file: int | None


def _answer(connection: Connection, *first: Any) -> None:
    """Call what is asked for with `first` before its arguments, until the other side has gone."""
    with suppress(EOFError, ConnectionError):
        while True:
            function, arguments = connection.recv()
            try:
                answer = (function(*first, *arguments), "")
            except Exception:
                answer = (None, traceback.format_exc())
            connection.send(answer)


def _be_parent(descriptor: int) -> None:
    for name in LOADED:
        importlib.import_module(name)
    with ready_to_fork(Path(os.environ["RECON_CACHE"])), Connection(descriptor) as connection:
        _servers[os.getpid()] = connection
        _answer(connection)
        for process in _running:
            os.kill(process, signal.SIGKILL)


def _fork(function: Callable[..., None], *arguments: Any) -> int:
    process = os.fork()
    if process:
        _running.add(process)
        return process
    for connection in _servers.values():
        connection.close()  # or nobody would hear that the other side has gone
    _run_and_exit(function, *arguments)


def _exit_code(process: int, options: int = os.WNOHANG) -> int | None:
    found, status = os.waitpid(process, options)
    if not found:
        return None
    _running.remove(process)
    return os.waitstatus_to_exitcode(status)


def _fork_server(make: Callable[[Path], Any], folder: Path) -> int:
    ours, theirs = Pipe()
    process = _fork(_serve, ours, theirs, make, folder)
    theirs.close()
    _servers[process] = ours
    return process


def _forward(process: int, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    return _ask(_servers[process], function, arguments)


def _end_server(process: int) -> None:
    _servers.pop(process).close()
    _exit_code(process, options=0)


def _serve(ours: Connection, theirs: Connection, make: Callable[[Path], Any], folder: Path) -> None:
    ours.close()
    os.environ["RECON_CACHE"] = str(folder / "cache")
    (folder / "work").mkdir()
    _answer(theirs, make(folder / "work"))


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
    tempfile.tempdir = None  # the parent remembers the one of its own start
    os.chdir(start.folder)
    if start.largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (start.largest_file, start.largest_file))
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "utf-8").partition(":")
    for number, name in enumerate(_STREAMS, 1):
        os.dup2(os.open(Path(start.said, name), os.O_WRONLY | os.O_CREAT), number)
    sys.stdout = os.fdopen(1, "w", encoding=encoding, errors=errors or "strict")
    sys.stderr = os.fdopen(2, "w", encoding=encoding, errors="backslashreplace", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    kind, what, *sys.argv[1:] = start.arguments
    if kind == "-m":
        sys.modules.pop(what, None)  # as if nobody had imported it
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = kind
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


if __name__ == "__main__":
    from tests import fresh  # not this copy of it, which nobody else knows

    fresh._be_parent(int(sys.argv[1]))
