"""The space of a sweep: YAML whose keys are the task's own, with ranges in the place of values.

optimizer.lr: {loguniform: [1e-4, 1e-2]}
network:
  sampling: {choice: [stride, lpf, aps, lps]}
  blur: {choice: [1, 3], when: {network.sampling: aps}}
trainer.max_epochs: 4          # a plain value replaces the task's own
sweep: {samples: 16}           # defaults of the command's flags
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.runtime.nested import Tree, Value, leaves
from pipelines.runtime.yaml_file import read_yaml
from recon.errors import InputError, nearest

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

KINDS = ("uniform", "loguniform", "int", "logint", "choice")
Point = dict[str, Value]
"""A value for each parameter that applies, by the task's dotted key."""


@dataclass(frozen=True)
class Parameter:
    """One key of the task's configuration, and the values to try.

    Attributes:
        key: dotted.
        kind: one of KINDS; the ends of a range belong to it.
        values: the two ends of a range, or the choices.
        when: other parameters' keys, and the values of theirs for which this one applies.
    """

    key: str
    kind: str
    values: tuple[Value, ...]
    when: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def applies(self, point: Point) -> bool:
        """Whether it has a value beside these."""
        return all(key in point and point[key] in values for key, values in self.when.items())

    def holds(self, value: Value) -> bool:
        """Whether the value is one of those to try."""
        if self.kind == "choice":
            return json.dumps(value) in map(json.dumps, self.values)
        low, high = self.values
        return type(value) in (int, float) and bool(low <= value <= high)

    def suggest(self, trial: BaseTrial) -> Value:
        """Ask an Optuna trial for a value."""
        if self.kind == "choice":  # as text: Optuna takes no lists
            return json.loads(trial.suggest_categorical(self.key, [json.dumps(value) for value in self.values]))
        suggest = trial.suggest_int if self.kind.endswith("int") else trial.suggest_float
        return suggest(self.key, *self.values, log=self.kind.startswith("log"))

    @property
    def n_values(self) -> float:
        """How many different values there are."""
        if self.kind == "choice":
            return len(self.values)
        low, high = self.values
        return high - low + 1 if self.kind.endswith("int") else (1 if low == high else math.inf)


@dataclass(frozen=True)
class Space:
    """What is varied, and what is not.

    Attributes:
        parameters: each after those that its ``when`` names.
        fixed: plain values of the file, by dotted key.
        sweep: defaults of the command's flags.
        source: the mapping that it was read from.
    """

    parameters: tuple[Parameter, ...]
    fixed: Tree
    sweep: Tree
    source: Tree

    def suggest(self, trial: BaseTrial) -> Point:
        """A point, from an Optuna trial (a define-by-run space)."""
        point: Point = {}
        for parameter in self.parameters:
            if parameter.applies(point):
                point[parameter.key] = parameter.suggest(trial)
        return point

    def corners(self, most: int) -> list[Point]:
        """Points that have every choice and every end of a range, in as many combinations as are asked for."""
        points: list[Point] = [{}]
        for parameter in self.parameters:
            grown: list[Point] = []
            for point in points:
                values = dict.fromkeys(map(json.dumps, parameter.values)) if parameter.applies(point) else ()
                grown += [{**point, parameter.key: json.loads(value)} for value in values] or [point]
            points = _covering(grown, most)
        return points

    def between(self, corners: Sequence[Point]) -> list[Point]:
        """Of each range of real numbers a corner moved into it: its ends may be whole, its other values are not."""
        found = []
        for parameter in self.parameters:
            point = next((point for point in corners if parameter.key in point), None)
            if point is not None and parameter.kind.endswith("uniform") and parameter.n_values > 1:
                low, high = parameter.values
                found.append({**point, parameter.key: low + 0.382 * (high - low)})
        return found

    def holds(self, point: Point) -> bool:
        """Whether all values of a point are of this space."""
        parameters = {parameter.key: parameter for parameter in self.parameters}
        return all(key in parameters and parameters[key].holds(value) for key, value in point.items())

    def random_points(self, n: int, seed: int) -> list[Point]:
        """The first n different points that this seed draws; fewer where there are not so many."""
        import optuna  # takes a second

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
        found: dict[str, Point] = {}
        for _ in range(100 * n):
            if len(found) >= n:
                break
            point = self.suggest(study.ask())
            found.setdefault(json.dumps(point), point)
        return list(found.values())


def _covering(points: list[Point], most: int) -> list[Point]:
    """At most so many of the points, but for those that are the only ones to have some value."""
    kept: list[Point] = []
    seen: set[tuple[str, str]] = set()
    for point in points:
        new = {(key, json.dumps(value)) for key, value in point.items()} - seen
        if new:
            kept.append(point)
            seen |= new
    others = [point for point in points if point not in kept]
    room = max(0, most - len(kept))
    return kept + others[:: max(1, math.ceil(len(others) / room))] if room else kept


def read_space(path: Path, known: Sequence[str]) -> Space:
    """Read a space.

    Args:
        path: the YAML file.
        known: the dotted keys of the task's configuration.

    Raises:
        InputError: no such file, no YAML, an unknown key (with the nearest known one), or a range that is none.
    """
    content = read_yaml(path, "the space", "give another --space", "configs/tune/mri.yaml")
    return parse_space(content, known, str(path))


def parse_space(content: Tree, known: Sequence[str], where: str) -> Space:
    """The space that a mapping describes; see :func:`read_space`."""
    source, content = content, dict(content)
    sweep = content.pop("sweep", {})
    if not isinstance(sweep, dict):
        raise InputError(f"sweep in {where} is {sweep!r}: give it flags of recon-tune, such as {{samples: 32}}")
    parameters: dict[str, Parameter] = {}
    fixed: dict[str, Value] = {}
    for key, value in leaves(content, _is_range):
        if key not in known:
            near = nearest(key, known, 0.5)
            hint = f"did you mean {near}?" if near else "recon-train --help lists them"
            raise InputError(f"unknown key in {where}: {key}: {hint}")
        _check_plain(key, value, where)
        if _is_range(value):
            parameters[key] = _parameter(key, value, where)
        else:
            fixed[key] = value
    if not parameters:
        raise InputError(f"{where} varies nothing: give at least one key a range, such as {{loguniform: [1e-4, 1e-2]}}")
    return Space(tuple(_ordered(parameters, where)), fixed, sweep, source)


def _check_plain(key: str, value: Value, where: str) -> None:
    """Refuse what YAML knows and a configuration does not, such as a date."""
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError):
        raise InputError(f"{key} in {where} is {value!r}: give numbers, words, or lists of them") from None


def _is_range(value: Value) -> bool:
    return isinstance(value, Mapping) and bool(set(value) & {*KINDS, "when"})


def _parameter(key: str, value: Tree, where: str) -> Parameter:
    value = dict(value)
    when = value.pop("when", {})
    if len(value) != 1 or next(iter(value)) not in KINDS or not isinstance(when, dict):
        raise InputError(f"{key} in {where} is no range: give one of {', '.join(KINDS)}, and when if you like")
    ((kind, values),) = value.items()
    if not isinstance(values, list) or not values:
        raise InputError(f"{key} in {where} has no value to try: give {kind} a list")
    values = [_number(v) for v in values]
    if kind != "choice":
        _check_range(key, kind, values, where)
    conditions = {k: tuple(map(_number, v if isinstance(v, list) else [v])) for k, v in when.items()}
    return Parameter(key, kind, tuple(values), conditions)


def _number(value: Value) -> Value:
    """YAML reads 1e-4 as text."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _check_range(key: str, kind: str, values: list[Value], where: str) -> None:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    if not numbers or len(values) != 2 or values[0] > values[1]:
        raise InputError(f"{key} in {where}: {kind} takes [lowest, highest], not {values}")
    if kind.endswith("int") and not all(isinstance(v, int) for v in values):
        raise InputError(f"{key} in {where}: {kind} takes whole numbers, not {values}")
    if kind.startswith("log") and values[0] <= 0:
        raise InputError(f"{key} in {where}: {kind} takes positive numbers, not {values}")


def _ordered(parameters: Mapping[str, Parameter], where: str) -> list[Parameter]:
    """Each parameter after those that it depends on."""
    ordered: dict[str, Parameter] = {}
    for parameter in parameters.values():
        for key, values in parameter.when.items():
            other = parameters.get(key)
            if other is None:
                raise InputError(f"{parameter.key} in {where} applies when {key} has a value, but {key} is not varied")
            if other.kind == "choice" and not set(map(json.dumps, values)) & set(map(json.dumps, other.values)):
                raise InputError(f"{parameter.key} in {where} never applies: {key} is none of {list(values)}")
    left = dict(parameters)
    while left:
        ready = [key for key, parameter in left.items() if parameter.when.keys() <= ordered.keys()]
        if not ready:
            raise InputError(f"{', '.join(left)} in {where} depend on each other: take away a when")
        ordered |= {key: left.pop(key) for key in ready}
    return list(ordered.values())
