"""A few pairs of the benchmark whose full run is in docs/exactness.md: a trained four-level network, real images."""

from __future__ import annotations

import json

import pytest

from benchmarks.exactness import BLURS, CONTROL, Float32Score, cases, check, images_of, load_network
from pipelines.commands.train import main

pytestmark = pytest.mark.training

SMALL = [
    "--network.widths=[8,8,16,16,16]",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--evaluation.shifts=1",
]


def test_twenty_pairs_at_each_blur(here):
    assert main(["--task", "mri", "--network", "unet", "--out", "run", *SMALL]) == 0
    measured = json.loads((here / "run" / "summary.json").read_text())["equivariance"]
    assert measured["nmse_eq_max"] < 1e-10
    assert measured["n_ties"] == 0  # the bundled test set has none
    checked = []
    for blur, what, limit, outcome in cases(here / "run", n_pairs=20, n_pairs64=10, seed=0):
        if what != CONTROL:
            assert outcome.n_above == 0, f"blur {blur}, {what}: {outcome}, limit {limit}"
            checked.append(blur)
    assert sorted(set(checked)) == list(BLURS)
    control = check(load_network(here / "run", 7, Float32Score), images_of(here / "run"), n_pairs=200)
    assert control.n_above > 0  # a float32 score flips phases
