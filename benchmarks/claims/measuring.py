"""What is measured of each training of the protocol: the network as it was trained, and before it was."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from benchmarks.claims.figures import Figure, found_in
from benchmarks.claims.trainings import Trained
from pipelines.measuring.settings import Settings
from pipelines.runs.checkpoints import build_task
from pipelines.runs.open import open_run
from pipelines.runtime.run_folder import write_json

KEPT = "claims.json"  # in the run folder
OF_IMAGES = ("plain", "equivariance", "any-shift", "noise", "flip", "outside", "local-change")
OF_CLASSES = ("plain", "circular-shift", "flip", "erase")
UNTRAINED = ("equivariance", "any-shift", "circular-shift")


def measure_all(runs: Sequence[Trained], shifts: int, n_processes: int) -> Iterator[Figure]:
    """Measure every run that was not measured before, several at once, each with one thread."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, context, initializer=partial(torch.set_num_threads, 1)) as pool:
        found = pool.map(_measure, [run.folder for run in runs], repeat(shifts))
        for run, states in zip(runs, tqdm(found, "measuring", len(runs), disable=None), strict=True):
            for state, summary in states.items():
                for metric, value in found_in(summary):
                    yield Figure(run.sweep, run.variant, run.unit, run.seed, state, metric, value)


def _measure(folder: Path, shifts: int) -> dict[str, dict[str, object]]:
    """The summaries of a run, trained and untrained."""
    kept = folder / KEPT
    if kept.is_file():
        return dict(json.loads(kept.read_text()))
    run = open_run(folder)
    settings = Settings(
        shifts, max_shift=run.config.evaluation.max_shift, batch_size=run.kind.cpu_batch, noise_levels=(0.5,)
    )
    names = [name for name in dict.fromkeys(OF_IMAGES + OF_CLASSES) if name in run.kind.usable_protocols(run.dataset)]
    torch.manual_seed(run.config.seed)
    fresh = build_task(run.config).eval()
    _fill_zeros(fresh)
    found = {}
    for state, task, chosen in (
        ("trained", run.task, names),
        ("untrained", fresh, [name for name in names if name in UNTRAINED]),
    ):
        found[state] = run.kind.summarise(run.kind.measure(task, run.dataset, chosen, settings), run.dataset)
    write_json(kept, found)
    return found


@torch.no_grad()
def _fill_zeros(network: nn.Module) -> None:
    """Draw weights that start as zeros: a network that gives back its input would be exact whatever it is made of."""
    for parameter in network.parameters():
        if parameter.dim() > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
