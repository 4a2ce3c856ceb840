"""The run folder: what a training leaves behind, each file whole or not there."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch
import yaml
from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from data_prep import replace_file
from pipelines.runtime.nested import Tree, Value
from pipelines.runtime.stored import read_json
from recon import __version__
from recon.errors import InputError


@with_config(ConfigDict(extra="allow"))  # what another version has written beside stays
class Environment(TypedDict, total=False):
    """Of environment.json: what :func:`environment` gives, the seed, and what each further start adds."""

    command: str
    started: str
    version: str
    git_commit: str | None
    device: str
    cpu: str
    threads: int
    python: str
    platform: str
    versions: dict[str, str]
    seed: int
    resumed: list[dict[str, Value]]


LIBRARIES = ("torch", "numba", "monai", "pytorch-lightning", "torchmetrics", "numpy", "h5py", "fastmri", "scikit-image")


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all; inf and nan are refused rather than written."""
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table, whole or not at all; names that are not UTF-8 keep their bytes."""
    table = io.StringIO(newline="")
    writer = csv.writer(table)
    writer.writerow(header)
    writer.writerows(rows)
    with replace_file(path) as temporary:
        temporary.write_bytes(table.getvalue().encode("utf-8", "surrogateescape"))


def new_run_folder(config: Tree) -> Path:
    """The folder of a new run, not yet made: ``out``, or runs/<task>/<YYYYMMDD-HHMMSS>-<sampling><blur>-s<seed>.

    Raises:
        InputError: it holds something already.
    """
    if config["out"] is not None:
        folder = Path(config["out"])
    else:
        network = config["network"]
        blur = network["blur"] if (network.get("blur") or 1) > 1 else ""
        centred = "-centred" if network.get("align") == "centroid" else ""
        name = str(network.get("name")).rpartition(":")[2]  # of another program's factory its own
        variant = f"{network.get('sampling', name)}{blur}{centred}"
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{variant}-s{config['seed']}"
        folder = Path("runs") / config["task"] / name
        attempt = 1
        while folder.exists():
            attempt += 1
            folder = folder.with_name(f"{name}-{attempt}")
    if folder.is_dir() and {*folder.iterdir()} - {*leftovers(folder)}:
        resume = shlex.join(["--resume", str(folder)])
        raise InputError(f"{folder} is not empty: give another --out, or go on with it by {resume}")
    return folder


def make_folder(folder: Path) -> None:
    """Create a folder that can be written to.

    Raises:
        InputError: it cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".{os.getpid()}.part"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror}): give another --out folder") from None


def leftovers(folder: Path) -> list[Path]:
    """The temporary files, below a folder, of a process that was killed while it wrote."""
    return [path for pattern in (".*.tmp", ".*.part") for path in folder.rglob(pattern)]


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote into this folder."""
    for path in leftovers(folder):
        path.unlink(missing_ok=True)


def check_run_folder(folder: Path) -> Path:
    """The folder itself, if a training made it.

    Raises:
        InputError: it does not exist, or holds no config.yaml.
    """
    if not folder.is_dir():
        raise InputError(f"there is no run folder {folder}: give one that recon-train made, such as runs/mri/...")
    if not (folder / "config.yaml").is_file():
        raise InputError(f"{folder} is not a run folder (it has no config.yaml): give one that recon-train made")
    return folder


def write_config(folder: Path, config: Tree) -> None:
    """Write the resolved configuration, from which the run can be repeated."""
    with replace_file(folder / "config.yaml") as temporary:
        temporary.write_text(yaml.safe_dump(dict(config), sort_keys=False))


def environment(device: str) -> Environment:
    """Versions, commit, machine and command: what is needed to repeat a run beside its configuration."""
    return Environment(
        {
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "version": __version__,
            "git_commit": _git_commit(),
            "device": device,
            "cpu": platform.processor() or platform.machine(),
            "threads": torch.get_num_threads(),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "versions": {name: metadata.version(name) for name in LIBRARIES},
        }
    )


def write_environment(folder: Path, device: str, seed: int) -> None:
    """Write environment.json; a resumed run keeps its first start's and adds its own under "resumed"."""
    path = folder / "environment.json"
    now = environment(device) | {"seed": seed}
    try:
        first = read_environment(path)
    except InputError:  # missing or damaged: what is known now is better than nothing
        write_json(path, now)
    else:
        write_json(path, resumed(first, now))


def read_environment(path: Path) -> Environment:
    """What environment.json says.

    Raises:
        InputError: it is missing or damaged.
    """
    return read_json(path, Environment)


def resumed(first: Environment, now: Tree) -> Environment:
    """An environment with what a further start adds."""
    return {**first, "resumed": [*first.get("resumed", []), dict(now)]}


def _git_commit() -> str | None:
    """The commit of the source this runs from, with -dirty where files were changed; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
