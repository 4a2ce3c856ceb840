"""``recon-train``: train a network, measure it, and leave a run folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import Namespace
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from pipelines.checkpoints import build_task, load_weights
from pipelines.command import Interrupted, run_command
from pipelines.config import load, parse, settings_of
from pipelines.data import Loaders, ReconstructionDataset, check_image_sizes, describe_data, open_dataset
from pipelines.picture import save_picture
from pipelines.protocols import Settings, measure
from pipelines.recorder import RunRecorder
from pipelines.run_folder import (
    check_run_folder,
    make_folder,
    new_run_folder,
    write_config,
    write_environment,
    write_json,
)
from pipelines.summary import print_tables, summarise
from pipelines.task import ReconstructionTask
from recon.errors import InputError
from recon.networks import resolve_blur

FOLDER_VARIABLE = "RECON_RUN_FOLDER"  # how the processes that Lightning starts for more devices find the run folder


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run_command(train, argv)


def train(argv: list[str], callbacks: Sequence[pl.Callback] = (), placement: Mapping[str, Any] | None = None) -> None:
    """Do all that the command does, in this process.

    Args:
        argv: the command's arguments.
        callbacks: told of the training after the recorder has saved.
        placement: arguments of Lightning's trainer in the place of the configuration's, where Ray started the process.

    Raises:
        InputError: what the user can mend.
        Interrupted: stopped by a signal, with its state saved.
    """
    config, resumed = _configuration(argv)
    if config.ray_workers is not None:
        from pipelines.ray_training import train_on_ray  # Ray takes seconds to import

        return train_on_ray(config, _folder(config, resumed, first=True))
    first = rank_zero_only.rank == 0 and os.environ.get("NODE_RANK", "0") == "0"  # type: ignore[attr-defined]
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    if config.data is None and first:
        what, real = _SAMPLES[config.task]
        print(_SAMPLE_NOTICE.format(what=what, real=real), flush=True)
    pl.seed_everything(config.seed, verbose=False)
    task = build_task(config)
    train, val, test = open_data(config, task)

    folder = _folder(config, resumed, first)
    recorder = RunRecorder(folder)
    checkpoint, step = _last_checkpoint(folder, task) if resumed else (None, 0)
    trainer = build_trainer(config, folder, [recorder, *callbacks], step, placement)
    if first:
        make_folder(folder)
        write_config(folder, settings_of(config))
        write_environment(folder, str(trainer.strategy.root_device), config.seed)
        n_parameters = sum(p.numel() for p in task.network.parameters())
        print(
            f"Run folder: {folder}\nNetwork: {n_parameters:,} parameters, sampling {config.network.sampling}",
            flush=True,
        )
    loaders = Loaders(train, val, config.dataset.batch_size, config.dataset.n_workers, config.seed)
    trainer.fit(task, loaders, ckpt_path=checkpoint, weights_only=True)
    if first:
        try:
            finish(config, task.to(trainer.strategy.root_device), test, folder)
        except KeyboardInterrupt:
            resume = f"recon-train --resume {folder}"
            raise Interrupted(f"the training is done and saved; measure it with: {resume}") from None


def _configuration(argv: list[str]) -> tuple[Namespace, bool]:
    """The resolved configuration, and whether it is a resumed run's."""
    config = parse(argv)
    resume = config.resume
    if resume is not None:
        if config.out is not None:
            raise InputError("--resume goes on in the run's own folder: leave out --out")
        path = check_run_folder(Path(resume)) / "config.yaml"
        before = load(path)
        config = parse(["--config", str(path), *(token for i, token in enumerate(argv) if not _is_resume(argv, i))])
        changed = [key for key, value in before.network.items() if config.network[key] != value]
        if changed:
            raise InputError(f"--resume cannot change network.{changed[0]}: start another run with it")
        config.out = str(resume)
    config.network.blur = resolve_blur(config.network.sampling, config.network.blur)
    if config.data is not None:
        config.data = str(Path(config.data).resolve())
    return config, resume is not None


def _is_resume(argv: list[str], i: int) -> bool:
    return argv[i].startswith("--resume=") or argv[i] == "--resume" or (i > 0 and argv[i - 1] == "--resume")


def open_data(
    config: Namespace, task: ReconstructionTask
) -> tuple[ReconstructionDataset, ReconstructionDataset, ReconstructionDataset]:
    """The sets to train on, to validate on and to measure on, once all of them and the task go together.

    Raises:
        InputError: the data cannot be read, or the network or the optimizer cannot work with them.
    """
    train = open_dataset(config, "train", training=True)
    val = open_dataset(config, "val")
    test = val if config.evaluation.split == "val" else open_dataset(config, config.evaluation.split)
    _check_data(task, train, val, test)
    check_optimizer(task)
    return train, val, test


def _check_data(task: ReconstructionTask, *datasets: ReconstructionDataset) -> None:
    for dataset in datasets:
        check_image_sizes(dataset, task.network)
    for dataset in datasets[:2]:
        for volume in dataset.volumes:
            if not volume.has_target:
                raise InputError(f"{volume.path} has no {volume.recon_key}: training and validation need targets")


def check_optimizer(task: ReconstructionTask) -> None:
    """Refuse settings that the optimizer or the scheduler refuses.

    Raises:
        InputError: says which.
    """
    try:
        task.configure_optimizers()
    except ValueError as error:
        raise InputError(f"the optimizer or scheduler settings cannot work: {error}") from None


def _folder(config: Namespace, resumed: bool, first: bool) -> Path:
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
    placement: Mapping[str, Any] | None = None,
) -> pl.Trainer:
    """Lightning's trainer with our callbacks, TensorBoard (its events from ``step`` on are new) and sampler.

    Raises:
        InputError: settings that Lightning refuses, such as more devices than there are.
    """
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
    except (ValueError, TypeError, RuntimeError, MisconfigurationException) as error:
        raise InputError(f"the trainer settings cannot work: {' '.join(str(error).split())}") from None


def _last_checkpoint(folder: Path, task: ReconstructionTask) -> tuple[Path | None, int]:
    """The state to go on from and its step; (None, 0) where the run was stopped before its first epoch ended."""
    path = folder / "checkpoints" / "last.ckpt"
    return (path, load_weights(task, path)["global_step"]) if path.exists() else (None, 0)


def finish(config: Namespace, task: ReconstructionTask, test: ReconstructionDataset, folder: Path) -> None:
    """Measure the best checkpoint and write summary.json, summary.png and the table on the terminal."""
    load_weights(task, folder / "checkpoints" / "best.ckpt")
    task.eval()
    evaluation = config.evaluation
    settings = Settings(evaluation.shifts, evaluation.max_shift, config.seed)
    summary = summarise(measure(task, test, ("plain", "equivariance", "margins"), settings))
    note = describe_data(config)
    with_data = {"data": note, "split": evaluation.split, "seed": config.seed, "shifts_per_slice": evaluation.shifts}
    write_json(folder / "summary.json", {**with_data, **summary})
    save_picture(folder / "summary.png", task, test, note, seed=config.seed, max_shift=evaluation.max_shift)
    print_tables({folder.name: summary}, note)
    print(f"Picture: {folder / 'summary.png'}")
    print(f"Curves:  tensorboard --logdir {folder}")


_SAMPLE_NOTICE = """\
================================================================================
No --data given: using the BUNDLED SAMPLE ({what})
with a preset for two CPU cores. It shows that everything works; it says nothing
about clinical quality. Train on {real} with --data DIR.
================================================================================"""
_SAMPLES = {
    "mri": ("63 real brain slices, k-space simulated from magnitude", "fastMRI"),
    "ct": ("62 real chest CT slices, sinograms simulated from HU images", "LoDoPaB-CT"),
}


if __name__ == "__main__":
    raise SystemExit(main())
