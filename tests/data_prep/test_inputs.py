"""The files that a trained network reconstructs from: each kind finds, names and opens its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep import FastMRIDataset, HUDataset, InputFiles, LoDoPaBDataset
from data_prep.fastmri.inputs import KSPACE
from data_prep.hounsfield.inputs import SERIES, VOLUMES
from data_prep.lodopab.inputs import SINOGRAMS
from recon.errors import InputError
from tests.data_prep.ct_files import write_pair
from tests.data_prep.files import write_volume
from tests.data_prep.hu_files import body, series, write_nifti, write_series

SETTINGS = {
    "image_size": None,
    "batch_size": 4,  # which no data set takes
    "challenge": "singlecoil",
    "mask_type": "random",
    "center_fractions": [0.08],
    "accelerations": [4],
    "window": "cosine",
    "frequency_scaling": 0.5,
}
OF_CT = (SINOGRAMS, VOLUMES, SERIES)
KINDS = {"kspace": KSPACE, "sinograms": SINOGRAMS, "volumes": VOLUMES, "series": SERIES}


@pytest.fixture
def folder(tmp_path) -> Path:
    """One input of each kind, beside files that are none."""
    root = tmp_path / "data"
    write_volume(root / "b.h5", n_coils=2)
    write_volume(root / "A.HDF5")
    write_pair(root)
    write_nifti(root / "knee.nii.gz", body())
    write_nifti(root / "Chest.NII", body())
    write_series(root / "series", series(body()))
    (root / ".hidden.h5").write_bytes(b"")
    (root / "notes.txt").write_text("two patients")
    return root


FOUND = {
    "kspace": ["A.HDF5", "b.h5", "ground_truth_train_000.hdf5", "observation_train_000.hdf5"],
    "sinograms": ["observation_train_000.hdf5"],
    "volumes": ["Chest.NII", "knee.nii.gz"],
    "series": [],
}


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_finds_its_own(folder, name):
    kind = KINDS[name]
    assert isinstance(kind, InputFiles)
    found = kind.find(folder)
    assert [path.name for path in found] == FOUND[name]
    if found:
        assert kind.to_open(folder, found) == found
        assert all(kind.takes(path) for path in found)
    with pytest.raises(InputError, match=r"(?i)the folder .* cannot be read"):
        kind.find(folder / "missing")


def test_slices_are_opened_as_their_folder(folder, monkeypatch):
    slices = SERIES.find(folder / "series")
    assert len(slices) == 3
    assert SERIES.to_open(folder / "series", slices) == [folder / "series"]
    monkeypatch.chdir(folder / "series")
    (here,) = SERIES.to_open(Path("."), SERIES.find(Path(".")))
    assert SERIES.name(here) == "series"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("observation_train_000.hdf5", SINOGRAMS),
        ("notes.txt", SINOGRAMS),  # whose reader says what is wrong
        ("knee.nii.gz", VOLUMES),
        ("Chest.NII", VOLUMES),
        ("series", SERIES),
    ],
)
def test_one_kind_of_ct_takes_what_is_named(folder, name, kind):
    assert [each for each in OF_CT if each.takes(folder / name)] == [kind]
    for each in OF_CT:
        each.refuse(folder / name)


def test_one_slice_alone_is_refused(folder):
    path = SERIES.find(folder / "series")[1]
    with pytest.raises(InputError, match=rf"{path.name} is one DICOM slice: give the folder of its series, .*series$"):
        SERIES.refuse(path)


def test_names_of_what_is_reconstructed(folder):
    assert KSPACE.name(folder / "A.HDF5") == "A"
    assert SINOGRAMS.name(folder / "observation_train_000.hdf5") == "observation_train_000"
    assert [VOLUMES.name(path) for path in VOLUMES.find(folder)] == ["Chest", "knee"]
    assert SERIES.name(folder / "series") == "series"


@pytest.mark.parametrize(
    ("kind", "name", "made", "size"),
    [
        (KSPACE, "A.HDF5", FastMRIDataset, (32, 32)),
        (KSPACE, "b.h5", FastMRIDataset, (32, 32)),
        (SINOGRAMS, "observation_train_000.hdf5", LoDoPaBDataset, (32, 32)),
        (VOLUMES, "knee.nii.gz", HUDataset, (32, 48)),
        (SERIES, "series", HUDataset, (32, 48)),
    ],
)
def test_each_is_opened_as_one_volume_with_the_runs_settings(folder, kind, name, made, size):
    dataset = kind.open(folder / name, SETTINGS, 16, 1000.0)
    assert type(dataset) is made
    assert [volume.name for volume in dataset.volumes] == [kind.name(folder / name).removeprefix("observation_")]
    assert dataset.shapes == [(*size, True)] * 3
    assert dataset[0].image.isfinite().all()
    assert kind.simulated == isinstance(dataset, HUDataset)
    for key in kind.settings:
        assert getattr(dataset, key) == SETTINGS[key]
    if isinstance(dataset, HUDataset):
        assert dataset.n_photons == 1000


def test_several_coils_are_seen_in_the_file(folder):
    assert [KSPACE.open(folder / name, SETTINGS, 16, 0).challenge for name in ("A.HDF5", "b.h5")] == [
        "singlecoil",
        "multicoil",
    ]


def test_what_is_no_such_file(folder):
    for kind in (KSPACE, SINOGRAMS):
        with pytest.raises(InputError, match=r"notes\.txt is not a readable HDF5 file"):
            kind.open(folder / "notes.txt", SETTINGS, 16, 0)
    with pytest.raises(InputError, match="holds no DICOM slices"):
        SERIES.open(folder, SETTINGS, 16, 1000)
