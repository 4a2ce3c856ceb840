"""Tiny data in fastMRI's schema, and runs on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.train import main
from tests.data_prep.files import write_dataset

TINY = [
    "--network.widths=[4,6,8]",
    "--network.norm=instance",
    "--dataset.batch_size=2",
    "--dataset.n_workers=0",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.enable_progress_bar=false",
    "--optimizer.lr=0.01",
    "--threads=1",
    "--evaluation.shifts=2",
]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes to train on and three to validate on, 3 slices of 32 x 32 each."""
    return write_dataset(tmp_path_factory.mktemp("data"), {"train": 3, "val": 3})


@pytest.fixture(scope="session")
def train(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Run recon-train in this process on the tiny data; gives the run folder."""

    def run(*extra: str, out: Path | None = None) -> Path:
        folder = out or tmp_path_factory.mktemp("run")
        assert main(["--task", "mri", "--data", str(data), "--out", str(folder), *TINY, *extra]) == 0
        return folder

    return run


@pytest.fixture(scope="session")
def run(train: Callable[..., Path]) -> Path:
    """A finished aps run, to be read only."""
    return train()
