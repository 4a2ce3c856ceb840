"""The commands' help: at once, and what the parsers themselves print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import recon
import recon_commands
from pipelines.commands import entry, train, tune
from pipelines.runs.config import parse, settings_of
from pipelines.runtime.shell import BAD_INPUT, DONE

ROOT = Path(__file__).parents[2]

LISTS_MODULES = """
import sys
from pipelines.commands import entry

sys.argv = ["recon-{0}", "--help"]
code = entry.{0}()
print(code, sorted({{"torch", "monai", "ray", "numpy", "optuna"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize("name", entry.names())
def test_the_texts_are_what_the_parsers_print(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", entry.WIDTH)
    command, _, task = name.partition("-")
    text = entry.help_text(command, [*(["--task", task] if task else []), "--help"])
    assert text is not None, (
        "the texts are of other library versions: python -m pipelines.commands.entry writes them anew"
    )
    assert unordered(text) == unordered(entry.ask_parser(name).partition("\n")[2])


def unordered(text):
    """Without what differs between Pythons: line breaks, the order in a Union, a value named after each spelling."""
    text = re.sub(r"(--[\w.]+) [^\s-]\S*, (?=\1\+)", r"\1, ", text)
    return re.sub(r"Union\[([^\[\]]*)\]", lambda m: ",".join(sorted(m[1].split(","))), "".join(text.split()))


@pytest.mark.process
@pytest.mark.parametrize("command", entry.COMMANDS)
def test_help_imports_nothing_that_takes_seconds(command):
    says = LISTS_MODULES.format(command)
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"{DONE} []"
    assert f"usage: recon-{command}" in done.stdout


def test_every_installed_command_goes_through_the_entry_points():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert {line for line in scripts if line} == {f"recon-{name} = recon_commands:{name}" for name in entry.COMMANDS}
    assert all(callable(getattr(module, name)) for name in entry.COMMANDS for module in (recon_commands, entry))


STARTS = """
import sys
import recon_commands

sys.argv = ["recon-{0}", "--version"]
code = recon_commands.{0}()
print(code, "torch" in sys.modules)
"""


def start(command: str, *first: Path) -> subprocess.CompletedProcess[str]:
    """What the installed script does, with these folders first on PYTHONPATH."""
    path = os.pathsep.join(map(str, [*first, ROOT]))
    says, environment = STARTS.format(command), os.environ | {"PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", says], env=environment, capture_output=True, text=True, cwd="/")


@pytest.mark.process
@pytest.mark.parametrize("command", entry.COMMANDS)
def test_the_version_is_said_at_once(command):
    done = start(command)
    assert done.stdout == f"recon-{command} {recon.__version__}\n{DONE} False\n", done.stderr


def test_the_version_is_said_beside_other_arguments(capsys):
    assert train.main(["--task=ct", "--version"]) == DONE
    assert capsys.readouterr().out == f"recon-train {recon.__version__}\n"
    assert "version" not in settings_of(parse([]))


@pytest.mark.process
@pytest.mark.parametrize("package", recon_commands.PACKAGES)
def test_a_foreign_package_of_the_same_name_is_told_in_one_sentence(package, tmp_path):
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").write_text("raise RuntimeError('foreign code ran')")
    done = start("train", tmp_path)
    assert done.stdout == f"{BAD_INPUT} False\n"
    assert done.stderr.count("\n") == 1
    assert f"finds the package {package} in {tmp_path}, not in {ROOT}" in done.stderr


@pytest.mark.process
def test_a_foreign_module_counts_too(tmp_path):
    (tmp_path / "pipelines.py").write_text("")
    assert "finds the package pipelines in" in start("train", tmp_path).stderr


def test_a_sweep_without_its_packages_says_how_to_get_them(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert tune.main(["--samples=1"]) == BAD_INPUT
    assert train.main(["--ray-workers=2"]) == BAD_INPUT
    for line in capsys.readouterr().err.splitlines():
        assert "needs ray: pip install 'shift-equivariant-recon[sweeps]'" in line


def test_other_arguments_and_other_versions_go_to_the_parser(monkeypatch):
    assert entry.help_text("train", ["--task=ct", "-h"])
    assert entry.help_text("train", ["--task", "ct"]) is None
    assert entry.help_text("train", ["--data", "somewhere", "--help"]) is None
    assert entry.help_text("prepare", ["cache", "--help"]) is None
    assert entry.help_text("tune", ["--task=ct", "--help"]) is None
    monkeypatch.setattr(entry.metadata, "version", lambda name: "0.0")
    assert entry.help_text("train", ["--help"]) is None
