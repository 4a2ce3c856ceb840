"""The commands' help: at once, and what the parsers themselves print."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from pipelines import entry
from pipelines.command import DONE

LISTS_MODULES = """
import sys
from pipelines import entry

sys.argv = ["recon-{0}", "--help"]
code = entry.{0}()
print(code, sorted({{"torch", "monai", "ray", "numpy", "optuna"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize("name", entry.names())
def test_the_texts_are_what_the_parsers_print(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", entry.WIDTH)
    command, _, task = name.partition("-")
    text = entry.help_text(command, [*(["--task", task] if task else []), "--help"])
    assert text is not None, "the texts are of other library versions: python -m pipelines.entry writes them anew"
    assert unordered(text) == unordered(entry.ask_parser(name).partition("\n")[2])


def unordered(text):
    """Without what differs between Pythons: line breaks, the order within a Union, a value named after each spelling."""
    text = re.sub(r"(--[\w.]+) [^\s-]\S*, (?=\1\+)", r"\1, ", text)
    return re.sub(r"Union\[([^\[\]]*)\]", lambda m: ",".join(sorted(m[1].split(","))), "".join(text.split()))


@pytest.mark.parametrize("command", entry.COMMANDS)
def test_help_imports_nothing_that_takes_seconds(command):
    says = LISTS_MODULES.format(command)
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{DONE} []"
    assert f"usage: recon-{command}" in done.stdout


def test_every_installed_command_goes_through_the_entry_points():
    setup = ConfigParser()
    setup.read(Path(__file__).parents[2] / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert {line for line in scripts if line} == {f"recon-{name} = pipelines.entry:{name}" for name in entry.COMMANDS}


def test_other_arguments_and_other_versions_go_to_the_parser(monkeypatch):
    assert entry.help_text("train", ["--task=ct", "-h"])
    assert entry.help_text("train", ["--task", "ct"]) is None
    assert entry.help_text("train", ["--data", "somewhere", "--help"]) is None
    assert entry.help_text("prepare", ["cache", "--help"]) is None
    assert entry.help_text("tune", ["--task=ct", "--help"]) is None
    monkeypatch.setattr(entry.metadata, "version", lambda name: "0.0")
    assert entry.help_text("train", ["--help"]) is None
