"""A sweep as Ray Tune runs it: scheduler, searcher, resources, and the ledger that outlives them all.

Ray keeps nothing that a resumed sweep needs. What a scheduler or a searcher must know of earlier trials is told them
again from the run folders: Ray's own ``Tuner.restore`` forgets what ASHA has seen, knows nothing that is younger than
its last snapshot (10 s), and has none at all of a sweep that was killed early.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import optuna
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search.optuna import OptunaSearch

from pipelines.runtime.nested import Tree, Value
from pipelines.tuning.ledger import ENDED, FAILED, Ledger, Trial, number_of, trial_name
from pipelines.tuning.messages import Numbered, SweepSettings, TrialConfig
from pipelines.tuning.population import CHANGEABLE
from pipelines.tuning.progress import Progress
from pipelines.tuning.request import Settings
from pipelines.tuning.space import Parameter, Point, Space
from pipelines.tuning.trial import run_trial

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial as TuneTrial
    from ray.tune.search.sample import Domain

TIME = "epochs"  # how far a trial is, in Ray's words
KEPT_STATES = 4  # of each member of a population, so that none is gone when another wants it


def trial_settings(folder: Path, config: Tree, settings: Settings) -> SweepSettings:
    """What every trial is told: where, from what configuration, and how it reports."""
    return {
        "folder": str(folder.resolve()),  # a trial works in another directory
        "config": dict(config),
        "gpus": settings.gpus,
        "shared": settings.storage is None,
        "population": settings.scheduler == "pbt",
        "with_state": settings.scheduler == "pbt" or settings.storage is not None,
    }


def run_sweep(ledger: Ledger, space: Space, config: Tree, settings: Settings) -> None:
    """Run all trials that have not ended, each from where it stopped, and new ones until there are enough.

    Ray must be running.

    Args:
        ledger: of the sweep's folder.
        space: to draw new points from.
        config: of the task; a trial's is this one with its point laid over.
        settings: how many trials, by which search and scheduler, with how many CPUs and GPUs each.
    """
    random.seed(settings.seed)  # the population's choices
    np.random.seed(settings.seed)  # noqa: NPY002
    left = [trial for trial in ledger if trial.status not in ENDED]
    for trial in left:
        trial.starts = 0
    told = trial_settings(ledger.folder, config, settings)
    parameters: dict[str, object] = {"sweep": told}
    search = None
    if settings.searcher == "optuna":
        n_new = settings.samples - len(ledger.trials)
        search = _Search(ledger, space, settings, left)
    else:
        for number, point in enumerate(space.random_points(settings.samples, settings.seed)):
            if number not in ledger.trials:
                ledger.write(Trial(number, point))
        left = [trial for trial in ledger if trial.status not in ENDED]
        n_new = 0
        waiting = [Numbered(number=trial.number, point=trial.point) for trial in left]
        parameters["trial"] = tune.grid_search(waiting)
    if not left and not n_new:
        return
    state = 0 if not told["with_state"] else KEPT_STATES if settings.scheduler == "pbt" else 1
    tuner = tune.Tuner(
        tune.with_resources(run_trial, {"cpu": settings.cpus, "gpu": settings.gpus}),
        param_space=parameters,
        tune_config=tune.TuneConfig(
            num_samples=len(left) + n_new if search else 1,
            search_alg=search,
            scheduler=_scheduler(settings, space, ledger),
            max_concurrent_trials=settings.concurrent,
            # The imports of a process take as long as a small trial. A searcher's next trial waits until the one before
            # has its process: if it took one that is free, all small trials would run in the first.
            reuse_actors=search is None,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=ledger.folder.name if settings.storage else "ray",
            storage_path=settings.storage or str(ledger.folder.resolve()),
            callbacks=[Progress(ledger, settings)],
            failure_config=tune.FailureConfig(max_failures=settings.retries),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=state or None),
            verbose=0,
        ),
    )
    tuner.fit()


class _Search(OptunaSearch):
    """Optuna, told of the trials that have ended; first come those that have not."""

    def __init__(self, ledger: Ledger, space: Space, settings: Settings, left: Sequence[Trial]) -> None:
        modes = [mode for _, mode in settings.objectives]
        metrics = [metric for metric, _ in settings.objectives]
        storage = optuna.storages.InMemoryStorage()
        directions: list[Literal["maximize", "minimize"]] = [
            "maximize" if mode == "max" else "minimize" for mode in modes
        ]
        sampler = optuna.samplers.TPESampler(seed=settings.seed + len(ledger.trials))
        study = optuna.create_study(storage=storage, study_name="sweep", directions=directions, sampler=sampler)
        for trial in ledger:
            rows = ledger.rows(trial.number)
            if trial.status in ENDED and trial.status != FAILED and rows:
                study.add_trial(_as_optuna(space, trial, [rows[-1][metric] for metric in metrics]))
        self.ledger, self.left = ledger, list(left)
        several = len(metrics) > 1
        super().__init__(
            space.suggest,
            metric=metrics if several else metrics[0],
            mode=modes if several else modes[0],
            sampler=sampler,
            storage=storage,
            study_name="sweep",
            points_to_evaluate=[_encoded(space, trial.point) for trial in left] or None,
        )

    def suggest(self, trial_id: str) -> dict[str, Numbered]:
        """The next point, with its number."""
        point = super().suggest(trial_id)
        if self.left:
            trial = self.left.pop(0)
        else:
            trial = Trial(max(self.ledger.trials, default=-1) + 1, point or {})
            self.ledger.write(trial)
        return {"trial": Numbered(number=trial.number, point=trial.point)}

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Hand on what has the metric; a trial that failed has none."""
        if isinstance(self.metric, list) or self.metric in result:
            super().on_trial_result(trial_id, result)


def _encoded(space: Space, point: Point) -> Point:
    """A point as Optuna keeps it: choices are text."""
    kinds = {parameter.key: parameter.kind for parameter in space.parameters}
    return {key: json.dumps(value) if kinds[key] == "choice" else value for key, value in point.items()}


def _as_optuna(space: Space, trial: Trial, values: Sequence[float]) -> optuna.trial.FrozenTrial:
    """A trial that has ended, in Optuna's words."""
    fixed = optuna.trial.FixedTrial(_encoded(space, trial.point))
    space.suggest(fixed)
    return optuna.trial.create_trial(params=fixed.params, distributions=fixed.distributions, values=list(values))


class _Population(PopulationBasedTraining):
    """A population in which nobody changes after the last epoch: there is nothing left to train.

    Args:
        max_epochs: of a trial.
        settings: Ray's.
    """

    def __init__(self, max_epochs: int, **settings: Value) -> None:
        super().__init__(**settings)
        self._max_epochs = max_epochs

    def on_trial_result(self, tune_controller: TuneController, trial: TuneTrial, result: dict) -> str:
        """Whether it goes on, pauses, or takes over another's state."""
        if result.get(TIME, 0) >= self._max_epochs:
            return TrialScheduler.CONTINUE
        return super().on_trial_result(tune_controller, trial, result)


class _ASHA(ASHAScheduler):
    """ASHA that knows trials by their numbers, which stay when a sweep is resumed."""

    def on_trial_add(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        """Take a trial into the lists; again, if it comes back."""
        super().on_trial_add(tune_controller, _numbered(trial))

    def on_trial_result(self, tune_controller: TuneController, trial: TuneTrial, result: dict) -> str:
        """Whether it goes on."""
        return super().on_trial_result(tune_controller, _numbered(trial), result)

    def on_trial_complete(self, tune_controller: TuneController, trial: TuneTrial, result: dict) -> None:
        """Note its last result."""
        super().on_trial_complete(tune_controller, _numbered(trial), result)

    def on_trial_remove(self, tune_controller: TuneController, trial: TuneTrial) -> None:
        """Forget it."""
        super().on_trial_remove(tune_controller, _numbered(trial))


def _numbered(trial: object) -> TuneTrial:
    return cast("TuneTrial", SimpleNamespace(trial_id=number_of(str(trial))))


def _name(trial: TuneTrial) -> str:
    return trial_name(trial.config["trial"]["number"], trial.trial_id)


def _scheduler(settings: Settings, space: Space, ledger: Ledger) -> TrialScheduler:
    metric, mode = settings.objectives[0]
    if settings.scheduler == "pbt":
        varied = [p for p in space.parameters if p.key.startswith(CHANGEABLE)]
        return _Population(
            settings.max_epochs,
            time_attr=TIME,
            metric=metric,
            mode=mode,
            perturbation_interval=settings.interval,
            hyperparam_mutations={"trial": {"point": {p.key: _mutations(p) for p in varied}}},
            custom_explore_fn=partial(_within, {p.key: p for p in varied}),
            require_attrs=False,
            log_config=False,
            synch=True,  # who is best does not depend on who is fastest
        )
    last = settings.max_epochs - 1  # no decision after the last epoch: such a trial is complete
    if settings.scheduler == "none" or last < settings.grace:
        return FIFOScheduler()
    asha = _ASHA(
        time_attr=TIME,
        metric=metric,
        mode=mode,
        max_t=last,
        grace_period=settings.grace,
        reduction_factor=settings.reduction,
        stop_last_trials=False,
    )
    nobody = cast("TuneController", None)
    for trial in ledger:
        known = cast("TuneTrial", trial_name(trial.number, "before"))  # ASHA asks for no more than the name
        asha.on_trial_add(nobody, known)
        for epochs, row in enumerate(ledger.rows(trial.number), 1):
            asha.on_trial_result(nobody, known, {**row, TIME: epochs})
    return asha


def _mutations(parameter: Parameter) -> list[Value] | Domain:
    if parameter.kind == "choice":
        return list(parameter.values)
    low, high = parameter.values
    if parameter.kind.endswith("int"):
        return (tune.lograndint if parameter.kind == "logint" else tune.randint)(low, high + 1)
    return (tune.loguniform if parameter.kind == "loguniform" else tune.uniform)(low, high)


def _within(parameters: Mapping[str, Parameter], config: TrialConfig) -> TrialConfig:
    """Bring values that were multiplied back into their ranges."""
    point = config["trial"]["point"]
    for key, parameter in parameters.items():
        if parameter.kind != "choice":
            low, high = parameter.values
            point[key] = min(max(point[key], low), high)
    return config
