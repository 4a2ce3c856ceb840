"""What a resumed run may change.

Settings that take effect anew in each process (loaders, the trainer, the evaluation, the loss) and those of the
optimizer and the schedule (see ``TrainedTask.on_load_checkpoint``) may differ from the run's.
"""

from __future__ import annotations

from collections.abc import Iterator

from jsonargparse import Namespace

from pipelines.runtime.nested import Tree
from pipelines.training.loaders import check_place
from recon.errors import InputError

# What the weights, the best checkpoint and the rows of the table so far hang on
FIXED = ("task", "seed", "init", "network.", "dataset.", "optimizer.amsgrad", "trainer.limit_val_batches")
ALWAYS = ("dataset.batch_size", "dataset.n_workers")
# What an epoch's batches and its mean loss hang on
FIXED_IN_EPOCH = (
    "clamp",
    "loss.",
    "dataset.batch_size",
    "trainer.accumulate_grad_batches",
    "trainer.limit_train_batches",
)


def check_changes(before: Namespace, now: Namespace) -> None:
    """Refuse settings that a run cannot go on with.

    Args:
        before: what the run's config.yaml says.
        now: what is asked for.

    Raises:
        InputError: names the key.
    """
    for key in _changed(before, now, FIXED):
        if key not in ALWAYS:
            raise InputError(f"--resume cannot change {key}: start another run with it")


def check_state(before: Namespace, now: Namespace, checkpoint: Tree, n_processes: int | None = None) -> None:
    """Refuse settings that do not go with the state a run is in.

    Args:
        before: what the run's config.yaml says.
        now: what is asked for.
        checkpoint: the last one.
        n_processes: that will go on, where it is known already.

    Raises:
        InputError: fewer epochs than are done; or the run stopped in the middle of an epoch, and the key says how an
            epoch is cut into batches or what its mean loss is.
    """
    done, batch = checkpoint["Loaders"]["epoch"], checkpoint["Loaders"]["batch"]
    wanted = now.trainer.max_epochs
    if wanted is not None and 0 <= wanted < done:
        raise InputError(f"trainer.max_epochs is {wanted}, but the run has done {done} epochs: give {done} or more")
    if n_processes is not None:
        check_place(checkpoint["Loaders"], {"n_processes": n_processes})
    for key in _changed(before, now, FIXED_IN_EPOCH) if batch else ():
        raise InputError(
            f"--resume cannot change {key} in the middle of epoch {done}, where the run stopped: go on with "
            f"{before[key]} to the end of the epoch, or start another run"
        )


def _changed(before: Namespace, now: Namespace, keys: tuple[str, ...]) -> Iterator[str]:
    for key, value in before.items():
        if any(key == each or (each.endswith(".") and key.startswith(each)) for each in keys) and now[key] != value:
            yield key
