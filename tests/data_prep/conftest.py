from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("RECON_CACHE", str(folder))
    return folder
