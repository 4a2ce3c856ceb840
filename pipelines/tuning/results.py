"""What a sweep found: the table of its trials, its best configuration and its summary, from the run folders."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import yaml

from data_prep import replace_file
from pipelines.runs.config import load, settings_of
from pipelines.runtime.nested import Tree
from pipelines.runtime.run_folder import write_csv, write_json
from pipelines.tuning.ledger import COMPLETE, FAILED, Ledger, Row, Trial
from pipelines.tuning.population import Change, Schedule, read_schedule

Objectives = Sequence[tuple[str, str]]
"""Metrics, and "max" or "min"; the first decides which trial is the best."""


class Outcome(NamedTuple):
    """A trial and its epochs.

    Attributes:
        trial: its number, its point in the space, and what became of it.
        rows: its epochs.
        best: the one with the best first objective; empty where there is none.
        schedule: of a population's member: its start and its changes; of others None.
    """

    trial: Trial
    rows: list[Row]
    best: Row
    schedule: Schedule | None

    @property
    def changes(self) -> list[Change]:
        """What a population changed on the way."""
        return self.schedule["changes"] if self.schedule else []


class Findings(NamedTuple):
    """All of a sweep.

    Attributes:
        outcomes: by number.
        objectives: (metric, "max" or "min") pairs; the first decides which trial is the best.
        best: the best trial that came to its end (or else the best there is); None where none has an epoch.
        front: the numbers of the trials that no other one beats in every objective.
    """

    outcomes: list[Outcome]
    objectives: Objectives
    best: Outcome | None
    front: list[int]


def find(ledger: Ledger, objectives: Objectives) -> Findings:
    """Look at all run folders of a sweep."""
    outcomes = []
    for trial in ledger:
        rows = ledger.rows(trial.number)
        best = _best_row(rows, objectives[0])
        outcomes.append(Outcome(trial, rows, best, read_schedule(ledger.run_folder(trial.number))))
    measured = [outcome for outcome in outcomes if outcome.best]
    candidates = [outcome for outcome in measured if outcome.trial.status == COMPLETE] or measured
    first = max(candidates, key=lambda outcome: _score(outcome, objectives[0]), default=None)
    return Findings(outcomes, objectives, first, _front(candidates, objectives))


def _best_row(rows: Sequence[Row], objective: tuple[str, str]) -> Row:
    metric, mode = objective
    rows = [row for row in rows if metric in row]
    return (max if mode == "max" else min)(rows, key=lambda row: row[metric], default={})


def _score(outcome: Outcome, objective: tuple[str, str]) -> float:
    """The objective, larger is better."""
    metric, mode = objective
    value = outcome.best.get(metric, float("nan"))
    return value if mode == "max" else -value


def _front(outcomes: Sequence[Outcome], objectives: Objectives) -> list[int]:
    scores = {o.trial.number: [_score(o, objective) for objective in objectives] for o in outcomes}
    return [
        number
        for number, own in scores.items()
        if not any(all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in scores.values())
    ]


def write_table(path: Path, ledger: Ledger, findings: Findings) -> None:
    """Write results.csv: a row for each trial, with the figures of its best epoch."""
    keys = list(dict.fromkeys(key for outcome in findings.outcomes for key in outcome.trial.point))
    metrics = list(dict.fromkeys(key for outcome in findings.outcomes for key in outcome.best))
    metrics = [key for key in metrics if key not in ("epoch", "seconds", "step")]
    columns = ["trial", "status", "reason", "starts", "epochs", "seconds", "best_epoch", "pareto", *metrics, *keys]
    rows = []
    for trial, epochs, best, _ in findings.outcomes:
        seconds = f"{sum(row.get('seconds', 0) for row in epochs):.3f}"
        rows.append(
            [
                trial.number,
                trial.status,
                trial.reason,
                trial.starts,
                len(epochs),
                seconds,
                int(best["epoch"]) if best else "",
                int(trial.number in findings.front),
                *(best.get(metric, "") for metric in metrics),
                *(_text(trial.point[key]) if key in trial.point else "" for key in keys),
                str(ledger.run_folder(trial.number).relative_to(ledger.folder)),
            ]
        )
    write_csv(path, [*columns, "folder"], rows)


def _text(value: object) -> object:
    return value if isinstance(value, (int, float, str)) else json.dumps(value)


def write_best(path: Path, ledger: Ledger, best: Outcome) -> None:
    """Write the best trial's configuration, which ``recon-train --config`` takes."""
    config = settings_of(load(ledger.run_folder(best.trial.number) / "config.yaml"))
    config["trainer"] |= {"max_epochs": len(best.rows), "enable_progress_bar": True}
    head = f"# Trial {best.trial.number} of a sweep: recon-train --config {path.name} repeats it.\n"
    if best.changes:
        head = (
            f"# The last settings of trial {best.trial.number} of a population. They changed on the way, so that no\n"
            f"# single configuration repeats it: trials/{best.trial.number:03d}/schedule.json tells them.\n"
        )
    with replace_file(path) as temporary:
        temporary.write_text(head + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def write_summary(path: Path, findings: Findings, about: Tree) -> None:
    """Write summary.json: how many trials ended how, the best, the median and the Pareto front."""
    trials = [outcome.trial for outcome in findings.outcomes]
    metric, _ = findings.objectives[0]
    values = [outcome.best[metric] for outcome in findings.outcomes if outcome.best]
    content: dict[str, object] = {
        **about,
        "objectives": [{"metric": name, "mode": direction} for name, direction in findings.objectives],
        "trials": {status: sum(trial.status == status for trial in trials) for status in {t.status for t in trials}},
        "failures": {trial.number: trial.reason for trial in trials if trial.status == FAILED},
    }
    if findings.best is not None:
        content |= {
            "best": {
                "trial": findings.best.trial.number,
                "epochs": len(findings.best.rows),
                "settings": findings.best.trial.point,
                "figures": findings.best.best,
            },
            "median": {metric: median(values)},
            "pareto_front": findings.front,
        }
    write_json(path, content)
