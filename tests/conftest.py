"""What every test starts from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

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


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's caches stay untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _same_start_for_every_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded, one thread, no run folder of another test."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    monkeypatch.delenv("RECON_RUN_FOLDER", raising=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes to train on and three to validate on, 3 slices of 32 x 32 each."""
    return write_dataset(tmp_path_factory.mktemp("data"), {"train": 3, "val": 3})


@pytest.fixture(scope="session")
def train(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Run recon-train in this process on the tiny data; gives the run folder."""

    from pipelines.commands.train import main  # here, so that the tests of recon start without Lightning

    def run(*extra: str, out: Path | None = None) -> Path:
        folder = out or tmp_path_factory.mktemp("run")
        assert main(["--task", "mri", "--data", str(data), "--out", str(folder), *TINY, *extra]) == 0
        return folder

    return run


@pytest.fixture(scope="session")
def run(train: Callable[..., Path]) -> Path:
    """A finished aps run, to be read only."""
    return train()
