"""The benchmark of the data path: it refuses bad flags, and it fails where the inputs are not fastmri's."""

from __future__ import annotations

import pytest

from benchmarks import loading, scale

SMALL = ["--volumes=1", "--slices=1", "--repeats=1", "--workers"]


def test_loading(capsys, monkeypatch):
    assert loading.main(SMALL) == 0
    assert "from the file, training" in capsys.readouterr().out
    plain = loading.FastMRIDataset.__getitem__
    monkeypatch.setattr(loading.FastMRIDataset, "__getitem__", lambda data, key: _brighter(plain(data, key)))
    assert loading.main(SMALL) == 1
    assert "differ" in capsys.readouterr().err


def _brighter(sample):
    return sample._replace(image=sample.image + 1e-4)


@pytest.mark.parametrize(
    ("main", "flag"), [(loading.main, "--slices=0"), (scale.main, "--repeats=0"), (scale.main, "--sizes=100")]
)
def test_bad_flags(main, flag):
    assert main([flag]) == 2
