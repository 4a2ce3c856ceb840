"""One case: a command on a damaged input in a fork of this process, and whether it ended as it may."""

from __future__ import annotations

import contextlib
import csv
import faulthandler
import gzip
import hashlib
import json
import os
import re
import resource
import signal
import stat
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import h5py
import torch
import yaml

from pipelines.runtime.shell import BAD_INPUT, DONE

OK = ("exit 0", "exit 2")
FAULTS = ("exit 1", "crash", "hang", "memory", "half-written", "not one sentence")
TEMPORARY = (".tmp", ".part")
_MEMORY = re.compile(r"MemoryError|bad_alloc|[Cc]an(no|')t allocate memory|not enough memory|Unable to allocate")
_OURS = re.compile(r'File "(?:[^"]*/)?((?:pipelines|data_prep|recon)/[^"]+)", line (\d+)')
_NOTE = re.compile(r"^(note|warning|skipped|written|[^:]+: \d+ images of|.*it/s\]|.*\d+%\|)")  # said beside a sentence


class Limits(NamedTuple):
    """What a case may take: seconds, and GB beside what this process has."""

    seconds: float
    gigabytes: float


class Command(NamedTuple):
    """What a user would type.

    Attributes:
        name: for the list of faults.
        main: called with the arguments.
        argv: its arguments.
        out: the folder it writes to, judged afterwards; None: it writes nothing.
        inputs: what it must leave as it is.
        all_or_nothing: nothing may be written where the exit code is 2.
    """

    name: str
    main: Callable[[Sequence[str]], int]
    argv: list[str]
    out: Path | None = None
    inputs: Path | None = None
    all_or_nothing: bool = False


class Judgement(NamedTuple):
    """How a case ended: one of OK or FAULTS, and for a fault its last line and where it was raised."""

    verdict: str
    why: str
    output: str


def try_command(command: Command, folder: Path, limits: Limits) -> Judgement:
    """Run a command in `folder`, which holds its input, and judge it. This process is as before."""
    before, inputs = contents(folder), contents(command.inputs)
    output = folder.with_name(f"{folder.name}.output")
    sys.stdout.flush()
    sys.stderr.flush()
    process = os.fork()
    if process == 0:
        _child(command, folder, output, limits)
    code, hung, peak = _wait(process, limits.seconds)
    text = output.read_text("utf-8", "replace")
    output.unlink()
    if hung:
        return Judgement("hang", f"no end after {limits.seconds:g} s at {_place(text)}", text)
    if peak > limits.gigabytes:
        return Judgement("memory", f"{peak:.1f} GB at its most", text)
    if code not in (DONE, BAD_INPUT):
        verdict = "memory" if _MEMORY.search(text) else "crash" if code < 0 else "exit 1"
        name = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Judgement(verdict, f"{name}: {_last_line(text)} at {_place(text)}", text)
    if code == BAD_INPUT and _MEMORY.search(text):
        return Judgement("memory", _last_line(text), text)
    if code == BAD_INPUT and (wrong := not_one_sentence(text)):
        return Judgement("not one sentence", wrong, text)
    written = [path for path, digest in contents(folder).items() if before.get(path) != digest]
    if wrong := _left_behind(command, folder, written, code):
        return Judgement("half-written", wrong, text)
    if contents(command.inputs) != inputs:
        return Judgement("half-written", "the input was changed", text)
    return Judgement(f"exit {code}", "", text)


def _child(command: Command, folder: Path, output: Path, limits: Limits) -> NoReturn:
    code = 1
    try:
        os.setsid()  # whatever it starts can be ended with it
        target = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(target, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8")
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
        os.chdir(folder)
        os.environ["RECON_CACHE"] = str(folder / "cache")
        faulthandler.enable(file=2)  # tells where it crashed
        faulthandler.dump_traceback_later(max(limits.seconds - 0.5, 0.1), file=2)
        size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        most = size + int(limits.gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        script = sys.modules[command.main.__module__].__file__ or ""
        sys.argv = [script, *command.argv]  # what Lightning starts again, with more devices
        sys.modules["__main__"].__spec__ = None
        code = command.main(command.argv)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(process: int, seconds: float) -> tuple[int, bool, float]:
    """The exit code (a negative signal), whether it was stopped for its time, and its peak in GB beside ours."""
    end, hung = time.monotonic() + seconds, False
    own = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    while True:
        found, status, usage = os.wait4(process, os.WNOHANG)
        if found:
            break
        if not hung and time.monotonic() > end:
            hung = True
            _end_group(process)
        time.sleep(0.005)
    _end_group(process)  # loaders that outlive it
    return os.waitstatus_to_exitcode(status), hung, (usage.ru_maxrss * 1024 - own) / 2**30


def _end_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def not_one_sentence(text: str) -> str:
    """What is wrong with the output of a command that ended with exit code 2; empty where nothing is."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    if any(line.startswith("Traceback (most recent") for line in lines):
        return f"a traceback: {_last_line(text)} at {_place(text)}"
    said = [line for line in lines if line.startswith("error: ")]
    if len(said) != 1:
        return f"{len(said)} sentences"
    after = [line for line in lines[lines.index(said[0]) + 1 :] if line and not _NOTE.match(line)]
    if after:
        return f"more than a sentence: {after[0][:100]}"
    noise = [line for line in lines if re.search(r"Warning:|^\S+ (WARNING|ERROR|CRITICAL)|pixdim|sizeof_hdr", line)]
    return f"a library's own line: {noise[0][:160]}" if noise and noise[0] != said[0] else ""


def contents(folder: Path | None) -> dict[str, str]:
    """Each file's digest, below a folder."""
    if folder is None:
        return {}
    found = {}
    for root, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            path = os.path.join(root, name)
            mode = os.lstat(path).st_mode
            content = b"" if not stat.S_ISREG(mode) else Path(os.fsdecode(path)).read_bytes()
            found[os.fsdecode(path)] = f"{stat.S_IFMT(mode)} {hashlib.sha1(content).hexdigest()}"
    return found


def _left_behind(command: Command, folder: Path, written: Sequence[str], code: int) -> str:
    """What a command should not have left, of the files that it wrote."""
    for name in written:
        if name.endswith(TEMPORARY):
            return f"left {re.sub('[0-9a-f]{12}', '*', Path(name).name)}"
    files = [Path(name) for name in written if command.out is not None and Path(name).is_relative_to(command.out)]
    if code == BAD_INPUT and command.all_or_nothing and files:
        return f"exit 2, and wrote {files[0].relative_to(folder)}"
    for path in files:
        if not is_whole(path):
            return f"{path.relative_to(folder)} cannot be read"
    return ""


def is_whole(path: Path) -> bool:
    """Whether a file can be read to its end as what its suffix says."""
    try:
        if path.suffix in (".h5", ".hdf5"):
            with h5py.File(path) as file:
                file.visititems(lambda name, item: item[()] if isinstance(item, h5py.Dataset) else None)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".yaml":
            yaml.safe_load(path.read_text())
        elif path.suffix == ".csv":
            with path.open(newline="") as table:
                return len({len(row) for row in csv.reader(table)}) == 1
        elif path.suffix == ".ckpt":
            torch.load(path, weights_only=True)
        elif path.suffix == ".gz":
            gzip.decompress(path.read_bytes())
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, zlib.error, yaml.YAMLError):
        return False
    return True


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if re.match(r"[\w.]+(Error|Exception|Exit|Interrupt|error)\b", line)]
    lines = [line for line in lines if not line.startswith("error:")]
    return (lines[-1] if lines else (text.strip().splitlines() or ["nothing said"])[-1])[:200]


def _place(text: str) -> str:
    """The innermost of our own lines in a traceback."""
    found = _OURS.findall(text)
    if "most recent call first" in text and "most recent call last" not in text:
        found = found[:1]  # of faulthandler
    return ":".join(found[-1]) if found else "no line of ours"
