"""What the installed commands run: help that was shown before is read from the cache, at once; the rest is imported.

The parsers take seconds to import. What they print for ``--help`` is kept in the user's cache folder, with all that it
depends on: the version, the libraries whose options it names, and the source files. Where one differs they are asked.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import re
import runpy
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "shift-equivariant-recon"
NAMED = ("jsonargparse", "pytorch-lightning", "torch", "torchvision")  # libraries whose options are in a help text
SOURCES, READ = ("configs", "data_prep", "pipelines", "recon"), (".py", ".yaml")  # whose files decide what it says
COMMANDS = ("train", "evaluate", "predict", "prepare", "tune", "export")
HELP = ("--help", "-h")
WIDTH = "100"  # columns of the texts
DONE = 0


def train() -> int:
    """``recon-train``."""
    return _run("train")


def evaluate() -> int:
    """``recon-evaluate``."""
    return _run("evaluate")


def predict() -> int:
    """``recon-predict``."""
    return _run("predict")


def prepare() -> int:
    """``recon-prepare``."""
    return _run("prepare")


def tune() -> int:
    """``recon-tune``."""
    return _run("tune")


def export() -> int:
    """``recon-export``."""
    return _run("export")


def _run(command: str) -> int:
    argv = sys.argv[1:]
    if argv == ["--version"]:
        print(f"recon-{command} {metadata.version(DISTRIBUTION)}")
        return DONE
    name = help_name(command, argv)
    if name is None:
        return _main(command, argv)
    path, made_from = help_file(name), what_decides_help()
    text = _kept(path, made_from)
    code = DONE
    if text is None:
        text, code = ask_parser(command, argv)
        if code == DONE:
            _keep(path, made_from, text)
    print(text, end="")
    return code


def _main(command: str, argv: Sequence[str]) -> int:
    return int(importlib.import_module(f"pipelines.commands.{command}").main(argv))


def help_name(command: str, argv: Sequence[str]) -> str | None:
    """What the help of a call is kept as: the command, and for recon-train its task; None where it is not kept.

    Args:
        command: one of COMMANDS.
        argv: its arguments.
    """
    rest = [token for token in argv if token not in HELP]
    if len(rest) == len(argv):
        return None
    task = re.fullmatch(r"--task[= ](\w+)", " ".join(rest))
    if command == "train" and task:
        return f"train-{task[1]}"
    return None if rest else command


def help_file(name: str) -> Path:
    """Where a help text is kept.

    Args:
        name: see :func:`help_name`.
    """
    folder = runpy.run_path(str(_root() / "data_prep" / "storage" / "folder.py"))  # the package itself imports torch
    return Path(folder["cache_folder"]()) / "help" / f"{name}.txt"


def what_decides_help() -> str:
    """The first line of a help text that is kept, which is shown only as long as this stays the same."""
    files = sorted(path for package in SOURCES for path in (_root() / package).rglob("*") if path.suffix in READ)
    stamps = [(str(path), status.st_size, status.st_mtime_ns) for path in files for status in [path.lstat()]]
    versions = [f"{name} {metadata.version(name)}" for name in (DISTRIBUTION, *NAMED)]
    code = hashlib.sha256(repr((sys.version, stamps)).encode(errors="surrogateescape")).hexdigest()[:16]
    return f"{', '.join(versions)}, code {code}\n"


def _root() -> Path:
    return Path(__file__).resolve().parents[2]


def _kept(path: Path, made_from: str) -> str | None:
    try:
        first, _, text = path.read_text("utf-8").partition("\n")
    except (OSError, ValueError):
        return None
    return text if f"{first}\n" == made_from else None


def _keep(path: Path, made_from: str, text: str) -> None:
    """Write it for the next call, where that is possible."""
    from data_prep import replace_file

    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as temporary:
            temporary.write_text(made_from + text, "utf-8")


def ask_parser(command: str, argv: Sequence[str]) -> tuple[str, int]:
    """What the parser itself prints, and its exit code.

    Args:
        command: one of COMMANDS.
        argv: its arguments, a call for help.
    """
    os.environ["COLUMNS"] = WIDTH
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = _main(command, argv)
    return _PRESET.sub(_without_folder, out.getvalue()), code


_PRESET = re.compile(r"default config file locations:\n(.*?)\n\n", re.DOTALL)


def _without_folder(match: re.Match[str]) -> str:
    """The defaults' file by its name: the folder is this machine's, and decides how lines are broken."""
    file = re.search(r"(\w+\.yaml)'\]", "".join(match[1].split()))
    assert file is not None
    return f"The defaults are those of configs/{file[1]}.\n\n"
