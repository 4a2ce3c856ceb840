"""A few pairs of the benchmark whose full run is in docs/exactness.md: a trained four-level network, real images."""

from __future__ import annotations

from benchmarks.exactness import BLURS, CONTROL, cases
from pipelines.train import main

SMALL = [
    "--network.widths=[8,8,16,16,16]",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--evaluation.shifts=1",
]


def test_twenty_pairs_at_each_blur(here):
    assert main(["--task", "mri", "--out", "run", *SMALL]) == 0
    checked = []
    for blur, what, limit, outcome in cases(here / "run", n_pairs=20, n_pairs64=10, seed=0):
        if what != CONTROL:
            assert outcome.n_above == 0, f"blur {blur}, {what}: {outcome}, limit {limit}"
            checked.append(blur)
    assert sorted(set(checked)) == list(BLURS)
