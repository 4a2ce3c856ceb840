"""What each variant costs beside stride: time of a training step and of inference in turns, and memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import default_collate

from benchmarks.claims.figures import Figure
from benchmarks.claims.trainings import Trained
from benchmarks.harness import Case, Outcome, Run, compare
from pipelines.runs.open import open_run

BASE = "stride"
CPU = torch.device("cpu")


def costs(runs: Sequence[Trained], repeats: int) -> Iterator[Figure]:
    """Ratios to stride, of one run of each variant; nothing for sweeps without stride.

    Args:
        runs: of one sweep.
        repeats: timed turns.
    """
    one = {run.variant: run for run in reversed(runs)}
    if BASE not in one:
        return
    ordered = [one.pop(BASE), *(run for name, run in sorted(one.items()) if "shifted in training" not in name)]
    for metric, prepare in (("training", training_step), ("inference", inference)):
        cases = [Case(run.variant, partial(prepare, run.folder)) for run in ordered]
        outcomes = compare(cases, repeats, CPU)
        for run, outcome in zip(ordered, outcomes, strict=True):
            for name, value in _figures(metric, outcome, outcomes[0]):
                yield Figure(run.sweep, run.variant, "this machine", 0, "trained", name, value)


def _figures(metric: str, outcome: Outcome, base: Outcome) -> Iterator[tuple[str, float]]:
    yield f"{metric}_time_ratio", outcome.ratio
    if outcome.peak is not None and base.peak:
        yield f"{metric}_memory_ratio", outcome.peak / base.peak


def training_step(folder: Path) -> Run:
    """Steps of training on the first batch of the run's data."""
    run = open_run(folder)
    task = run.task.train()
    (optimizer,) = [task.make_optimizer(task.network.parameters())[0]]
    batch = default_collate([run.dataset[number] for number in range(min(2, len(run.dataset)))])

    def step() -> list[list[Tensor]]:
        optimizer.zero_grad()
        loss = task.batch_loss(batch)
        loss.backward()
        optimizer.step()
        return [[loss.detach()]]

    return step


def inference(folder: Path) -> Run:
    """Reconstruct or classify the first sample of the run's data."""
    run = open_run(folder)
    batch = default_collate([run.dataset[0]])

    @torch.inference_mode()
    def infer() -> list[list[Tensor]]:
        return [[run.task(batch)]]

    return infer
