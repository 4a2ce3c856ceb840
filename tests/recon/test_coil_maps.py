"""ESPIRiT: against the true maps and another library's, and moving along with object and coils."""

from __future__ import annotations

from importlib.resources import as_file

import h5py
import pytest
import torch

from data_prep import coil_maps, simulate_kspace
from data_prep.storage.packaged import packaged_file
from recon.errors import InputError
from recon.physics import mri
from recon.physics.coil_maps import espirit

ROWS, COLUMNS = 32, 48
MASK = torch.arange(COLUMNS) % 4 == 0
MASK[18:30] = True  # calibration lines


def measured(n_coils=3, batch=2, dtype=torch.complex128):
    """k-space of objects with noise, seen by smooth coils."""
    generator = torch.Generator().manual_seed(0)
    objects = torch.zeros(batch, 1, ROWS, COLUMNS, dtype=torch.complex128)
    objects[..., 6:24, 8:40] = torch.randn(batch, 1, 18, 32, dtype=torch.complex128, generator=generator)
    noise = torch.randn(batch, n_coils, ROWS, COLUMNS, dtype=torch.complex128, generator=generator)
    return (mri.fft2c(objects * coil_maps(n_coils, ROWS, COLUMNS)) + 0.01 * noise).to(dtype)


def similarity(a, b):
    """|sum_c conj(a_c) b_c| of each pixel: 1 where the maps are equal up to a phase."""
    return (a.conj() * b).sum(-3).abs()


@pytest.fixture(scope="module")
def brain():
    """A slice of the bundled 4-coil sample: k-space, mask, and where the object is."""
    with as_file(packaged_file("data_prep/samples/mri_brain.h5")) as path, h5py.File(path) as file:
        kspace = torch.from_numpy(simulate_kspace(file["brain2"][5:6], 256, 192, n_coils=4, seed="brain2"))
    mask = torch.arange(256) % 4 == 0
    mask[118:138] = True
    magnitude = mri.rss(mri.ifft2c(kspace[0]), 0)
    return kspace, mask, magnitude > 0.1 * magnitude.max()


def test_the_true_maps_inside_the_object(brain):
    kspace, mask, inside = brain
    found, truth = espirit(kspace, mask)[0], coil_maps(4, 256, 256)
    likeness = similarity(found, truth)[inside]
    assert likeness.mean() > 0.9999
    assert likeness.min() > 0.99
    assert similarity(found, truth.roll(1, 0))[inside].mean() < 0.9, "control: other coils"


def test_sigpys_maps_inside_the_object(brain):
    app = pytest.importorskip("sigpy.mri.app", reason="sigpy is in the extra test")
    kspace, mask, inside = brain
    theirs = app.EspiritCalib((kspace[0] * mask).numpy(), calib_width=20, crop=0, show_pbar=False).run()
    likeness = similarity(espirit(kspace, mask)[0], torch.from_numpy(theirs))[inside]
    assert likeness.mean() > 0.9998
    assert likeness.quantile(0.01) > 0.999


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (5, -7), (-16, 23)])
def test_maps_move_along_with_object_and_coils(shift):
    kspace = measured()
    before, after = (espirit(k, MASK) for k in (kspace, mri.move_object(kspace, shift)))
    moved = before.roll(shift, (-2, -1))
    assert (after - moved).norm() < 1e-10 * moved.norm()
    assert (after - before).norm() > 0.1 * moved.norm(), "control: they are not the same everywhere"
    fixed = espirit(mri.move_object(kspace[:1], shift, coil_maps(3, ROWS, COLUMNS)), MASK)
    assert (fixed - moved[:1]).norm() > 1e-2 * moved[:1].norm(), "control: coils that stay"
    single = measured(dtype=torch.complex64)
    before, after = (espirit(k, MASK) for k in (single, mri.move_object(single, shift)))
    assert (after - before.roll(shift, (-2, -1))).norm() < 1e-5 * moved.norm()


def test_two_moves_by_halves_are_one_by_a_whole():
    """Between pixels the maps are those of the moved coils, too: what a half does, another undoes or completes."""
    kspace = measured()
    half = espirit(mri.move_object(kspace, (0.5, 0.5)), MASK)
    assert (espirit(mri.move_object(kspace, (1.5, -0.5)), MASK) - half.roll((1, -1), (-2, -1))).norm() < 1e-10


def test_unit_maps_whose_first_virtual_coil_is_real():
    kspace = measured()
    maps = espirit(kspace, MASK)
    assert maps.dtype == kspace.dtype
    assert torch.equal(maps, espirit(kspace, MASK)), "deterministic"
    torch.testing.assert_close(mri.rss(maps, 1), torch.ones(2, ROWS, COLUMNS, dtype=torch.float64))
    lines = mri.apply_mask(kspace[0], mri.calibration_mask(MASK))[:, 4:28].flatten(1)
    first = torch.linalg.svd(lines @ lines.mH)[0][:, 0]
    first = first / first[first.abs().argmax()]
    virtual = (first[:, None, None].conj() * maps[0]).sum(0)
    assert virtual.imag.abs().max() < 1e-8
    assert virtual.real.min() > -1e-8


def test_a_batch_is_each_sample_alone_and_has_no_gradient():
    kspace = measured().requires_grad_()
    masks = torch.stack([MASK, (torch.arange(COLUMNS) - COLUMNS // 2).abs() < 3])
    both = espirit(kspace, masks)
    assert not both.requires_grad
    for number in range(2):
        alone = espirit(kspace[number : number + 1], masks[number])
        torch.testing.assert_close(both[number], alone[0], rtol=1e-12, atol=1e-12)


def test_what_lies_outside_the_calibration_lines_does_not_count():
    kspace, lines = measured(), mri.calibration_mask(MASK)
    torch.testing.assert_close(espirit(kspace, MASK), espirit(mri.apply_mask(kspace, lines), lines))


@pytest.mark.parametrize("n_lines", [1, 2, 4])
def test_few_lines_and_small_matrices_still_give_unit_maps(n_lines):
    mask = torch.zeros(COLUMNS, dtype=torch.bool)
    mask[COLUMNS // 2 - n_lines // 2 :][:n_lines] = True
    for kspace in (measured(), measured()[:, :, 14:17]):
        torch.testing.assert_close(mri.rss(espirit(kspace, mask), 1).mean(), torch.ones((), dtype=torch.float64))


def test_a_blank_slice_has_no_maps():
    assert not espirit(torch.zeros(1, 2, 16, 16, dtype=torch.complex64), torch.ones(16, dtype=torch.bool)).any()


def test_no_calibration_lines():
    with pytest.raises(InputError, match="no calibration lines"):
        espirit(measured(), torch.arange(COLUMNS) < 20)
