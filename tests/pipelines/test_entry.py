"""The commands' help: at once, and what the parsers themselves print."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

import recon
import recon_commands
from data_prep import cache_folder
from pipelines.commands import entry, train, tune
from pipelines.runs.config import parse, settings_of
from pipelines.runtime.shell import BAD_INPUT, DONE

ROOT = Path(__file__).parents[2]

LISTS_MODULES = """
import sys
from pipelines.commands import entry

sys.argv = ["recon-{0}", "--help"]
code = entry.{0}()
print(code, sorted({{"torch", "monai", "ray", "numpy", "optuna", "h5py"}} & sys.modules.keys()))
"""


PRESETS = [path.stem for path in (ROOT / "configs").glob("*.yaml")]
TASKS = [name for name in PRESETS if "-" not in name and not name.endswith("_sample")]
CALLS = [("train", f"--task={task}") for task in TASKS] + [(command,) for command in entry.COMMANDS]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", entry.WIDTH)
    return tmp_path / "cache"


def call(monkeypatch, capsys, command, *arguments):
    """The installed command in this process; gives what it prints."""
    monkeypatch.setattr(sys, "argv", [f"recon-{command}", *arguments])
    assert getattr(entry, command)() == DONE
    return capsys.readouterr().out


@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_the_second_call_prints_what_the_parser_says(arguments, own_cache, monkeypatch, capsys):
    command, *rest = arguments
    first = call(monkeypatch, capsys, *arguments, "--help")
    assert f"usage: recon-{command}" in first
    assert (first, DONE) == entry.ask_parser(command, [*rest, "-h"])
    monkeypatch.setattr(entry, "ask_parser", lambda *_: pytest.fail("the parser is asked again"))
    assert call(monkeypatch, capsys, *arguments, "--help") == first
    assert [path.name for path in own_cache.rglob("*") if path.is_file()] == [
        f"{entry.help_name(command, [*rest, '-h'])}.txt"
    ]


def test_the_defaults_file_is_named_without_its_folder(own_cache, monkeypatch, capsys):
    said = call(monkeypatch, capsys, "train", "--task=imagenet", "--help")
    assert "The defaults are those of configs/imagenet.yaml." in said
    assert str(ROOT) not in "".join(said.split())


@pytest.mark.parametrize("changed", ["library", "source"])
def test_a_text_of_another_version_is_written_anew(changed, own_cache, monkeypatch, capsys, tmp_path):
    first = call(monkeypatch, capsys, "prepare", "--help")
    path = entry.help_file("prepare")
    stale = path.read_text() + "an option that is gone"
    path.write_text(stale)
    assert "an option that is gone" in call(monkeypatch, capsys, "prepare", "--help"), "the control"
    if changed == "library":
        real = entry.metadata.version
        monkeypatch.setattr(entry.metadata, "version", lambda name: "0.0" if name == "torch" else real(name))
    else:
        link_sources(tmp_path / "edited")
        monkeypatch.setattr(entry, "_root", lambda: tmp_path / "edited")
        path.write_text(entry.what_decides_help() + "an option that is gone")
        assert "an option that is gone" in call(monkeypatch, capsys, "prepare", "--help"), "the control"
        (tmp_path / "edited" / "configs" / "mri.yaml").write_text("seed: 1")
    assert call(monkeypatch, capsys, "prepare", "--help") == first
    assert "gone" not in path.read_text()


def link_sources(folder):
    """A few of the files that help depends on, to be edited."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "mri.yaml").write_text("")
    (folder / "data_prep").symlink_to(ROOT / "data_prep")


def test_a_cache_that_cannot_be_written_is_no_error(own_cache, monkeypatch, capsys):
    own_cache.write_text("in the way")
    assert "usage: recon-prepare" in call(monkeypatch, capsys, "prepare", "--help")
    own_cache.unlink()
    call(monkeypatch, capsys, "prepare", "--help")
    entry.help_file("prepare").write_bytes(b"\xff\xfe")  # damaged
    assert "usage: recon-prepare" in call(monkeypatch, capsys, "prepare", "--help")


def test_what_is_refused_is_not_kept(own_cache, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recon-train", "--task=nowhere", "--help"])
    assert entry.train() == BAD_INPUT
    assert "unknown task 'nowhere'" in capsys.readouterr().err
    assert not own_cache.exists()


def test_the_cache_folder_is_the_one_of_all_derived_files(own_cache):
    assert entry.help_file("tune") == cache_folder() / "help" / "tune.txt"


@pytest.mark.process
@pytest.mark.parametrize("command", entry.COMMANDS)
def test_help_imports_nothing_that_takes_seconds(command, own_cache, monkeypatch, capsys):
    said = call(monkeypatch, capsys, command, "--help")
    done = subprocess.run(
        [sys.executable, "-c", LISTS_MODULES.format(command)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{said}{DONE} []\n"


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


def test_other_arguments_go_to_the_parser():
    assert entry.help_name("train", ["--task=ct", "-h"]) == entry.help_name("train", ["--help", "--task", "ct"])
    assert entry.help_name("train", ["--task", "ct"]) is None
    assert entry.help_name("train", ["--data", "somewhere", "--help"]) is None
    assert entry.help_name("train", ["--task=../ct", "--help"]) is None
    assert entry.help_name("prepare", ["cache", "--help"]) is None
    assert entry.help_name("tune", ["--task=ct", "--help"]) is None
