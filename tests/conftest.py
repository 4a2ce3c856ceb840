"""What every test starts from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_start_for_every_test(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Seeded, one thread, no run folder of another test, caches and homes of the user's untouched."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    monkeypatch.delenv("RECON_RUN_FOLDER", raising=False)
    monkeypatch.setenv("RECON_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
