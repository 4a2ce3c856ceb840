"""TensorBoard's table of hyperparameters: the settings of a run beside the figures it ended with."""

from __future__ import annotations

from collections.abc import Mapping

from jsonargparse import Namespace
from pytorch_lightning.loggers import TensorBoardLogger

from pipelines.runs.config import settings_of
from pipelines.runtime.nested import Tree, flat

_LEFT_OUT = {"trainer", "evaluation", "data", "threads"}  # where and how, not what was trained
_KEPT = ("trainer.max_epochs", "trainer.precision")


def log_hyperparameters(logger: TensorBoardLogger, config: Namespace, summary: Tree) -> None:
    """Add one row to the table.

    Args:
        logger: of the run.
        config: its configuration.
        summary: what was measured at the end, as in summary.json.
    """
    values = flat(settings_of(config))
    chosen = {key: value for key, value in values.items() if key in _KEPT or key.split(".")[0] not in _LEFT_OUT}
    logger.log_hyperparams(chosen, final_figures(summary))
    logger.finalize("finished")


def final_figures(summary: Tree) -> dict[str, float]:
    """The numbers of a summary as ``protocol/figure``: means over volumes and errors of shifts, without counts."""
    figures: dict[str, float] = {}
    for protocol, part in summary.items():
        for name, value in part.items() if isinstance(part, Mapping) else ():
            number = value.get("mean") if isinstance(value, Mapping) else value
            if isinstance(number, int | float) and not name.startswith("n_"):
                figures[f"{protocol}/{name}"] = float(number)
    return figures
