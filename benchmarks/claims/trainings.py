"""The trainings of the protocol, by recon-tune: what has been trained is not trained again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.claims.protocol import Sweep, variant_of
from data_prep import replace_file
from pipelines.runtime.shell import DONE, INTERRUPTED, Interrupted
from pipelines.tuning.ledger import COMPLETE, Ledger
from recon.errors import InputError


class Trained(NamedTuple):
    """One finished training.

    Attributes:
        sweep: its name.
        variant: of the network.
        unit: the fold by subject, or "sample".
        seed: of the training.
        folder: the run.
    """

    sweep: str
    variant: str
    unit: str
    seed: int
    folder: Path


def train(sweep: Sweep, out: Path, data: Path | None) -> None:
    """Train all points of a sweep, or those that are left.

    Args:
        sweep: which.
        out: the folder of all sweeps.
        data: the folder of the data; None for the bundled sample.

    Raises:
        InputError: recon-tune refused it, or failed.
        Interrupted: it was stopped, with its state saved.
    """
    folder, space = out / sweep.name, out / f"{sweep.name}.yaml"
    n = len(sweep.points())
    given = {**sweep.space, "sweep": {"samples": n, "scheduler": "none"}}
    flags = [*sweep.train, *(["--data", str(data)] if data else []), "--space", str(space), "--out", str(folder)]
    if (folder / "sweep.json").is_file():
        if yaml.safe_load(space.read_text()) != given:
            raise InputError(f"{folder} is of another protocol: give another --out, or finish it with that protocol")
        if [trial.status for trial in Ledger(folder)] == [COMPLETE] * n:
            return
        flags = ["--resume", str(folder)]
    else:
        with replace_file(space) as temporary:
            temporary.write_text(yaml.safe_dump(given, sort_keys=False))
    code = subprocess.run([sys.executable, "-m", "pipelines.commands.tune", *flags], check=False).returncode
    if code == INTERRUPTED:
        raise Interrupted("the trainings are saved: give the same command again")
    if code != DONE:
        raise InputError(f"recon-tune ended with code {code} for {folder}: see what it said")


def trained(sweep: Sweep, out: Path) -> Iterator[Trained]:
    """The finished trainings of a sweep."""
    ledger = Ledger(out / sweep.name)
    for trial in ledger:
        if trial.status == COMPLETE:
            unit = f"fold {trial.point['dataset.fold']}" if "dataset.fold" in trial.point else "sample"
            seed = int(trial.point.get("seed", 0))
            yield Trained(sweep.name, variant_of(trial.point), unit, seed, ledger.run_folder(trial.number))
