"""One trial, in a process that Ray starts: recon-train's own code, and a report to the sweep after each epoch."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytorch_lightning as pl
import torch
import yaml
from ray import tune

from data_prep import replace_file
from pipelines.runs.train import train
from pipelines.runs.trust import trust_in_sweep
from pipelines.runtime.memory import give_back_freed_memory, keep_freed_memory
from pipelines.runtime.nested import overlay
from pipelines.tuning.ledger import number_of, read_rows, trial_folder
from pipelines.tuning.messages import SweepSettings, TrialConfig
from pipelines.tuning.population import change_settings, start_schedule
from pipelines.tuning.space import Point

FAILED = "failed"  # the key of a report that ends a trial, with the reason
PATIENCE = "60"  # seconds in which a trial that is pruned leaves its process to the next one
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "bad_alloc")


class Reporter(pl.callbacks.Checkpoint):
    """Tell the sweep of each epoch that the recorder has saved; where the sweep prunes the trial, it ends there.

    Lightning calls checkpoint callbacks last and in their order, so that this one comes after the recorder.

    Args:
        folder: the run folder.
        number: the trial's.
        config: the trial's, see :func:`run_trial`.
    """

    def __init__(self, folder: Path, number: int, config: TrialConfig) -> None:
        self.folder, self.number, self.config = folder, number, config

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the record of a population's member."""
        if self.config["sweep"]["population"]:
            start_schedule(self.folder, self.number, self.config["trial"]["point"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch's row."""
        self.report()

    def report(self) -> None:
        """Report the last row there is."""
        rows = read_rows(self.folder)
        if rows:
            state = tune.Checkpoint.from_directory(self.folder) if self.config["sweep"]["with_state"] else None
            tune.report({**rows[-1], "epochs": len(rows)}, checkpoint=state)


def run_trial(config: TrialConfig) -> None:
    """Train one trial to its end, from its start or from where it stopped.

    What would happen again in the same way (a loss that is not finite, settings that cannot work) is reported as the
    end of the trial; what may have been the machine's fault (no memory left) is raised, for Ray to try again.

    Args:
        config: "trial" (its number and point) and "sweep", see :func:`pipelines.tuning.sweep.trial_settings`.
    """
    os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = PATIENCE
    _free_memory()
    keep_freed_memory()
    sweep, point = config["sweep"], config["trial"]["point"]
    number = number_of(tune.get_context().get_trial_name())  # config may be a copy of another trial's
    folder = trial_folder(Path(sweep["folder"]), number) if sweep["shared"] else Path.cwd() / "run"
    reporter = Reporter(folder, number, config)
    if 0 < sweep["gpus"] < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(sweep["gpus"])  # the others' share stays theirs
    try:
        argv = _prepare(folder, number, point, sweep)
        reporter.report()  # what was done before, for a scheduler that has not seen it
        train(argv, [reporter])
        reporter.report()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY):
            raise
        tune.report({FAILED: f"{type(error).__name__}: {' '.join(str(error).split())}"})


def _free_memory() -> None:
    """Give back what the trial that this process trained before has left."""
    gc.collect()
    torch.cuda.empty_cache()
    give_back_freed_memory()  # also what an ended thread has freed


def _prepare(folder: Path, number: int, point: Point, sweep: SweepSettings) -> list[str]:
    """Bring the run folder to the state to go on from; gives recon-train's arguments."""
    state = tune.get_checkpoint()
    if state is not None:
        shutil.rmtree(folder, ignore_errors=True)
        state.to_directory(folder)
    if (folder / "config.yaml").is_file():
        change_settings(folder, number, point)
        return ["--resume", str(folder)]
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    start = folder.with_name(f"{folder.name}.yaml")
    trust_in_sweep(str(sweep["config"]["network"].get("name")))
    with replace_file(start) as temporary:
        temporary.write_text(yaml.safe_dump(overlay(sweep["config"], point), sort_keys=False))
    return ["--config", str(start), "--out", str(folder)]
