"""Derived files: whole or not there."""

import gc

import numpy as np
import pytest

from data_prep import write_hdf5


def fail_to_write(path):
    """What the process keeps of a failed write is a cycle: the error, its traceback, its frames."""
    with pytest.raises(OSError, match="No such file") as failed:
        write_hdf5(path, {"image": np.zeros(5000)})
    error = failed.value
    error.itself = error


def test_a_failed_write_survives_garbage_collection(tmp_path):
    """A view of a BytesIO in such a cycle makes Python 3.12.1 end by a segmentation fault."""
    for _ in range(3):
        fail_to_write(tmp_path / "missing" / "image.h5")
        gc.collect()
    assert list(tmp_path.iterdir()) == []
