"""Families of cases, tried in turn and counted."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from benchmarks.fuzz import classes, raw, settings, stored, volumes
from benchmarks.fuzz.damage import Random
from benchmarks.fuzz.inputs import Inputs
from benchmarks.fuzz.judge import FAULTS, OK, Command, Judgement, Limits, try_command

Family = Callable[[Inputs, Path, Random], Command]
"""Writes a damaged input into a folder, and gives the command that meets it."""

OF_NAME: dict[str, Family] = {
    "fastmri": raw.fastmri,
    "lodopab": raw.lodopab,
    "dicom": volumes.dicom,
    "nifti": volumes.nifti,
    "images": classes.images,
    "settings": settings.flags_and_yaml,
    "runs": stored.runs,
    "spaces": settings.spaces,
}


class Fault(NamedTuple):
    """A case that did not end as it may."""

    family: str
    seed: int
    verdict: str
    why: str
    command: str


class Suite:
    """Tries cases in forks of this process, inside :func:`benchmarks.forks.ready_to_fork`.

    Args:
        folder: for inputs and cases; emptied after each case.
        limits: of each case.
        keep: where faulty cases' files are kept; None: nowhere.
    """

    def __init__(self, folder: Path, limits: Limits, keep: Path | None = None) -> None:
        self.folder, self.limits, self.keep = folder, limits, keep
        self.inputs = Inputs(folder / "inputs")
        self.counts: dict[str, Counter[str]] = {}
        self.seconds: dict[str, float] = {}

    def run(self, name: str, n: int, seed: int) -> Iterator[Fault]:
        """Try the cases with the seeds `seed` to `seed + n - 1` of a family; gives the faults."""
        self.counts[name], start = Counter(), time.monotonic()
        with tqdm(range(seed, seed + n), name, unit=" case", disable=None) as bar:
            for number in bar:
                command, judgement = self.case(name, number)
                self.counts[name][judgement.verdict] += 1
                if judgement.verdict not in OK:
                    bar.set_postfix(faults=sum(self.counts[name][verdict] for verdict in FAULTS))
                    line = shlex.join([command.name, *command.argv]).replace(str(self.folder), "")
                    yield Fault(
                        name, number, judgement.verdict, judgement.why.replace(str(self.folder), ""), line[:1000]
                    )
        self.seconds[name] = time.monotonic() - start

    def case(self, name: str, seed: int) -> tuple[Command, Judgement]:
        """Try the one case of a family that has this seed."""
        folder = self.folder / "case"
        folder.mkdir()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                command = OF_NAME[name](self.inputs, folder, random.Random(f"{name} {seed}"))
            judgement = try_command(command, folder, self.limits)
            if self.keep is not None and judgement.verdict not in OK:
                self._keep(folder, f"{name}-{seed}", judgement)
        finally:
            shutil.rmtree(os.fsencode(folder), ignore_errors=True)
        return command, judgement

    def _keep(self, folder: Path, name: str, judgement: Judgement) -> None:
        assert self.keep is not None
        place = self.keep / name
        place.mkdir(parents=True, exist_ok=True)
        (place / "output.txt").write_text(judgement.output)
        with contextlib.suppress(OSError, shutil.Error):  # pipes and devices
            shutil.copytree(folder, place / "case", symlinks=True, dirs_exist_ok=True, ignore=_special)

    def print_table(self) -> None:
        """How the cases ended, a row for each family."""
        table = Table("family", "cases", *OK, *FAULTS, "seconds for each")
        for name, count in self.counts.items():
            n = sum(count.values())
            numbers = [str(count[verdict]) for verdict in (*OK, *FAULTS)]
            table.add_row(name, str(n), *numbers, f"{self.seconds[name] / n:.2f}")
        Console(width=140).print(table)


def _special(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not (Path(folder, name).is_file() or Path(folder, name).is_dir())]
