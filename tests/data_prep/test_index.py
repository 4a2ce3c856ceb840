from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_prep import index_folder, split_folder
from data_prep.fastmri import folder as index
from data_prep.storage.hdf5 import unreadable
from data_prep.storage.index import index_file
from recon.errors import InputError
from tests.data_prep.files import header, write_dataset, write_volume


@pytest.fixture
def folder(tmp_path):
    write_dataset(tmp_path, {"train": 3})
    return tmp_path / "singlecoil_train"


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read."""
    names = []
    original = index.read_volume

    def read_volume(path, challenge):
        names.append(path.name)
        return original(path, challenge)

    monkeypatch.setattr(index, "read_volume", read_volume)
    return names


@pytest.mark.parametrize(
    ("options", "challenge", "expected"),
    [
        ({}, "singlecoil", (1, (48, 40), (32, 32), "reconstruction_esc", True, False)),
        ({"n_coils": 3}, "multicoil", (3, (48, 40), (32, 32), "reconstruction_rss", True, False)),
        (
            {"target": False, "mask": np.arange(40) % 4 == 0},
            "singlecoil",
            (1, (48, 40), (32, 32), "reconstruction_esc", False, True),
        ),
        ({"size": (48, 21)}, "singlecoil", (1, (48, 21), (21, 21), "reconstruction_esc", True, False)),
        (
            {"size": (48, 21), "target": False},
            "singlecoil",
            (1, (48, 21), (21, 21), "reconstruction_esc", False, False),
        ),
        (
            {"size": (33, 47), "image_size": (31, 45)},
            "singlecoil",
            (1, (33, 47), (31, 45), "reconstruction_esc", True, False),
        ),
    ],
)
def test_describes_each_kind_of_file(tmp_path, options, challenge, expected):
    path = write_volume(tmp_path / "folder" / "file1000001.h5", n_slices=2, acquisition="AXT2", **options)
    (volume,) = index_folder(tmp_path / "folder", challenge, progress=False)
    n_coils, kspace_size, image_size, recon_key, has_target, has_mask = expected
    assert (volume.name, volume.path, volume.n_slices, volume.acquisition) == ("file1000001", path, 2, "AXT2")
    assert (volume.n_coils, volume.kspace_size, volume.image_size) == (n_coils, kspace_size, image_size)
    assert (volume.recon_key, volume.has_target, volume.has_mask) == (recon_key, has_target, has_mask)
    if has_target:
        with h5py.File(path) as file:
            target = file[recon_key][()]
        top, left = (target.shape[1] - image_size[0]) // 2, (target.shape[2] - image_size[1]) // 2
        assert volume.maximum == target[:, top : top + image_size[0], left : left + image_size[1]].max()
    else:
        assert volume.maximum is None
    assert index_folder(tmp_path / "folder", challenge, progress=False) == [volume], (
        "equal when it comes from the cache"
    )


def test_unknown_acquisition(folder):
    with h5py.File(folder / "file1.h5", "a") as file:
        del file.attrs["acquisition"]
    assert [v.acquisition for v in index_folder(folder, "singlecoil", False)] == ["CORPD_FBK", "unknown", "CORPD_FBK"]


def test_only_new_and_changed_files_are_read_again(folder, reads):
    first = index_folder(folder, "singlecoil", progress=False)
    assert reads == ["file0.h5", "file1.h5", "file2.h5"]
    reads.clear()
    assert index_folder(folder, "singlecoil", progress=False) == first
    assert reads == []

    write_volume(folder / "file1.h5", n_slices=5, seed=9)
    write_volume(folder / "file0a.h5", seed=10)
    (folder / "file2.h5").unlink()
    changed = index_folder(folder, "singlecoil", progress=False)
    assert reads == ["file0a.h5", "file1.h5"]
    assert [(v.name, v.n_slices) for v in changed] == [("file0", 3), ("file0a", 3), ("file1", 5)]
    assert changed[0] == first[0]
    assert sorted(json.loads(index_file(folder, "singlecoil").read_text())["files"]) == [
        "file0.h5",
        "file0a.h5",
        "file1.h5",
    ]

    reads.clear()
    status = (folder / "file0.h5").stat()
    os.utime(folder / "file0.h5", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert index_folder(folder, "singlecoil", progress=False) == changed
    assert reads == ["file0.h5"]


def test_files_read_before_a_bad_one_are_remembered(folder, reads):
    good = (folder / "file2.h5").read_bytes()
    (folder / "file2.h5").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"file2\.h5"):
        index_folder(folder, "singlecoil", progress=False)
    (folder / "file2.h5").write_bytes(good)
    reads.clear()
    assert len(index_folder(folder, "singlecoil", progress=False)) == 3
    assert reads == ["file2.h5"]


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "null", '{"version": 1}', '{"version": 1, "files": 3}', '{"version": 0, "files": {}}', "\udcff"],
)
def test_a_damaged_cache_is_built_anew(folder, damage, reads):
    volumes = index_folder(folder, "singlecoil", progress=False)
    index_file(folder, "singlecoil").write_bytes(damage.encode(errors="surrogateescape"))
    reads.clear()
    assert index_folder(folder, "singlecoil", progress=False) == volumes
    assert len(reads) == 3


def test_a_damaged_entry_is_built_anew(folder, reads):
    volumes = index_folder(folder, "singlecoil", progress=False)
    store = index_file(folder, "singlecoil")
    content = json.loads(store.read_text())
    content["files"]["file0.h5"] = 5
    del content["files"]["file1.h5"]["volume"]["n_slices"]
    content["files"]["file2.h5"]["volume"]["surplus"] = 1
    store.write_text(json.dumps(content))
    reads.clear()
    assert index_folder(folder, "singlecoil", progress=False) == volumes
    assert len(reads) == 3


def test_a_cache_that_cannot_be_written_does_not_matter(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECON_CACHE", str(tmp_path / "file" / "cache"))
    assert len(index_folder(folder, "singlecoil", progress=False)) == 3


def test_the_cache_holds_one_file_and_no_leftovers(folder, cache):
    index_folder(folder, "singlecoil", progress=False)
    assert [path for path in cache.rglob("*") if path.is_file()] == [index_file(folder, "singlecoil")]


def test_hidden_files_are_left_alone(folder):
    (folder / "._file0.h5").write_bytes(b"a Mac was here")
    assert len(index_folder(folder, "singlecoil", progress=False)) == 3


def _rewrite(path: Path, key: str, value: object) -> None:
    with h5py.File(path, "a") as file:
        del file[key]
        if value is not None:
            file[key] = value


def _edit(key, value):
    return lambda path: _rewrite(path, key, value)


def _one_nan(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["reconstruction_esc"][1, 16, 16] = np.nan


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


BAD_FILES = [
    pytest.param(_truncate, "truncated", id="truncated"),
    pytest.param(lambda path: path.write_bytes(b""), "not a readable HDF5 file", id="empty"),
    pytest.param(lambda path: path.write_text("text " * 1000), "not a readable HDF5 file", id="text"),
    pytest.param(_edit("kspace", None), "no dataset 'kspace'", id="no kspace"),
    pytest.param(_edit("ismrmrd_header", None), "no dataset 'ismrmrd_header'", id="no header"),
    pytest.param(_edit("ismrmrd_header", b"<html/>"), "not a usable ISMRMRD header", id="html header"),
    pytest.param(_edit("ismrmrd_header", np.zeros(3)), "not a usable ISMRMRD header", id="array header"),
    pytest.param(_edit("kspace", np.zeros((3, 48, 40))), "'kspace' is float64", id="real kspace"),
    pytest.param(_edit("kspace", np.zeros((3, 2, 48, 40), "c8")), "looks like multicoil data", id="multicoil"),
    pytest.param(_edit("kspace", np.zeros((48, 40), "c8")), "'kspace' has 2 axes", id="2-D kspace"),
    pytest.param(_edit("kspace", np.zeros((0, 48, 40), "c8")), "is empty", id="no slices"),
    pytest.param(
        _edit("kspace", np.zeros((3, 20, 40), "c8")), "does not fit into 'kspace' of 20 x 40", id="small kspace"
    ),
    pytest.param(_edit("reconstruction_esc", np.zeros((2, 32, 32), "f4")), "expected floats of shape", id="slices"),
    pytest.param(_edit("reconstruction_esc", np.zeros((3, 32), "f4")), "expected floats of shape", id="2-D target"),
    pytest.param(_edit("reconstruction_esc", np.zeros((3, 32, 32), "i4")), "expected floats of shape", id="int target"),
    pytest.param(_edit("reconstruction_esc", np.zeros((3, 32, 32), "f4")), "largest value of the target", id="blank"),
    pytest.param(_one_nan, "largest value of the target is nan", id="one nan"),
    pytest.param(_edit("reconstruction_esc", np.full((3, 32, 32), np.nan)), "largest value of the target", id="nan"),
]


@pytest.mark.parametrize(("damage", "message"), BAD_FILES)
def test_a_bad_file_is_named(folder, damage, message):
    damage(folder / "file1.h5")
    with pytest.raises(InputError) as caught:
        index_folder(folder, "singlecoil", progress=False)
    text = str(caught.value)
    assert str(folder / "file1.h5") in text
    assert message in text
    assert text.endswith(".")
    assert "\n" not in text


def test_wrong_mask_is_named(tmp_path):
    write_volume(tmp_path / "f" / "file.h5", target=False, mask=np.ones(40, bool))
    _rewrite(tmp_path / "f" / "file.h5", "mask", np.ones(39, bool))
    with pytest.raises(InputError, match=r"file\.h5: 'mask' has shape \(39,\)"):
        index_folder(tmp_path / "f", "singlecoil", progress=False)


def test_singlecoil_file_in_a_multicoil_folder(folder):
    with pytest.raises(InputError, match="looks like singlecoil data, set challenge to singlecoil"):
        index_folder(folder, "multicoil", progress=False)


def test_bad_bytes_never_give_anything_but_an_input_error(folder):
    """Cut and overwrite one file at random places: it reads as before, or is refused in a sentence."""
    path = folder / "file1.h5"
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    n_refused = 0
    for trial in range(60):
        damaged = bytearray(whole)
        if trial % 2:
            del damaged[int(random.integers(len(whole))) :]
        else:
            start = int(random.integers(4000))
            damaged[start : start + 64] = random.bytes(64)
        path.write_bytes(damaged)
        message = ""
        try:
            index_folder(folder, "singlecoil", progress=False)
        except InputError as error:
            message = str(error)
            n_refused += 1
        assert not message or "file1.h5" in message
    assert n_refused >= 30


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match=r"There is no folder .*nowhere"):
        index_folder(tmp_path / "nowhere", "singlecoil")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no data")
    with pytest.raises(InputError, match=r"empty holds no fastMRI files"):
        index_folder(tmp_path / "empty", "singlecoil")
    with pytest.raises(InputError, match=r"unknown challenge 'multicoils' \(did you mean 'multicoil'\?\)"):
        index_folder(tmp_path, "multicoils")


def test_split_folder(tmp_path):
    write_dataset(tmp_path / "knee", {"train": 1, "val": 1})
    assert split_folder(tmp_path / "knee", "singlecoil", "val") == tmp_path / "knee" / "singlecoil_val"
    with pytest.raises(InputError, match=r"no folder singlecoil_test .*found singlecoil_train, singlecoil_val"):
        split_folder(tmp_path / "knee", "singlecoil", "test")
    with pytest.raises(InputError, match=r"found singlecoil_train, singlecoil_val\).* another challenge"):
        split_folder(tmp_path / "knee", "multicoil", "train")
    with pytest.raises(InputError, match="found no folders"):
        split_folder(tmp_path / "knee" / "singlecoil_train", "singlecoil", "train")
    with pytest.raises(InputError, match=r"nowhere cannot be read .*the folder that holds singlecoil_train"):
        split_folder(tmp_path / "nowhere", "singlecoil", "train")


def test_header_helper_is_used_for_size_without_target(tmp_path):
    path = write_volume(tmp_path / "f" / "file.h5", target=False)
    _rewrite(path, "ismrmrd_header", header((48, 40), (24, 28)))
    assert index_folder(tmp_path / "f", "singlecoil", progress=False)[0].image_size == (24, 28)


def _fields(path: Path, encoded: tuple[float, float] | None, recon: tuple[float, float]) -> None:
    """Write other fields of view (x, y) in mm into a header; None leaves the encoded one out."""
    with h5py.File(path) as file:
        text = file["ismrmrd_header"][()].decode()
    for space, extent in (("encodedSpace", encoded), ("reconSpace", recon)):
        old = re.search(rf"<{space}>.*?(<fieldOfView_mm>.*?</fieldOfView_mm>)", text)[1]
        axes = "" if extent is None else "<x>{}</x><y>{}</y><z>5</z>".format(*extent)
        text = text.replace(old, f"<fieldOfView_mm>{axes}</fieldOfView_mm>", 1)
    _rewrite(path, "ismrmrd_header", text.encode())


@pytest.mark.parametrize(
    ("size", "image_size", "encoded", "recon", "expected"),
    [
        ((48, 21), (32, 32), (96, 42), (64, 64), (21, 21)),  # FLAIR-203: the same pixels, fewer columns
        ((48, 21), (32, 32), (96, 64), (64, 64), (32, 21)),  # all columns show what the image shows
        ((48, 48), (96, 96), (240, 240), (240, 240), (48, 48)),
        ((96, 96), (64, 64), (200, 200), (100, 100), (48, 48)),
        ((48, 40), (32, 32), None, (64, 64), (32, 32)),
        ((48, 21), (32, 32), None, (64, 64), (32, 21)),
    ],
)
def test_without_a_target_the_view_is_the_headers(tmp_path, size, image_size, encoded, recon, expected):
    path = write_volume(tmp_path / "f" / "file.h5", size=size, image_size=image_size, target=False)
    _fields(path, encoded, recon)
    assert index_folder(tmp_path / "f", "singlecoil", progress=False)[0].image_size == expected


def test_a_target_of_other_pixels_is_refused_also_where_it_fits(folder):
    _fields(folder / "file1.h5", (96, 80), (96, 80))
    with pytest.raises(InputError, match=r"file1\.h5: the target's pixels are 3 x 2.5 mm, those of k-space 2 x 2 mm"):
        index_folder(folder, "singlecoil", progress=False)


def test_a_file_without_permission():
    error = PermissionError(errno.EACCES, "Unable to open file")
    assert "file.h5 cannot be read (Permission denied): ask its owner" in str(unreadable(Path("file.h5"), error))


def test_a_folder_with_the_longest_name_is_remembered(tmp_path, cache):
    folder = tmp_path / ("n" * 255)
    folder.mkdir()
    write_volume(folder / "file0.h5")
    index_folder(folder, "singlecoil", progress=False)
    assert len(list((cache / "index").glob("*.json"))) == 1
