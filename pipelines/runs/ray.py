"""``recon-train --ray-workers N``: one training, shared by N processes on a Ray cluster, that outlives lost workers."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from jsonargparse import Namespace

from pipelines.runs.checkpoints import build_task, read_checkpoint
from pipelines.runs.checks import open_data
from pipelines.runs.config import settings_of
from pipelines.runs.resume import check_state
from pipelines.runs.start import load_start
from pipelines.runs.train import run_folder, train
from pipelines.runtime.cluster import (
    check_address,
    check_installed,
    check_storage,
    check_temporary_folder,
    here,
    ray_cluster,
)
from pipelines.runtime.nested import Value
from pipelines.runtime.run_folder import make_folder, write_config
from pipelines.runtime.shell import Interrupted, command_line
from pipelines.runtime.stored import read_json, read_text
from pipelines.tasks import TASKS
from recon.errors import InputError

RETRIES = 3  # times that lost workers are replaced
REFUSED = "refused.txt"


def train_on_ray(config: Namespace, resumed_from: Namespace | None) -> None:
    """Train in N processes that Ray places, each in the state of its run folder's last checkpoint.

    The run folder must be on a disk that all nodes share. It is the state: when a worker or its node is lost, Ray
    starts all of them again, and they resume from last.ckpt as ``recon-train --resume`` does.

    Args:
        config: of the training, with ``ray_workers``.
        resumed_from: the configuration so far of a run that is resumed.

    Raises:
        InputError: what the user can mend; more workers than the cluster has room for.
        Interrupted: Ctrl-C; the last epoch is saved.
    """
    folder = run_folder(config, resumed_from is not None)
    if resumed_from is not None and (last := folder / "checkpoints" / "last.ckpt").exists():
        check_state(resumed_from, config, read_checkpoint(last), config.ray_workers)
    check_installed("--ray-workers")
    open_data(config)
    if config.init is not None and resumed_from is None:
        load_start(build_task(config), config)  # refused before there are workers, which load it themselves
    if config.ray_address is None:
        _check_room(config, [here()])
        check_temporary_folder()
    else:
        check_address(config.ray_address)
    try:
        with ray_cluster(config.ray_address) as ray:
            resources = _check_room(config, [node["Resources"] for node in ray.nodes() if node["Alive"]])
            make_folder(folder)
            if config.ray_address is not None:
                check_storage(ray, folder.resolve())
            write_config(folder, settings_of(config))
            print(f"Run folder: {folder}\nCurves:  {command_line('tensorboard', '--logdir', folder)}", flush=True)
            _fit(config, folder.resolve(), resources)
    except KeyboardInterrupt:
        resume = command_line("recon-train", "--resume", folder)
        raise Interrupted(f"the last whole epoch is saved; go on with: {resume}") from None
    _report(config, folder)


def _check_room(config: Namespace, nodes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What each worker takes; refuse more of them than there is room for, instead of waiting for it.

    Raises:
        InputError: names what was asked for and how much there is room for.
    """
    accelerator = config.trainer.accelerator
    gpus = any(node.get("GPU", 0) for node in nodes) if accelerator == "auto" else accelerator in ("gpu", "cuda")
    resources: dict[str, float] = {
        "CPU": (config.threads or 1) + config.dataset.n_workers,
        **({"GPU": 1} if gpus else {}),
    }
    room = sum(min(int(node.get(name, 0) // amount) for name, amount in resources.items()) for node in nodes)
    if config.ray_workers > room:
        each = f"{resources['CPU']} CPUs{' and a GPU' if gpus else ''}"
        raise InputError(
            f"--ray-workers is {config.ray_workers}, of {each} each, but there is room for {room}: give less"
        )
    return resources


def _fit(config: Namespace, folder: Path, resources: dict[str, float]) -> None:
    from ray import train as ray_train
    from ray.train.torch import TorchTrainer

    state = folder / "ray"
    shutil.rmtree(state, ignore_errors=True)
    trainer = TorchTrainer(
        _train_as_worker,
        train_loop_config={"folder": str(folder)},
        scaling_config=ray_train.ScalingConfig(
            num_workers=config.ray_workers, use_gpu="GPU" in resources, resources_per_worker=resources
        ),
        run_config=ray_train.RunConfig(
            name=state.name,
            storage_path=str(folder),
            failure_config=ray_train.FailureConfig(max_failures=RETRIES),
        ),
    )
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        trainer.fit()
    except ray_train.TrainingFailedError as error:
        raise InputError(
            f"workers were lost more than {RETRIES} times ({_first_line(error)}); the last whole epoch is saved, go on "
            f"with: {command_line('recon-train', '--resume', folder)}"
        ) from None
    refused = state / REFUSED
    if refused.exists():
        raise InputError(read_text(refused))
    shutil.rmtree(state, ignore_errors=True)


def _train_as_worker(settings: dict[str, Value]) -> None:
    """What each process does: resume the run folder's training, as one of many."""
    from pytorch_lightning.utilities.rank_zero import rank_zero_only
    from ray import train as ray_train
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    rank_zero_only.rank = ray_train.get_context().get_world_rank()  # type: ignore[attr-defined]
    folder = Path(settings["folder"])
    placement = {
        "strategy": RayDDPStrategy(),
        "plugins": [RayLightningEnvironment()],
        "devices": 1,
        "num_nodes": 1,
        "enable_progress_bar": False,
    }
    try:
        train(["--resume", str(folder)], placement=placement)
    except InputError as error:  # it would happen again: not Ray's to mend
        (folder / "ray" / REFUSED).write_text(str(error), encoding="utf-8", errors="surrogateescape")
    except SystemExit:  # another worker said why
        pass


def _report(config: Namespace, folder: Path) -> None:
    summary = read_json(folder / "summary.json", dict[str, Value])
    row, parts = TASKS[config.task], {name: part for name, part in summary.items() if isinstance(part, dict)}
    row.kind.print_tables({folder.name: parts}, str(summary["data"]), row.dataset)
    print(f"Picture: {folder / 'summary.png'}")


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
