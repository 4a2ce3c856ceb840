"""Raw data of ISMRMRD: each sample of measured k-space comes out at its place."""

from __future__ import annotations

from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from ismrmrd.xsd import accelerationFactorType, calibrationModeType, limitType, parallelImagingType

from data_prep import parse_header
from data_prep.raw.files import read_raw
from data_prep.raw.volume import write_raw
from tests.data_prep.raw_files import AXES, Scan, fft2, known_object, other_line

SHAPE = (2, 1, 24, 20)  # slices, coils, rows, columns


def bring(path: Path, scan: Scan) -> Path:
    """Write a scan, read it, and write it as a fastMRI file; gives that one's path."""
    (raw,) = read_raw(scan.write(path / "scan.h5"))
    challenge = "multicoil" if raw.kspace.shape[1] > 1 else "singlecoil"
    write_raw(path / "fastmri.h5", raw, challenge, "unknown", "anna")
    return path / "fastmri.h5"


def read(path: Path) -> dict[str, np.ndarray]:
    """All of a file, k-space as (slices, coils, rows, columns)."""
    with h5py.File(path) as file:
        content = {key: file[key][()] for key in file} | dict(file.attrs)
    if content["kspace"].ndim == 3:
        content["kspace"] = content["kspace"][:, None]
    return content


def assert_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """To 1e-6 of the largest value."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def rss(images: np.ndarray) -> np.ndarray:
    return np.sqrt((np.abs(images) ** 2).sum(1))


def whole(objects):
    return Scan([fft2(objects)]), objects, None


def oversampled(objects):
    """The readout sees twice as far, and what lies outside the image is not zero."""
    around = known_object((*objects.shape[:2], 2 * objects.shape[2], objects.shape[3]), seed=1)
    around[:, :, objects.shape[2] // 2 : -objects.shape[2] // 2] = objects
    return Scan([fft2(around)], oversampling=2), objects, None


def only(objects, kept, rows=slice(None)):
    """The object that is left where but some of k-space was measured."""
    kspace = np.zeros_like(objects)
    kspace[:, :, rows, kept] = fft2(objects)[:, :, rows, kept]
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, AXES), norm="ortho"), AXES)


def partial_fourier(objects):
    kept = list(range(6, objects.shape[-1]))
    return Scan([fft2(objects)], columns=kept), only(objects, kept), kept


def zero_filled(objects):
    """A smaller matrix, as far on either side of the centre: nothing is missing."""
    kept = list(range(3, objects.shape[-1] - 3))
    return Scan([fft2(objects)], columns=kept), only(objects, kept), None


def asymmetric_echo(objects):
    return Scan([fft2(objects)], first_sample=7), only(objects, slice(None), slice(7, None)), None


def two_averages(objects):
    other = known_object(objects.shape, seed=2)
    return Scan([fft2(objects), fft2(other)]), (objects + other) / 2, None


def accelerated(objects):
    kept = sorted({*range(1, objects.shape[-1], 3), 9, 10, 11})
    return Scan([fft2(objects)], columns=kept), only(objects, kept), kept


def noise_scan(objects):
    n_coils, flags = objects.shape[1], (ismrmrd.ACQ_IS_NOISE_MEASUREMENT, ismrmrd.ACQ_IS_NAVIGATION_DATA)
    return Scan([fft2(objects)], before=[other_line(n_coils, flag) for flag in flags]), objects, None


def discarded_samples(objects):
    """Two samples at the start and three at the end are no signal."""
    kspace = fft2(objects)
    kspace[:, :, :2], kspace[:, :, -3:] = 1e3, 1e3
    kept = slice(2, -3)
    return Scan([kspace], line={"discard_pre": 2, "discard_post": 3}), only(objects, slice(None), kept), None


CASES = [
    whole, oversampled, partial_fourier, zero_filled, asymmetric_echo, two_averages, accelerated, noise_scan,
    discarded_samples,
]  # fmt: skip


class TestISMRMRD:
    @pytest.mark.parametrize("n_coils", [1, 4])
    @pytest.mark.parametrize("case", CASES)
    def test_kspace_and_image_are_the_objects(self, tmp_path, case, n_coils):
        scan, expected, kept = case(known_object((2, n_coils, *SHAPE[2:])))
        path = bring(tmp_path, scan)
        found = read(path)
        assert_equal(found["kspace"], fft2(expected))
        key = "reconstruction_rss" if n_coils > 1 else "reconstruction_esc"
        if kept is None:
            assert "mask" not in found
            assert_equal(found[key], rss(expected))
            assert found["max"] == found[key].max()
        else:
            assert key not in found
            assert np.flatnonzero(found["mask"]).tolist() == kept
        with pytest.raises(AssertionError):  # the control: one column aside
            assert_equal(found["kspace"], fft2(expected * np.exp(2j * np.pi * np.arange(20) / 20)))

    @pytest.mark.parametrize("shape", [(1, 1, 23, 21), (1, 1, 24, 21), (1, 2, 25, 20)])
    def test_sides_that_are_odd(self, tmp_path, shape):
        objects = known_object(shape)
        assert_equal(read(bring(tmp_path, Scan([fft2(objects)])))["kspace"], fft2(objects))

    def test_the_readouts_middle_stays_the_middle_of_an_odd_image(self, tmp_path):
        around = np.zeros((1, 1, 26, 20), complex)
        around[0, 0, 13, 10] = 1  # a point at the centre has a flat spectrum
        found = read(bring(tmp_path, Scan([fft2(around)], oversampling=2)))
        assert found["reconstruction_esc"].shape == (1, 13, 20)
        assert_equal(found["reconstruction_esc"][0, 6, 10], np.float32(1))

    def test_a_centre_that_the_header_puts_elsewhere_moves_kspace(self, tmp_path):
        """The header's centre counts, not the number of lines."""
        objects, kept = known_object(SHAPE), list(range(5, 20))
        scan = Scan([fft2(objects)], columns=kept)
        limit = limitType(minimum=0, maximum=14, center=6)  # it is 5
        scan.header = {"encodingLimits.kspace_encoding_step_1": limit}
        found = read(bring(tmp_path, scan))
        assert np.flatnonzero(found["mask"]).tolist() == [column - 1 for column in kept]

    @pytest.mark.parametrize(("mode", "n_columns"), [("EMBEDDED", 10), ("SEPARATE", 8)])
    def test_calibration_lines_count_where_they_are_embedded(self, tmp_path, capsys, mode, n_columns):
        kept = sorted({*range(1, 20, 3), 9, 11, 12})
        calibration = (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,)
        parallel = parallelImagingType(
            accelerationFactor=accelerationFactorType(kspace_encoding_step_1=3, kspace_encoding_step_2=1),
            calibrationMode=calibrationModeType[mode],
        )
        flags = dict.fromkeys((9, 11), calibration)
        flags[10] = (*calibration, ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
        scan = Scan([fft2(known_object(SHAPE))], kept, flags=flags, header={"parallelImaging": parallel})
        found = read(bring(tmp_path, scan))
        assert found["mask"].sum() == n_columns
        assert found["num_low_frequency"] == (5 if mode == "EMBEDDED" else 1)
        (raw,) = read_raw(tmp_path / "scan.h5")
        assert any("4 calibration lines" in said for said in raw.remarks()) == (mode == "SEPARATE")

    def test_contrasts_and_repetitions_are_volumes_of_their_own(self, tmp_path):
        objects = [known_object(SHAPE, seed) for seed in range(3)]
        others = [
            line
            for n, key in ((1, "contrast"), (2, "repetition"))
            for line in Scan([fft2(objects[n])], line={key: n}).lines()
        ]
        volumes = read_raw(Scan([fft2(objects[0])], before=others).write(tmp_path / "scan.h5"))
        parts = ["contrast0-repetition0", "contrast0-repetition2", "contrast1-repetition0"]
        assert [raw.part for raw in volumes] == parts
        for raw, n in zip(volumes, (0, 2, 1), strict=True):
            assert_equal(raw.kspace, fft2(objects[n]))

    def test_sizes_are_kept_and_nothing_personal(self, tmp_path):
        scan = Scan([fft2(known_object((1, 1, 48, 20)))], oversampling=2)
        path = bring(tmp_path, scan)
        header = parse_header(read(path)["ismrmrd_header"], path)
        assert header.encoded_size == header.recon_size == (24, 20, 1)
        assert header.voxel_size_mm == pytest.approx((2, 1.5, 5))
        assert b"2341000" in read(path)["ismrmrd_header"]
        assert read(path)["patient_id"] == "anna"
        for secret in (b"Doe", b"4711", b"secret"):
            assert secret in (tmp_path / "scan.h5").read_bytes()
            assert secret not in path.read_bytes()

    def test_an_echo_without_a_centre_is_whole(self, tmp_path):
        objects = known_object(SHAPE)
        scan = Scan([fft2(objects)], line={"center_sample": 0})
        assert_equal(read(bring(tmp_path, scan))["kspace"], fft2(objects))
