"""The driver's side of each trial: what becomes of it is written down at once, and shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ray.tune import Callback
from rich.live import Live
from rich.table import Table

from pipelines.runtime.shell import terminal
from pipelines.tuning.ledger import COMPLETE, FAILED, PRUNED, RUNNING, Ledger, Trial, number_of
from pipelines.tuning.messages import Report
from pipelines.tuning.space import Point
from pipelines.tuning.trial import FAILED as FAILED_KEY

if TYPE_CHECKING:
    from ray.tune.experiment import Trial as TuneTrial

    from pipelines.tuning.request import Settings


class Progress(Callback):
    """Keep the ledger, and show it: a live table on a terminal, a line for each trial elsewhere.

    Args:
        ledger: of the sweep.
        settings: of the sweep.
    """

    def __init__(self, ledger: Ledger, settings: Settings) -> None:
        self.ledger, self.settings = ledger, settings
        self._live: Live | None = None

    def __getstate__(self) -> dict[str, object]:
        """Nothing that Ray would keep: the ledger is in its own files."""
        return {}

    def setup(self, *args: object, **info: object) -> None:
        """Begin to show."""
        if sys.stdout.isatty():
            self._live = Live(self._table(), console=terminal(120), refresh_per_second=2)
            self._live.start()

    def on_trial_start(self, iteration: int, trials: Sequence[object], trial: TuneTrial, **info: object) -> None:
        """Note that it runs."""
        known = self._trial(trial)
        known.status, known.starts = RUNNING, known.starts + 1
        self._write(known)

    def on_trial_result(
        self, iteration: int, trials: Sequence[object], trial: TuneTrial, result: Report, **info: object
    ) -> None:
        """Note a failure that would happen again; a population's change of settings; else only show."""
        known = self._trial(trial)
        if FAILED_KEY in result:
            known.status, known.reason = FAILED, str(result[FAILED_KEY])
            self._write(known)
        elif known.point != trial.config["trial"]["point"]:
            known.point = dict(trial.config["trial"]["point"])
            self._write(known)
        self._show(None)

    def on_trial_recover(self, iteration: int, trials: Sequence[object], trial: TuneTrial, **info: object) -> None:
        """Note why it will be started again."""
        known = self._trial(trial)
        known.reason = f"started again: {_reason(trial)}"
        self._write(known)
        self._show(f"trial {known.number} {known.reason}")

    def on_trial_error(self, iteration: int, trials: Sequence[object], trial: TuneTrial, **info: object) -> None:
        """Note why it failed for good."""
        known = self._trial(trial)
        self._fetch(trial)
        known.status, known.reason = FAILED, _reason(trial)
        self._end(known)

    def on_trial_complete(self, iteration: int, trials: Sequence[object], trial: TuneTrial, **info: object) -> None:
        """Note whether it came to its end."""
        known = self._trial(trial)
        self._fetch(trial)
        if known.status != FAILED:
            known.status = COMPLETE if self.ledger.is_finished(known.number) else PRUNED
            if known.status == PRUNED:
                known.reason = f"pruned by {self.settings.scheduler} after epoch {len(self.ledger.rows(known.number))}"
        self._end(known)

    def on_experiment_end(self, trials: Sequence[object], **info: object) -> None:
        """Stop showing."""
        if self._live is not None:
            self._live.update(self._table())
            self._live.stop()
            self._live = None

    def _trial(self, trial: TuneTrial) -> Trial:
        return self.ledger.trials[number_of(str(trial))]

    def _fetch(self, trial: TuneTrial) -> None:
        """Bring the run folder here, where trials keep theirs elsewhere."""
        if self.settings.storage is not None and trial.checkpoint is not None:
            trial.checkpoint.to_directory(self.ledger.run_folder(self._trial(trial).number))

    def _write(self, known: Trial) -> None:
        self.ledger.write(known)
        self._show(None)

    def _end(self, known: Trial) -> None:
        self.ledger.write(known)
        rows = self.ledger.rows(known.number)
        metric = self.settings.objectives[0][0]
        figure = f", {metric} {rows[-1][metric]:.4g}" if rows else ""
        reason = f" ({known.reason})" if known.status == FAILED else ""
        ended = sum(trial.status in (COMPLETE, PRUNED, FAILED) for trial in self.ledger)
        self._show(
            f"[{ended}/{self.settings.samples}] trial {known.number} {known.status}{reason}: "
            f"{len(rows)} epochs{figure}; {say_point(known.point)}"
        )

    def _show(self, line: str | None) -> None:
        if self._live is not None:
            self._live.update(self._table())
        elif line is not None:
            print(line, flush=True)

    def _table(self) -> Table:
        return trials_table(self.ledger, [metric for metric, _ in self.settings.objectives])


def trials_table(ledger: Ledger, metrics: Sequence[str]) -> Table:
    """All trials, for the terminal."""
    table = Table("trial", "status", title=time.strftime("%H:%M:%S"), title_justify="right")
    for name in ("epochs", *metrics):
        table.add_column(name, justify="right")
    table.add_column("settings", overflow="fold")
    for trial in ledger:
        rows = ledger.rows(trial.number)
        figures = [f"{rows[-1][metric]:.4g}" if rows and metric in rows[-1] else "" for metric in metrics]
        table.add_row(str(trial.number), trial.status, str(len(rows)), *figures, say_point(trial.point))
    return table


def say_point(point: Point) -> str:
    """A point in one line."""
    return ", ".join(f"{key} {f'{value:.3g}' if isinstance(value, float) else value}" for key, value in point.items())


def _reason(trial: TuneTrial) -> str:
    """Why Ray says that it failed, in a sentence."""
    try:
        text = Path(trial.error_file or "").read_text(encoding="utf-8", errors="backslashreplace")
    except OSError:
        text = ""
    text = text.rpartition("Failure # ")[2]
    if any(word in text for word in ("OutOfMemory", "out of memory", "memory pressure")):
        return "there was not enough memory for it"
    if "actor died" in text or "actor is dead" in text or "ActorDied" in text or "unavailable" in text:
        return "its process was killed or its node was lost"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "Ray does not say why"
