"""A training from its arguments to a finished run folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from pipelines.measuring.kind import AnyRun, Run
from pipelines.measuring.settings import Settings
from pipelines.runs.checkpoints import build_task, load_weights, read_state
from pipelines.runs.checks import check_limits, one_line, open_data
from pipelines.runs.config import given_options, load, make_absolute, parse, recorded, settings_of
from pipelines.runs.hyperparameters import log_hyperparameters
from pipelines.runs.resume import check_changes, check_state
from pipelines.runs.start import load_start
from pipelines.runs.zoo import refuse_zoo
from pipelines.runtime.nested import Tree, Value
from pipelines.runtime.run_folder import (
    check_run_folder,
    make_folder,
    new_run_folder,
    remove_leftovers,
    write_config,
    write_environment,
    write_json,
)
from pipelines.runtime.shell import Interrupted, command_line
from pipelines.tasks import TASKS, describe_data
from pipelines.training.base import TrainedTask
from pipelines.training.loaders import Loaders
from pipelines.training.recorder import RunRecorder
from recon.errors import InputError

FOLDER_VARIABLE = "RECON_RUN_FOLDER"  # how the processes that Lightning starts for more devices find the run folder


def train(argv: list[str], callbacks: Sequence[pl.Callback] = (), placement: Tree | None = None) -> None:
    """Train in this process, or in one of those that share the training.

    Args:
        argv: recon-train's arguments.
        callbacks: told of the training after the recorder has saved.
        placement: arguments of Lightning's trainer in the place of the configuration's, where Ray started the process.

    Raises:
        InputError: what the user can mend.
        Interrupted: stopped by a signal, with its state saved.
    """
    train_configured(*configuration(argv), callbacks, placement)


def train_configured(
    config: Namespace,
    resumed_from: Namespace | None,
    callbacks: Sequence[pl.Callback] = (),
    placement: Tree | None = None,
) -> None:
    """Train as :func:`train` does, what a configuration describes.

    Args:
        config: see :func:`configuration`.
        resumed_from: the configuration so far, of a run that is resumed.
        callbacks: see :func:`train`.
        placement: see :func:`train`.
    """
    first = rank_zero_only.rank == 0 and os.environ.get("NODE_RANK", "0") == "0"  # type: ignore[attr-defined]
    _set_threads(config.threads)
    row, resumed = TASKS[config.task], resumed_from is not None
    if config.data is None and row.sample is not None and first:
        print(SAMPLE_NOTICE.format(**row.sample._asdict()), flush=True)
    training_set, validation_set, measured_set = open_data(config)
    pl.seed_everything(config.seed, verbose=False)
    task = build_task(config)
    if not any(parameter.requires_grad for parameter in task.network.parameters()):
        raise InputError(
            f"the network {config.network.name} has nothing to train: measure it with recon-evaluate --model"
        )

    folder = run_folder(config, resumed, first)
    recorder = RunRecorder(folder)
    checkpoint, step = _last_checkpoint(folder, task, resumed_from, config) if resumed_from is not None else (None, 0)
    if config.init is not None and checkpoint is None:  # also where a run is resumed that never saved a state
        load_start(task, config)
    started = pl.callbacks.LambdaCallback(on_train_start=lambda *_: _record_settings(folder, config))
    trainer = build_trainer(config, folder, [started, recorder, *callbacks], step, placement)
    dataset = config.dataset
    loaders = Loaders(training_set, validation_set, dataset.batch_size, dataset.n_workers, config.seed)
    check_limits(config, loaders, trainer.world_size)
    if first:
        make_folder(folder)
        if not resumed:
            _record_settings(folder, config)
        remove_leftovers(folder)
        write_environment(folder, str(trainer.strategy.root_device), config.seed)
        n_parameters = sum(p.numel() for p in task.network.parameters())
        variant = f", sampling {config.network.sampling}" if "sampling" in config.network else ""
        variant += ", centred" if config.network.get("align") == "centroid" else ""
        variant += f", started from {config.init}" if config.init else ""
        print(f"Run folder: {folder}\nNetwork: {n_parameters:,} parameters{variant}", flush=True)
    trainer.fit(task, loaders, ckpt_path=checkpoint, weights_only=True)
    if first:
        _record_settings(folder, config)  # also where nothing was left to train
        try:
            device = trainer.strategy.root_device
            best = folder / "checkpoints" / "best.ckpt"
            run = Run(folder.name, folder, best, config, row.kind, task.to(device), measured_set)
            summary = finish(run)
            assert isinstance(trainer.logger, TensorBoardLogger)  # build_trainer's
            log_hyperparameters(trainer.logger, config, summary)
        except KeyboardInterrupt:
            resume = command_line("recon-train", "--resume", folder)
            raise Interrupted(f"the training is done and saved; measure it with: {resume}") from None


def _set_threads(n_threads: int | None) -> None:
    if n_threads is None:
        return
    n_cpus = os.cpu_count() or 1
    if n_threads > n_cpus:
        raise InputError(f"threads is {n_threads}, but this machine has {n_cpus} CPUs: give {n_cpus} or less")
    torch.set_num_threads(n_threads)


@rank_zero_only
def _record_settings(folder: Path, config: Namespace) -> None:
    """Write config.yaml: of a resumed run only once it has really started with these settings."""
    write_config(folder, settings_of(config))


def configuration(argv: list[str]) -> tuple[Namespace, Namespace | None]:
    """The configuration with all defaults written out, and the one so far of a run that is resumed.

    Raises:
        InputError: unknown keys, values that cannot work, or a run that cannot be resumed so.
    """
    resume, resumed_from = given_options(argv).get("resume"), None
    if resume is None:
        config = parse(argv)
        if config.out is not None:
            refuse_zoo("--out", Path(config.out))
    else:
        refuse_zoo("--resume", Path(resume))
        path = check_run_folder(Path(resume)) / "config.yaml"
        resumed_from = load(path)
        if given_options(argv).get("task", resumed_from.task) != resumed_from.task:
            raise InputError(f"{resume} is a run of the task {resumed_from.task}: leave out --task")
        config = parse([*recorded(path), *(token for i, token in enumerate(argv) if not _is_resume(argv, i))])
        if config.out is not None:
            raise InputError("--resume goes on in the run's own folder: leave out --out")
        check_changes(resumed_from, config)
        config.out = str(resume)
    TASKS[config.task].kind.resolve(config)
    make_absolute(config)
    return config, resumed_from


def _is_resume(argv: list[str], i: int) -> bool:
    return argv[i].startswith("--resume=") or argv[i] == "--resume" or (i > 0 and argv[i - 1] == "--resume")


def run_folder(config: Namespace, resumed: bool, first: bool = True) -> Path:
    """Where the run goes; the first process tells the others."""
    if not first:
        return Path(os.environ.get(FOLDER_VARIABLE) or config.out or "runs")
    folder = Path(config.out) if resumed else new_run_folder(config.as_dict())
    os.environ[FOLDER_VARIABLE] = str(folder)
    return folder


def build_trainer(
    config: Namespace,
    folder: Path,
    callbacks: Sequence[pl.Callback],
    step: int = 0,
    placement: Tree | None = None,
) -> pl.Trainer:
    """Lightning's trainer with our callbacks, TensorBoard (its events from ``step`` on are new) and sampler.

    Raises:
        InputError: settings that Lightning refuses, such as more devices than there are.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in str(folder)):
        raise InputError(
            f"the name of the run folder {folder} is not UTF-8, which TensorBoard needs: give another --out"
        )
    logger = TensorBoardLogger(folder, name="", version="tensorboard", purge_step=step)
    try:
        return pl.Trainer(
            **config.trainer.as_dict() | dict(placement or {}),
            callbacks=list(callbacks),
            logger=logger,
            enable_checkpointing=True,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
    except (ValueError, TypeError, RuntimeError, ImportError, ArithmeticError, MisconfigurationException) as error:
        raise InputError(f"the trainer settings cannot work: {one_line(error)}") from None


def _last_checkpoint(
    folder: Path, task: TrainedTask, resumed_from: Namespace, config: Namespace
) -> tuple[Path | None, int]:
    """The state to go on from and its step; (None, 0) where the run was stopped before its first epoch ended."""
    path = folder / "checkpoints" / "last.ckpt"
    if not path.exists():
        return None, 0
    checkpoint = read_state(task, path)
    check_state(resumed_from, config, checkpoint)
    return path, checkpoint["global_step"]


def finish(run: AnyRun) -> dict[str, Value]:
    """Measure the best checkpoint and write summary.json, summary.png and the table on the terminal.

    Returns:
        The figures by protocol.
    """
    config, kind = run.config, run.kind
    assert run.folder is not None  # of a training
    assert run.checkpoint is not None
    load_weights(run.task, run.checkpoint)
    run.task.eval()
    evaluation = config.evaluation
    settings = Settings(evaluation.shifts, evaluation.max_shift, config.seed, kind.cpu_batch)
    rows = kind.measure(run.task, run.dataset, kind.at_the_end, settings)
    summary = kind.summarise(rows, run.dataset)
    note = describe_data(config)
    with_data = {"data": note, "split": evaluation.split, "seed": config.seed, "shifts_per_slice": evaluation.shifts}
    write_json(run.folder / "summary.json", {**with_data, **summary})
    kind.save_picture(run.folder / "summary.png", run, rows, settings, note)
    kind.print_tables({run.name: summary}, note, type(run.dataset))
    print(f"Picture: {run.folder / 'summary.png'}")
    print(f"Curves:  {command_line('tensorboard', '--logdir', run.folder)}")
    return summary


SAMPLE_NOTICE = """\
================================================================================
No --data given: using the BUNDLED SAMPLE ({content})
with a preset for two CPU cores. It shows that everything works; it says nothing
about {not_about}. Train on {instead} with --data DIR.
================================================================================"""
