"""The protocols: each against something known, and beside a network that must fail it."""

from __future__ import annotations

import copy

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from data_prep import FastMRIDataset
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.kind import RECONSTRUCTION
from pipelines.reconstruction.protocols import PROTOCOLS
from pipelines.reconstruction.subjects import Subject
from pipelines.runs.open import open_run
from recon.errors import InputError
from tests.data_prep.files import write_dataset

measure = RECONSTRUCTION.measure
FEW = Settings(shifts=4, max_shift=16, noise_levels=(0.1, 2.0))


class Same(nn.Module):
    """The network that changes nothing."""

    total_stride = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture(scope="module")
def aps(run):
    return open_run(run)


@pytest.fixture(scope="module")
def stride(train):
    return open_run(train("--sampling=stride"))


@pytest.fixture
def same(aps):
    task = copy.deepcopy(aps.task)
    task.network = Same()
    task.clamp = float("inf")
    return task


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Volumes whose images are the whole field of view."""
    return FastMRIDataset(write_dataset(tmp_path_factory.mktemp("whole"), {"val": 2}, size=(32, 32)), "val")


def errors(rows, protocol, metric="nmse_eq"):
    found = [row.value for row in rows if row.protocol == protocol and row.metric == metric and row.status != "tie"]
    assert found
    return found


CIRCULAR = {
    "equivariance": "equivariance", "all-phases": "all-phases", "noise-0.1": "noise", "noise-2": "noise",
    "flip-vertical": "flip", "flip-horizontal": "flip", "white-noise": "outside", "natural": "outside",
    "chest-ct": "outside",
}  # fmt: skip


@pytest.mark.parametrize("protocol", CIRCULAR)
def test_circular_shifts_leave_aps_exact_and_not_the_plain_network(aps, stride, protocol):
    """The claim of arXiv 2105.04040: in and out of the training's distribution, for every phase."""
    ours, control = (measure(run.task, run.dataset, [CIRCULAR[protocol]], FEW) for run in (aps, stride))
    assert max(errors(ours, protocol)) < 1e-10
    assert max(errors(control, protocol)) > 1e-7
    assert all(np.isfinite(row.value) for row in ours + control if row.value != "")


def test_a_flat_image_is_a_tie_for_every_network(aps, stride):
    for run in (aps, stride):
        rows = [row for row in measure(run.task, run.dataset, ["outside"], FEW) if row.protocol == "flat"]
        assert {row.status for row in rows} == {"tie"}
        assert len({(row.shift_y, row.shift_x) for row in rows}) == FEW.shifts


def test_every_phase_is_tried(stride):
    rows = measure(stride.task, stride.dataset, ["all-phases"], FEW)
    n = stride.task.network.total_stride
    shifts = {(row.shift_y % n, row.shift_x % n) for row in rows}
    assert len(shifts) == n * n
    by_multiples = [row for row in rows if (row.shift_y, row.shift_x) == (n, n) and row.metric == "nmse_eq"]
    assert max(row.value for row in by_multiples) < 1e-10  # what a stride does not break
    assert {row.slice for row in rows} == {1}


def test_quality_of_shifted_inputs_is_that_of_the_inputs(aps, stride):
    """Pooled over all shifts, it differs from the plain quality by what the network is not equivariant."""

    def psnr(run, protocol):
        rows = measure(run.task, run.dataset, ["plain", "equivariance"], FEW)
        return [row.value for row in rows if row.protocol == protocol and row.metric == "psnr"]

    assert psnr(aps, "shift") == pytest.approx(psnr(aps, "plain"), abs=1e-4)
    assert psnr(stride, "shift") != pytest.approx(psnr(stride, "plain"), abs=1e-4)


def test_what_changes_nothing_has_the_baseline_s_quality(same, aps):
    rows = measure(same, aps.dataset, ["plain", "flip", "equivariance"], FEW)

    def values(protocol, *metrics):
        return [row.value for row in rows if row.protocol == protocol and row.metric in metrics]

    baseline = values("zero-filled", "psnr", "nmse", "ssim")
    for protocol in ("plain", "flip-vertical", "flip-horizontal", "shift"):
        assert values(protocol, "psnr", "nmse", "ssim") == pytest.approx(baseline, rel=1e-5)
    assert max(errors(rows, "equivariance")) == 0


def test_noise_has_its_level(same, aps):
    subject = Subject(same, aps.dataset, "file0", 0)
    clean = [sample.target - sample.image * sample.std - sample.mean for sample in subject.samples]
    before = sum(float(error.square().sum()) for error in clean)
    pixels = sum(error.numel() for error in clean)
    added = sum(float(sample.std) ** 2 * sample.image.numel() for sample in subject.samples) * 2.0**2
    noisy = next(row for row in PROTOCOLS["noise"](subject, FEW) if row.protocol == "noise-2" and row.metric == "psnr")
    expected = 10 * np.log10(float(subject.samples[0].data_range) ** 2 * pixels / (before + added))
    assert noisy.value == pytest.approx(expected, abs=0.5)  # 3 x 1024 pixels


@pytest.mark.training
@pytest.mark.parametrize("name", ["aps", "stride"])
def test_an_object_moved_by_whole_pixels_shows_the_network_alone(name, whole, request):
    """The mask commutes with a phase ramp: without a crop, with constants held, nothing else is left."""
    task = request.getfixturevalue(name).task
    rows = measure(task, whole, ["physical-shift"], FEW)
    by_case = {(row.volume, row.slice, row.shift_y, row.shift_x, row.metric): row.value for row in rows}
    n_whole = 0
    for (*case, y, x, metric), value in by_case.items():
        if metric == "nmse_eq_acquisition" and float(y).is_integer() and float(x).is_integer():
            assert value == pytest.approx(by_case[(*case, y, x, "nmse_eq_network")], abs=1e-6)
            assert by_case[(*case, y, x, "nmse_eq_input")] < 1e-10
            n_whole += 1
    assert n_whole == len(whole) * FEW.shifts // 2
    network = errors(rows, "physical-shift", "nmse_eq_network")[: FEW.shifts // 2]
    assert (max(network) < 1e-10) == (name == "aps")


def test_fractions_of_a_pixel_are_exact_where_the_answer_is_known(same, tmp_path):
    """A positive band-limited object without a phase, fully sampled: its magnitude moves by the Fourier shift."""
    data = write_dataset(tmp_path / "data", {"val": 1}, size=(32, 32))
    y, x = np.mgrid[:32, :32] / 32 * 2 * np.pi
    smooth = 3 + np.cos(2 * y) + np.sin(3 * x + 1) * np.cos(y) / 2
    with h5py.File(data / "singlecoil_val" / "file0.h5", "a") as file:
        file["kspace"][0] = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(smooth), norm="ortho"))
    dataset = FastMRIDataset(data, "val", accelerations=[1], center_fractions=[0.5])
    rows = measure(same, dataset, ["physical-shift"], FEW)
    for metric in ("nmse_eq_input", "nmse_eq_acquisition", "nmse_eq"):
        cases = [row for row in rows if row.metric == metric]
        known = [row.value for row in cases if row.slice == 0]
        assert len(known) == FEW.shifts
        assert max(known) < 1e-10
        rough = [row.value for row in cases if row.slice == 1 and not float(row.shift_y).is_integer()]
        assert max(rough) > 1e-6  # the magnitude of a noisy complex image is not band-limited


def test_a_crop_and_the_constants_show_as_what_they_are(same, aps):
    """On a cropped field of view the network that changes nothing loses nothing; the input's own constants neither."""
    rows = measure(same, aps.dataset, ["physical-shift"], FEW)
    whole = [row for row in rows if float(row.shift_y).is_integer() and float(row.shift_x).is_integer()]
    assert max(errors(whole, "physical-shift", "nmse_eq_acquisition")) < 1e-10  # on what is in view, nothing is new
    assert max(errors(whole, "physical-shift")) < 1e-10
    trained = measure(aps.task, aps.dataset, ["physical-shift"], FEW)
    assert max(errors(trained, "physical-shift", "nmse_eq_acquisition")) > 1e-8  # the network sees beyond


def test_new_content_at_the_border(same, aps):
    rows = measure(same, aps.dataset, ["realistic-shift"], FEW)
    assert max(errors(rows, "realistic-shift")) == 0
    assert len({(row.shift_y, row.shift_x) for row in rows}) > 4
    trained = measure(aps.task, aps.dataset, ["realistic-shift"], FEW)
    assert max(errors(trained, "realistic-shift")) > 1e-8


def test_new_content_is_compared_in_the_file_s_units(aps, tmp_path):
    """A file of other units gives the same relative errors: R, the images and the constants scale together."""

    def scaled(factor):
        data = write_dataset(tmp_path / str(factor), {"val": 1}, size=(48, 40))
        with h5py.File(data / "singlecoil_val" / "file0.h5", "a") as file:
            for key in ("kspace", "reconstruction_esc"):
                file[key][...] = file[key][()] * factor
        return measure(aps.task, FastMRIDataset(data, "val"), ["realistic-shift", "physical-shift"], FEW)

    small, large = scaled(1), scaled(4096)  # a power of two
    for one, other in zip(small, large, strict=True):
        assert other.value == pytest.approx(one.value * (4096 if one.metric == "max_abs" else 1), rel=1e-3, abs=1e-6)
    assert min(row.value for row in small if row.metric == "psnr_eq") > 0


def test_a_blank_slice_is_a_tie_wherever_it_stands(aps, tmp_path):
    data = write_dataset(tmp_path / "data", {"val": 1}, size=(32, 32))
    with h5py.File(data / "singlecoil_val" / "file0.h5", "a") as file:
        file["kspace"][1] = 0
    protocols = [name for name in PROTOCOLS if name not in ("plain", "noise", "outside")]
    rows = measure(aps.task, FastMRIDataset(data, "val"), protocols, FEW)
    assert {row.status for row in rows if row.slice == 1} == {"tie"}
    assert "tie" not in {row.status for row in rows if row.slice == 0}


@pytest.mark.parametrize("size", [(40, 40), (48, 48), (24, 40), None])
def test_what_is_padded_is_not_in_view(same, tmp_path, size):
    data = write_dataset(tmp_path / "data", {"val": 1}, size=(48, 40))
    rows = measure(same, FastMRIDataset(data, "val", image_size=size), ["physical-shift"], FEW)
    whole = [row for row in rows if float(row.shift_y).is_integer() and float(row.shift_x).is_integer()]
    assert max(errors(whole, "physical-shift", "nmse_eq_input")) < 1e-10


def test_margins_are_those_of_the_selectors(aps, stride):
    rows = measure(aps.task, aps.dataset, ["margins"], FEW)
    assert len(rows) == len(aps.dataset) * aps.task.network.n_levels
    assert all(0 < row.value < 1 and row.status == "ok" for row in rows)
    assert measure(stride.task, stride.dataset, ["margins"], FEW) == []


def test_output_that_is_not_finite_is_refused(aps):
    task = copy.deepcopy(aps.task)
    task.network.head.bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match="file0 slice 0 is not finite"):
        measure(task, aps.dataset, ["plain"], FEW)


def test_batches_change_no_shift(aps):
    one, four = (measure(aps.task, aps.dataset, ["equivariance"], Settings(5, batch_size=n)) for n in (1, 4))
    assert [row[:6] for row in one] == [row[:6] for row in four]
    for a, b in zip(one, four, strict=True):
        if a.metric != "psnr_eq":
            assert a.value == pytest.approx(b.value, rel=1e-3, abs=1e-6)
