"""What the installed commands run: the help is read from a file, what takes seconds to import only where it is needed.

The texts in ``pipelines/help`` are what the parsers print, written by ``python -m pipelines.commands.entry``; a test
compares them. With other versions of the libraries whose options they name, the parsers are asked.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path

DISTRIBUTION = "shift-equivariant-recon"
NAMED = ("jsonargparse", "pytorch-lightning", "torch", "torchvision")  # libraries whose options are in a help text
COMMANDS = ("train", "evaluate", "predict", "prepare", "tune")
TASKS = ("mri", "ct", "fashion_mnist", "cifar10", "cifar100", "imagenet")
HELP = ("--help", "-h")
WIDTH = "100"  # columns of the texts


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


def _run(command: str) -> int:
    if sys.argv[1:] == ["--version"]:
        print(f"recon-{command} {metadata.version(DISTRIBUTION)}")
        return 0
    text = help_text(command, sys.argv[1:])
    if text is not None:
        print(text, end="")
        return 0
    return int(importlib.import_module(f"pipelines.commands.{command}").main())


def help_text(command: str, argv: Sequence[str]) -> str | None:
    """The text that answers a call for help; None where there is none for these arguments or library versions.

    Args:
        command: one of COMMANDS.
        argv: its arguments.
    """
    name = _name(command, argv)
    if name is None:
        return None
    try:
        first, _, text = (resources.files("pipelines") / "help" / f"{name}.txt").read_text("utf-8").partition("\n")
    except OSError:
        return None
    return text if first == _versions() else None


def _name(command: str, argv: Sequence[str]) -> str | None:
    """Of the text: the command, and for recon-train its task."""
    rest = [token for token in argv if token not in HELP]
    if len(rest) == len(argv):
        return None
    if command != "train":
        return None if rest else command
    task = " ".join(rest).replace("=", " ").removeprefix("--task ") if rest else TASKS[0]
    return f"train-{task}" if task in TASKS else None


def _versions() -> str:
    return ", ".join(f"{name} {metadata.version(name)}" for name in NAMED)


def ask_parser(name: str) -> str:
    """What the parser itself prints, under the line of versions.

    Args:
        name: of the text.
    """
    command, _, task = name.partition("-")
    os.environ["COLUMNS"] = WIDTH
    main = importlib.import_module(f"pipelines.commands.{command}").main
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main([*(["--task", task] if task else []), HELP[0]]) == 0
    return f"{_versions()}\n{_PRESET.sub(_without_folder, out.getvalue())}"


_PRESET = re.compile(r"default config file locations:\n(.*?)\n\n", re.DOTALL)


def _without_folder(match: re.Match[str]) -> str:
    """The defaults' file by its name: the folder is this machine's, and decides how lines are broken."""
    file = re.search(r"(\w+\.yaml)'\]", "".join(match[1].split()))
    assert file is not None
    return f"The defaults are those of configs/{file[1]}.\n\n"


def names() -> list[str]:
    """Of all texts."""
    return [*(f"train-{task}" for task in TASKS), *(command for command in COMMANDS if command != "train")]


if __name__ == "__main__":
    folder = Path(__file__).parents[1] / "help"
    for each in names():
        (folder / f"{each}.txt").write_text(ask_parser(each), encoding="utf-8")
