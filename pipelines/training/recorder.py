"""What a run writes while it trains: metrics.csv, checkpoints, and a way out on a signal with nothing lost."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytorch_lightning as pl
import torch
from torch import Tensor

from data_prep import replace_file
from pipelines.runtime.nested import Value
from pipelines.runtime.run_folder import write_csv
from pipelines.runtime.shell import Interrupted, command_line
from pipelines.training.base import TrainedTask

COLUMNS = ("epoch", "step", "lr", "train_loss")  # then the task's own figures, and the seconds
DECISION_STEPS = 10  # with several processes, how often they agree whether one of them was told to stop


class RunRecorder(pl.callbacks.Checkpoint):
    """Record one row per epoch, keep the last and the best state, stop in good order on SIGTERM and Ctrl-C.

    The rows are part of the checkpoint and the table is written from them, so that after any interruption no row
    is missing or doubled. ``last.ckpt`` is written after each epoch (and on a signal, in mid-epoch), ``best.ckpt``
    when the task's monitored figure rises; both to a temporary name first.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[list[float]] = []
        self.best = -math.inf
        self._loss_sum: Tensor | float = 0.0
        self._n_samples: float = 0
        self._lr = 0.0
        self._signal: int | None = None
        self._old_handlers: dict[int, Value] = {}
        self._epoch_start = time.monotonic()

    def state_dict(self) -> dict[str, Value]:
        """The rows so far, the best figure, and the running mean of the epoch's loss."""
        loss_sum = float(self._loss_sum)
        return {"rows": self.rows, "best": self.best, "loss_sum": loss_sum, "n_samples": self._n_samples}

    def load_state_dict(self, state_dict: dict[str, Value]) -> None:
        """Go on from there."""
        self.rows, self.best = state_dict["rows"], state_dict["best"]
        self._loss_sum, self._n_samples = state_dict["loss_sum"], state_dict["n_samples"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to signals, from here on instead of Lightning; bring the table to the checkpoint's state."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old_handlers[number] = signal.signal(number, self._on_signal)
        self._write_table(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the sampler its epoch."""
        trainer.train_dataloader.batch_sampler.set_position(trainer.current_epoch)  # type: ignore[union-attr]
        self._epoch_start = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Note the learning rate: after the epoch's last step it is already the next epoch's."""
        self._lr = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: object,
        batch: Sequence[Tensor],
        batch_idx: int,
    ) -> None:
        """Add up the loss; stop here if a signal came (after the epoch's last batch, on_train_epoch_end does)."""
        assert isinstance(pl_module, TrainedTask)
        n = len(batch[0])
        self._loss_sum = self._loss_sum + n * pl_module.last_loss.double()
        self._n_samples += n
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and batch_idx + 1 < trainer.num_training_batches and self._must_stop(trainer, batch_idx):
            self._stop(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and save."""
        assert isinstance(pl_module, TrainedTask)
        pl_module.check_state()
        loss_sum, n_samples = self._totals(trainer)
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        values |= {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "lr": self._lr,
            "train_loss": float(loss_sum / n_samples),
            "seconds": round(time.monotonic() - self._epoch_start, 3),
        }
        self.rows.append([values[name] for name in _columns(pl_module)])
        self._loss_sum, self._n_samples = 0.0, 0
        if trainer.logger is not None:
            trainer.logger.log_metrics({"train_loss": values["train_loss"], "lr": values["lr"]}, trainer.global_step)
        if values[pl_module.monitor] > self.best:
            self.best = values[pl_module.monitor]
            self._save(trainer, "best")
        self._save(trainer, "last")
        self._write_table(trainer, pl_module)
        if self._must_stop(trainer, 0):
            self._leave()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the table to the checkpoint's state where there was nothing left to train."""
        self._write_table(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        self._old_handlers.clear()

    def _on_signal(self, number: int, frame: object) -> None:
        if self._signal is not None:
            self._leave("stopped at once; what was saved last is safe")  # asked twice: do not wait for the batch
        self._signal = number

    def _must_stop(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        if trainer.world_size == 1:
            return self._signal is not None
        if batch_idx // trainer.accumulate_grad_batches % DECISION_STEPS:
            return False
        return trainer.strategy.reduce_boolean_decision(self._signal is not None, all=False)

    def _stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, TrainedTask)
        pl_module.check_state()
        self._loss_sum, self._n_samples = self._totals(trainer)  # what the first process saves goes for all
        self._save(trainer, "last")
        self._leave()

    def _totals(self, trainer: pl.Trainer) -> tuple[Tensor, float]:
        """The loss's sum and the number of slices, as means over the processes."""
        own = [torch.as_tensor(self._loss_sum, dtype=torch.float64), torch.tensor(float(self._n_samples)).double()]
        both = torch.stack([value.to(trainer.strategy.root_device) for value in own])
        mean = torch.as_tensor(trainer.strategy.reduce(both, reduce_op="mean"))
        return mean[0], float(mean[1])

    def _leave(self, state: str = "everything up to here is saved") -> NoReturn:
        raise Interrupted(f"{state}; go on with: {command_line('recon-train', '--resume', self.folder)}")

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        path = self.folder / "checkpoints" / f"{name}.ckpt"
        if trainer.is_global_zero:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(path) as temporary:
                trainer.save_checkpoint(temporary)
        else:
            trainer.save_checkpoint(path)  # only takes part: the first process writes
        trainer.strategy.barrier()  # nobody leaves before the file has its name

    def _write_table(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            write_csv(self.folder / "metrics.csv", _columns(pl_module), self.rows)


def _columns(task: pl.LightningModule) -> list[str]:
    assert isinstance(task, TrainedTask)
    return [*COLUMNS, *task.figures, "seconds"]
