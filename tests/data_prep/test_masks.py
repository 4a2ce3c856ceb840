from __future__ import annotations

import subprocess
import sys

import h5py
import pytest
import torch

from data_prep import MASK_TYPES, FastMRIDataset, check_mask, make_mask, stable_seed
from recon.errors import InputError
from tests.data_prep.files import write_volume


@pytest.mark.parametrize("mask_type", MASK_TYPES)
@pytest.mark.parametrize("n_columns", [320, 368, 203])
def test_equal_to_fastmri(mask_type, n_columns):
    from fastmri.data import subsample, transforms

    names = {"equispaced": "EquiSpacedMaskFunc", "equispaced_fraction": "EquispacedMaskFractionFunc"}
    name = names.get(mask_type, "".join(part.title() for part in mask_type.split("_")) + "MaskFunc")
    name = name.replace("MagicFractionMaskFunc", "MagicMaskFractionFunc")
    function = getattr(subsample, name)([0.08, 0.04], [4, 8])
    kspace = torch.ones(2, n_columns, 2)
    for file in ("file1000001.h5", "file1000007.h5", "x.h5"):
        seed = tuple(map(ord, file))
        masked, mask, _ = transforms.apply_mask(kspace, function, seed=seed)
        ours = make_mask(mask_type, n_columns, (0.08, 0.04), (4, 8), seed)
        assert ours.dtype == torch.bool
        assert ours.shape == (n_columns,)
        assert torch.equal(ours, mask.reshape(-1).bool())
        assert torch.equal(ours, masked[0, :, 0] != 0)


@pytest.mark.parametrize("mask_type", MASK_TYPES)
def test_function_of_the_seed(mask_type):
    masks = [make_mask(mask_type, 128, (0.08,), (4,), stable_seed("mask", i % 4)) for i in range(8)]
    assert all(torch.equal(masks[i], masks[i + 4]) for i in range(4))
    assert len({tuple(mask.tolist()) for mask in masks}) > 1


def test_mask_does_not_depend_on_the_global_random_state():
    torch.manual_seed(0)
    first = make_mask("random", 128, (0.08,), (4,), (1,))
    torch.rand(3)
    assert torch.equal(first, make_mask("random", 128, (0.08,), (4,), (1,)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("randm", (0.08,), (4,)), r"unknown mask_type 'randm' \(did you mean 'random'\?\)"),
        (("random", (0.08, 0.04), (4,)), "center_fractions has 2 and accelerations 1"),
        (("random", (), ()), "center_fractions has 0"),
        (("random", (1.5,), (4,)), "center_fractions holds 1.5"),
        (("random", (0.08,), (0,)), "accelerations holds 0"),
        (("random", (0.08,), (2.5,)), "accelerations holds 2.5"),
        (("random", (0.3,), (4,)), "more than 1/4 of the columns"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(InputError, match=message):
        check_mask(*arguments)


@pytest.mark.parametrize("mask_type", ["equispaced_fraction", "magic_fraction"])
def test_no_columns_left(mask_type):
    with pytest.raises(InputError, match="no columns left to place on 40 columns"):
        make_mask(mask_type, 40, (0.25,), (4,), (1,))


def test_stable_seed_is_equal_in_other_processes_and_tells_parts_apart():
    code = "from data_prep.slices.seeds import stable_seed; print(stable_seed('mask', 0, 12, 'file.h5', 3))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other.strip() == str(stable_seed("mask", 0, 12, "file.h5", 3))
    parts = [(1, 23), (12, 3), ("1", "23"), ("1;23",), (123,), ("mask", 1, 23), ("shift", 1, 23)]
    seeds = [stable_seed(*part) for part in parts]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= number < 2**32 for seed in seeds for number in seed)


@pytest.mark.parametrize("mask_type", MASK_TYPES)
def test_no_mask_is_empty(mask_type):
    """16-fold on 56 columns with a centre of none: 8 of 300 of fastMRI's random masks measure nothing."""
    for number in range(300):
        assert make_mask(mask_type, 56, (0.001,), (16,), stable_seed("mask", number)).any()


def test_an_empty_mask_is_the_only_one_that_is_not_fastmris():
    from fastmri.data.subsample import RandomMaskFunc

    function, n_empty = RandomMaskFunc([0.001], [16]), 0
    for number in range(300):
        seed = stable_seed("mask", number)
        theirs = function((1, 56, 1), seed=seed)[0].reshape(-1).bool()
        n_empty += not theirs.any()
        assert torch.equal(make_mask("random", 56, (0.001,), (16,), seed), theirs) == bool(theirs.any())
    assert n_empty


def test_a_mask_that_is_always_empty_is_refused():
    with pytest.raises(InputError, match="measures none of 40 columns: raise the former or lower the latter"):
        make_mask("random", 40, (1e-9,), (10**8,), (1,))


def test_files_without_a_mask_that_seem_undersampled_are_told_of(tmp_path):
    for name in ("a", "b", "c"):
        write_volume(tmp_path / f"{name}.h5")
    for name in ("b", "c"):
        with h5py.File(tmp_path / f"{name}.h5", "a") as file:
            file["kspace"][..., 5:30:2] = 0
    (note,) = FastMRIDataset(tmp_path, None, progress=False).notes()
    assert note.startswith(f"{tmp_path / 'b.h5'} and 1 more without a mask, but with columns of zeros between others")


def test_a_mask_that_cannot_be_made_is_refused_early(tmp_path):
    write_volume(tmp_path / "wide.h5")
    write_volume(tmp_path / "narrow.h5", size=(48, 8), image_size=(8, 8))
    options = {"mask_type": "equispaced_fraction", "center_fractions": [0.2], "accelerations": [4]}
    dataset = FastMRIDataset(tmp_path, None, progress=False, **options)
    with pytest.raises(InputError, match=r"narrow\.h5 cannot have the run's mask"):
        dataset.check()
