"""The report of a sweep, from plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from pipelines.reports.page import (
    Block,
    Cell,
    Details,
    Facts,
    Figure,
    Image,
    Number,
    Panel,
    Report,
    Section,
    Series,
    Table,
    Words,
)
from pipelines.runtime.nested import Tree
from pipelines.tuning import figures as draw
from pipelines.tuning.ledger import COMPLETE, FAILED, PRUNED
from pipelines.tuning.results import Findings, Outcome
from pipelines.tuning.space import Space

ENDED_WELL, BEST, STOPPED = Series("complete", 0), Series("best", 3), Series("pruned", 5)
DECADES = ("nmse", "loss")  # metrics that are read in decades
NOT_TOLD = ("epoch", "step", "seconds")


def sweep_report(findings: Findings, space: Space, about: Tree, best_yaml: str, measured: str) -> Report:
    """The report of a sweep.

    Args:
        findings: of its trials; at least one has an epoch.
        space: what was varied.
        about: "title", "data" (in words), "settings" and "environment".
        best_yaml: the best trial's configuration.
        measured: where recon-evaluate's report of the best trial is, relative to the page; may be empty.
    """
    trials = [outcome for outcome in findings.outcomes if outcome.best]
    sections = [
        _best(findings, best_yaml, measured),
        _parallel(findings, trials, space),
        _parameters(findings, trials, space),
        _learning(findings, trials),
        _pareto(findings, trials),
        _trials(findings),
        _schedules(findings),
        _failures(findings),
        _what_was_run(about),
    ]
    shown = [section for section in sections if section.text or section.blocks]
    return Report(about["title"], [about["data"]], _answer(findings), shown)


def _answer(findings: Findings) -> list[str]:
    best = findings.best
    assert best is not None
    metric, mode = findings.objectives[0]
    values = sorted(outcome.best[metric] for outcome in findings.outcomes if outcome.best)
    middle = (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2
    count = {status: sum(o.trial.status == status for o in findings.outcomes) for status in (PRUNED, FAILED)}
    epochs = sum(len(outcome.rows) for outcome in findings.outcomes)
    said = [
        f"Trial {best.trial.number} is the best of {len(findings.outcomes)}: {metric} "
        f"{_say(best.best[metric])} ({'more' if mode == 'max' else 'less'} is better), where the median of all trials "
        f"is {_say(middle)}.",
        f"{count[PRUNED]} trials were pruned and {count[FAILED]} failed; {epochs} epochs were trained in all.",
    ]
    if len(findings.objectives) > 1:
        names = " and ".join(name for name, _ in findings.objectives)
        said.append(f"No trial beats these in both {names}: {', '.join(map(str, findings.front))}.")
    return said


def _best(findings: Findings, best_yaml: str, measured: str) -> Section:
    best = findings.best
    assert best is not None
    rows: list[list[Cell | str]] = [[key, _say(value)] for key, value in best.trial.point.items()]
    figures: list[list[Cell | str]] = [
        [key, Cell.of(Number(_say(value), value, f"best/figures/{key}"))]
        for key, value in best.best.items()
        if key not in NOT_TOLD
    ]
    text = f"Trial {best.trial.number}, {len(best.rows)} epochs; figures of its best epoch. "
    text += "recon-train --config best.yaml repeats it" if not best.changes else "See its schedule"
    text += f", and recon-evaluate measured it: {measured}." if measured else "."
    blocks: list[Block] = [
        Table(["Setting", "Value"], rows, n_words=2),
        Table(["Metric", "Value"], figures),
        Details("best.yaml", [Words([best_yaml], code=True)]),
    ]
    return Section("Best configuration", text, blocks)


def _parallel(findings: Findings, trials: Sequence[Outcome], space: Space) -> Section:
    axes = [axis for _, axis in _axes(trials, space)]
    metric = findings.objectives[0][0]
    axes.append(draw.Axis(metric, [outcome.best[metric] for outcome in trials]))
    drawing = draw.parallel_coordinates("parallel", axes, _series(findings, trials), _place(findings, trials))
    alt = f"A line for each of {len(trials)} trials through its settings to its {metric}"
    caption = "From the settings, left, to the objective, right. Below an axis: the setting does not apply."
    return Section("All settings", "", [Figure([Panel([Image(drawing, alt)])], caption, _legend(trials), size="wide")])


def _parameters(findings: Findings, trials: Sequence[Outcome], space: Space) -> Section:
    metric = findings.objectives[0][0]
    values, series = [outcome.best[metric] for outcome in trials], _series(findings, trials)
    panels = []
    for number, (key, axis) in enumerate(_axes(trials, space)):
        drawing = draw.against_parameter(f"parameter-{number}", axis, values, series, metric)
        panels.append(Panel([Image(drawing, f"{metric} of each trial against {key}")], key))
    return Section("Each setting", "", [Figure(panels, "The best epoch of each trial.", _legend(trials))])


def _learning(findings: Findings, trials: Sequence[Outcome]) -> Section:
    panels = []
    for number, (metric, _) in enumerate(findings.objectives):
        lines = [[(row["epoch"], row[metric]) for row in outcome.rows if metric in row] for outcome in trials]
        drawing = draw.learning_curves(
            f"learning-{number}",
            lines,
            _series(findings, trials),
            [outcome.trial.status == PRUNED for outcome in trials],
            _place(findings, trials),
            metric,
            _in_decades(metric),
        )
        panels.append(Panel([Image(drawing, f"{metric} of each trial against the epoch")], metric))
    caption = "A cross marks where a trial was pruned."
    return Section("Learning curves", "", [Figure(panels, caption, _legend(trials), size="wide")])


def _pareto(findings: Findings, trials: Sequence[Outcome]) -> Section:
    if len(findings.objectives) < 2:
        return Section("Pareto front", "", [])
    (x, _), panels = findings.objectives[0], []
    front = [i for i, outcome in enumerate(trials) if outcome.trial.number in findings.front]
    for number, (y, _) in enumerate(findings.objectives[1:]):
        points = [(o.best[x], o.best[y]) for o in trials]
        drawing = draw.pareto_front(
            f"pareto-{number}", points, _series(findings, trials), front, (x, y), (_in_decades(x), _in_decades(y))
        )
        panels.append(Panel([Image(drawing, f"{x} and {y} of each trial, with the front")], f"{x} and {y}"))
    ways = ", ".join(f"{name}: {'more' if mode == 'max' else 'less'} is better" for name, mode in findings.objectives)
    figure = Figure(panels, f"No other trial beats those that are joined. {ways}.", _legend(trials), size="wide")
    return Section("Pareto front", "", [figure])


def _trials(findings: Findings) -> Section:
    keys = list(dict.fromkeys(key for outcome in findings.outcomes for key in outcome.trial.point))
    metrics = [metric for metric, _ in findings.objectives]
    rows: list[list[Cell | str]] = []
    for outcome in findings.outcomes:
        trial, best = outcome.trial, outcome.best
        own = outcome is findings.best
        rows.append(
            [
                Cell.named(Series(str(trial.number), _number(findings, outcome))),
                trial.status,
                *(_say(trial.point[key]) if key in trial.point else "" for key in keys),
                str(len(outcome.rows)),
                *(
                    Cell.of(Number(_say(best[m]), best[m], f"{trial.number}/{m}"), best=own) if m in best else ""
                    for m in metrics
                ),
            ]
        )
    table = Table(["Trial", "Status", *keys, "Epochs", *metrics], rows, n_words=2 + len(keys))
    return Section("Trials", "results.csv has all their figures.", [table])


def _schedules(findings: Findings) -> Section:
    """What a population changed, and when."""
    rows: list[list[Cell | str]] = []
    for outcome in findings.outcomes:
        for change in outcome.changes:
            settings = ", ".join(f"{key} {_say(value)}" for key, value in change["set"].items())
            source = str(change["from_trial"])
            rows.append([str(outcome.trial.number), str(change["epoch"]), source, settings or "nothing"])
    if not rows:
        return Section("Changes on the way", "", [])
    text = "No single configuration repeats these trials: they went on from another's state with other settings."
    columns = ["Trial", "After epochs", "State of trial", "Settings from then on"]
    return Section("Changes on the way", text, [Table(columns, rows, n_words=4)])


def _failures(findings: Findings) -> Section:
    facts = [
        (f"trial {outcome.trial.number}", outcome.trial.reason)
        for outcome in findings.outcomes
        if outcome.trial.reason and outcome.trial.status != PRUNED
    ]
    return Section("Failures", "", [Facts(facts)] if facts else [])


def _what_was_run(about: Tree) -> Section:
    environment = about["environment"]
    blocks: list[Block] = [Words([environment["command"]], code=True)] if "command" in environment else []
    facts = [(key.replace("_", " "), _say(value)) for key, value in {**about["settings"], **environment}.items()]
    return Section("What was run", "", [*blocks, Details("The sweep", [Facts(facts)])])


def _axes(trials: Sequence[Outcome], space: Space) -> list[tuple[str, draw.Axis]]:
    """An axis for each parameter that some trial has."""
    found = []
    for parameter in space.parameters:
        values = [outcome.trial.point.get(parameter.key) for outcome in trials]
        if parameter.kind == "choice":
            words = [_say(value) for value in parameter.values]
            axis = draw.Axis(parameter.key, [None if v is None else _say(v) for v in values], words=words)
        else:
            axis = draw.Axis(parameter.key, values, logarithmic=parameter.kind.startswith("log"))
        if any(value is not None for value in values):
            found.append((parameter.key, axis))
    return found


def _number(findings: Findings, outcome: Outcome) -> int:
    if findings.best is not None and outcome.trial.number == findings.best.trial.number:
        return BEST.number
    return (ENDED_WELL if outcome.trial.status == COMPLETE else STOPPED).number


def _series(findings: Findings, trials: Sequence[Outcome]) -> list[int]:
    return [_number(findings, outcome) for outcome in trials]


def _place(findings: Findings, trials: Sequence[Outcome]) -> int | None:
    assert findings.best is not None
    return next((i for i, o in enumerate(trials) if o.trial.number == findings.best.trial.number), None)


def _legend(trials: Sequence[Outcome]) -> list[Series]:
    stopped = any(outcome.trial.status != COMPLETE for outcome in trials)
    return [BEST, ENDED_WELL, *([Series("pruned or failed", STOPPED.number)] if stopped else [])]


def _in_decades(metric: str) -> bool:
    return any(word in metric for word in DECADES)


def _say(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if math.isfinite(value) else str(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)
