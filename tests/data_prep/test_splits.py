"""Splits by subject and by lists: no subject is in two of them, whatever folders its files lie in."""

from __future__ import annotations

import shutil

import h5py
import numpy as np
import pytest

from data_prep import FastMRIDataset, find_volumes
from recon.errors import InputError
from tests.data_prep.files import write_volume

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five people with three files each, in two folders that part them."""
    root = tmp_path_factory.mktemp("data")
    for number in range(15):
        split = "train" if number % 2 else "test"
        path = write_volume(
            root / f"singlecoil_{split}" / f"file{number:02}.h5", n_slices=1, size=(16, 16), seed=number
        )
        with h5py.File(path, "r+") as file:
            file.attrs["patient_id"] = f"person{number % 5}"
    return root


def names(dataset):
    return [volume.name for volume in dataset.volumes]


def subjects(dataset):
    return {volume.subject for volume in dataset.volumes}


@pytest.mark.parametrize("folds", [3, 4, 5])
def test_each_subject_is_tested_once_and_never_trained_on_then(folder, folds):
    tested = []
    for fold in range(folds):
        parts = {split: FastMRIDataset(folder, split, folds=folds, fold=fold) for split in SPLITS}
        assert sorted(name for part in parts.values() for name in names(part)) == [f"file{n:02}" for n in range(15)]
        assert sum(len(subjects(part)) for part in parts.values()) == 5, "no subject in two splits"
        assert all(parts.values())
        tested += [*subjects(parts["test"])]
        following = FastMRIDataset(folder, "test", folds=folds, fold=(fold + 1) % folds)
        assert names(parts["val"]) == names(following)
    assert sorted(tested) == [f"person{n}" for n in range(5)]
    apart = [subjects(FastMRIDataset(folder, split)) for split in ("train", "test")]
    assert apart[0] & apart[1], "the control: folders do part a subject's files"


def test_the_folds_do_not_depend_on_the_folders(folder, tmp_path):
    (tmp_path / "singlecoil_train").mkdir()
    for path in folder.rglob("*.h5"):
        shutil.copy(path, tmp_path / "singlecoil_train")
    for split in SPLITS:
        ours, theirs = (FastMRIDataset(root, split, folds=4, fold=1) for root in (folder, tmp_path))
        assert names(ours) == names(theirs)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.image, b.image)


def test_a_list_says_which_files(folder, tmp_path, capsys):
    path = tmp_path / "split.yaml"
    path.write_text("train: [file01, file02.h5]\ntest:\n- file04\n")
    assert names(FastMRIDataset(folder, "train", split_by=str(path))) == ["file01", "file02"]
    assert names(FastMRIDataset(folder, "test", split_by=str(path))) == ["file04"]
    assert "too good" not in capsys.readouterr().err
    path.write_text("train: [file01]\ntest: [file06]\n")  # of one person
    FastMRIDataset(folder, "test", split_by=str(path))
    assert "puts files of the subject person1 into train and test" in capsys.readouterr().err


def test_a_file_without_a_subject_is_its_own(folder, tmp_path):
    path = write_volume(tmp_path / "file.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["patient_id"]
    assert [volume.subject for volume in find_volumes(path, "singlecoil", None)] == ["file"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"folds": 6}, "5 subjects (attribute patient_id), too few for 6 folds"),
        ({"folds": 2}, "give 3 folds or more"),
        ({"folds": 3, "fold": 3}, "a fold from 0"),
        ({"fold": 2}, "give dataset.folds"),
        ({"folds": 3, "split_by": "{list}"}, "leave one of them out"),
        ({"split_by": "nowhere.yaml"}, "nowhere.yaml"),
        ({"split_by": "{list}"}, "lists no files under val"),
        ({"split_by": "{list}", "challenge": "multicoil"}, "no folder multicoil_train"),
    ],
)
def test_settings_that_are_refused(folder, tmp_path, settings, message):
    (tmp_path / "list.yaml").write_text("train: [file01]")
    settings = {k: v.format(list=tmp_path / "list.yaml") if isinstance(v, str) else v for k, v in settings.items()}
    with pytest.raises(InputError) as refused:
        FastMRIDataset(folder, "val", **settings)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: [file1]", "names file1 (did you mean file"),
        ("train: [file01, file01]", "names file01 twice"),
        ("train: [file01]\ntest: [file01.h5]", "names file01 twice"),
        ("train: [file01]\ntrain: [file02]", "the key train stands twice"),
        ("trian: [file01]", "is no list of files"),
        ("train: file01", "is no list of files"),
        ("- file01", "is no list of files"),
        ("", "is no list of files"),
        ("train: [", "not valid YAML"),
    ],
)
def test_lists_that_are_refused(folder, tmp_path, content, message):
    path = tmp_path / "list.yaml"
    path.write_text(content)
    with pytest.raises(InputError) as refused:
        FastMRIDataset(folder, "train", split_by=str(path))
    assert message in str(refused.value)
    assert str(path) in str(refused.value)


def test_one_name_in_two_folders(tmp_path):
    for split in SPLITS[:2]:
        write_volume(tmp_path / f"singlecoil_{split}" / "file.h5")
    with pytest.raises(InputError, match="have one name"):
        FastMRIDataset(tmp_path, "train", folds=3)


def test_two_subjects_are_told_of_a_list(tmp_path):
    for name in ("anna", "bert"):
        write_volume(tmp_path / "singlecoil_train" / f"{name}.h5")
    with pytest.raises(InputError, match="give a list"):
        FastMRIDataset(tmp_path, "train", folds=3)
