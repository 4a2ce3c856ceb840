"""Raw data as arrays: their axes, their zeros, and where k-space is strongest."""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import pytest
import scipy.io

from data_prep.raw.arrays import ORDER
from data_prep.raw.files import read_raw
from recon.errors import InputError
from tests.data_prep.raw_files import centred


@pytest.mark.parametrize("order", [*itertools.permutations(range(5))][::17])
def test_axes_in_any_order(tmp_path, order):
    values = np.stack([centred((2, 3, 8, 6)), 3 * centred((2, 3, 8, 6))])
    np.save(tmp_path / "array.npy", values.transpose(order))
    (raw,) = read_raw(tmp_path / "array.npy", axes=",".join(ORDER[axis] for axis in order))
    np.testing.assert_allclose(raw.kspace, 2 * values[0], rtol=1e-6)


def test_rows_and_columns_and_where_phase_encoding_runs(tmp_path):
    values = centred()[0, 0]
    np.save(tmp_path / "array.npy", values)
    for axes, encoding, expected in (
        (None, None, values),
        ("rows,columns", "columns", values),
        (None, "rows", values.T),
        ("columns,rows", "rows", values),
        ("phase,readout", None, values.T),
    ):
        (raw,) = read_raw(tmp_path / "array.npy", axes=axes, phase_encoding=encoding)
        np.testing.assert_array_equal(raw.kspace[0, 0], expected.astype(np.complex64))


@pytest.mark.parametrize("kind", ["5", "7.3"])
def test_matlabs_axes_are_matlabs(tmp_path, kind):
    """Whichever of its formats MATLAB wrote."""
    values, path = centred((3, 1, 24, 20))[:, 0].transpose(1, 2, 0), tmp_path / "array.mat"
    if kind == "5":
        scipy.io.savemat(path, {"ksp": values, "note": "words", "count": 3.0})
    else:  # as MATLAB lays it out: a text of 512 bytes, then HDF5 with the last axis first
        with h5py.File(path, "w", userblock_size=512) as file:
            pair = np.empty(values.T.shape, [("real", "<f8"), ("imag", "<f8")])
            pair["real"], pair["imag"] = values.T.real, values.T.imag
            file["ksp"], file["weights"] = pair, np.ones((4, 4))
        with path.open("r+b") as start:
            start.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM")
    (raw,) = read_raw(path, "ksp", axes="readout,phase,slice")
    np.testing.assert_allclose(raw.kspace[:, 0], values.transpose(2, 0, 1), rtol=1e-6)


def test_a_last_dimension_of_one_that_matlab_forgot(tmp_path):
    scipy.io.savemat(tmp_path / "array.mat", {"ksp": centred()[0, 0]})
    (raw,) = read_raw(tmp_path / "array.mat", axes="readout,phase,slice,coil")
    np.testing.assert_array_equal(raw.kspace[0, 0], centred()[0, 0].astype(np.complex64))


def test_columns_of_an_array_that_are_zero_were_not_measured(tmp_path):
    values = centred((1, 1, 24, 20))[0, 0]
    for missing, is_complete in ((slice(0, 0), True), (slice(1, None, 4), False), (slice(0, 6), False)):
        masked = values.copy()
        masked[:, missing] = 1e-15  # what arithmetic leaves of zero
        np.save(tmp_path / "array.npy", masked)
        (raw,) = read_raw(tmp_path / "array.npy")
        assert raw.is_complete == is_complete
        assert np.flatnonzero(~raw.measured).tolist() == list(range(20))[missing]
        assert not raw.kspace[..., missing].any()


def test_an_average_counts_where_it_was_measured(tmp_path):
    values = centred((1, 1, 24, 20))[0, 0]
    twice = np.stack([values, values])
    twice[1, :, ::3] = 0
    np.save(tmp_path / "array.npy", twice)
    (raw,) = read_raw(tmp_path / "array.npy", axes="average,readout,phase")
    assert raw.is_complete
    np.testing.assert_allclose(raw.kspace[0, 0], values, rtol=1e-6)


def test_slices_measured_at_different_columns_are_no_whole_measurement(tmp_path):
    values = centred((2, 1, 24, 20))[:, 0]
    values[0, :, ::2], values[1, :, 1::2] = 0, 0
    np.save(tmp_path / "array.npy", values)
    with pytest.raises(InputError, match="different columns"):
        read_raw(tmp_path / "array.npy", axes="slice,readout,phase")


def test_an_axis_too_many_for_matlab(tmp_path):
    scipy.io.savemat(tmp_path / "array.mat", {"ksp": centred()[0, 0]})
    with pytest.raises(InputError, match="leaves one line"):
        read_raw(tmp_path / "array.mat", axes="slice,rows,columns")


@pytest.mark.parametrize(("roll", "is_said"), [((0, 0), False), ((2, -1), False), ((12, 0), True), ((0, 10), True)])
def test_a_peak_far_from_the_centre_is_said_aloud(tmp_path, roll, is_said):
    np.save(tmp_path / "array.npy", np.roll(centred((1, 1, 24, 20))[0, 0], roll, (0, 1)))
    (raw,) = read_raw(tmp_path / "array.npy")
    assert raw.peak() == tuple(-side // 2 if abs(t) == side // 2 else t for t, side in zip(roll, (24, 20), strict=True))
    assert any("strongest" in said for said in raw.remarks()) == is_said
