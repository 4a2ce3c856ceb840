from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_prep import fbp_images, find_ct_volumes
from data_prep.lodopab import fbp_cache
from recon.errors import InputError
from recon.physics.ct import fbp
from tests.data_prep.ct_files import SIDE, tree, write_ct, write_data, write_pair

FILTER = ("hann", 0.641)


@pytest.fixture
def root(tmp_path):
    return write_ct(tmp_path / "data", {"train": 3})


@pytest.fixture
def volumes(root):
    return find_ct_volumes(root, "train", progress=False)


@pytest.fixture
def computed(monkeypatch):
    """The shape of each batch that is back-projected."""
    shapes = []

    def counting(sinogram, *settings):
        shapes.append(tuple(sinogram.shape))
        return fbp(sinogram, *settings)

    monkeypatch.setattr(fbp_cache, "fbp", counting)
    return shapes


def make(volumes, *settings):
    return fbp_images(volumes, *(settings or FILTER), progress=False)


def files(cache: Path) -> dict[str, bytes]:
    return {name: content for name, content in tree(cache / "fbp").items() if not name.endswith(".lock")}


def test_holds_the_reconstructions_and_what_they_were_made_from(volumes, cache):
    paths = make(volumes)
    assert [path.name for path in paths] == [f"fbp_observation_train_00{i}.hdf5" for i in range(3)]
    assert {path.parents[1] for path in paths} == {cache / "fbp"}
    for volume, path in zip(volumes, paths, strict=True):
        with h5py.File(volume.path) as file:
            expected = fbp(torch.from_numpy(file["data"][()]), volume.geometry, "hann", 0.641)
        with h5py.File(path) as file:
            assert file["data"].dtype == np.float32
            assert file["data"].chunks is None, "a slice lies in one piece"
            assert np.array_equal(file["data"][()], expected.numpy())
            found = dict(file.attrs)
        status = volume.path.stat()
        assert (found.pop("source_size"), found.pop("source_mtime_ns")) == (status.st_size, status.st_mtime_ns)
        assert len(found.pop("code")) == 12
        assert found == {
            "geometry": str(volume.geometry),
            "window": "hann",
            "frequency_scaling": 0.641,
            "source": volume.path.name,
        }
        assert "rows=32" in str(volume.geometry)


def test_computed_once_in_batches(volumes, computed, monkeypatch, cache):
    monkeypatch.setattr(fbp_cache, "BATCH", 2)
    make(volumes)
    assert computed == [(2, 60, 47), (1, 60, 47)] * 3
    first = files(cache)
    computed.clear()
    paths = make(volumes)
    assert computed == []
    monkeypatch.setattr(fbp_cache, "BATCH", 32)
    for path in paths[1:]:
        path.unlink()
    make(volumes)
    assert computed == [(3, 60, 47)] * 2, "only what is missing"
    assert files(cache) == first


@pytest.mark.parametrize("settings", [("ram-lak", 0.641), ("hann", 1.0), ("hann", 1)])
def test_another_filter_has_files_of_its_own(volumes, computed, settings):
    one, computed[:] = make(volumes), []
    other = make(volumes, *settings)
    assert len(computed) == 3
    assert not {*one} & {*other}
    computed.clear()
    assert make(volumes) == one
    assert computed == [], "and both stay"


def test_a_changed_source_is_noticed(root, volumes, computed):
    before = [path.read_bytes() for path in make(volumes)]
    computed.clear()
    write_pair(root, "train_001", seed=9)
    status = volumes[2].path.stat()
    os.utime(volumes[2].path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    again = make(find_ct_volumes(root, "train", progress=False))
    assert len(computed) == 2
    assert [path.read_bytes() == old for path, old in zip(again, before, strict=True)] == [True, False, False]
    write_pair(root, "train_000", side=40, n_slices=2)
    (one,) = make(find_ct_volumes(root / "observation_train_000.hdf5", None))
    with h5py.File(one) as file:
        assert file["data"].shape == (2, 40, 40)


def test_changed_code_is_noticed(volumes, computed, monkeypatch):
    before = make(volumes)
    computed.clear()
    monkeypatch.setattr(fbp_cache, "packaged_hash", lambda names: "another code")
    assert make(volumes) == before
    assert len(computed) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("geometry", "another"),
        ("window", "ram-lak"),
        ("frequency_scaling", 1.0),
        ("source_size", 1),
        ("source_mtime_ns", 1),
        ("source", "another"),
        ("code", np.ones(3)),
        ("surplus", 1),
    ],
)
def test_a_file_that_was_made_from_something_else_is_computed_anew(volumes, computed, cache, key, value):
    paths, expected = make(volumes), files(cache)
    computed.clear()
    with h5py.File(paths[1], "a") as file:
        file.attrs[key] = value
    make(volumes)
    assert len(computed) == 1
    assert files(cache) == expected


def _other_shape(path):
    with h5py.File(path, "a") as file:
        del file["data"]
        file["data"] = np.zeros((2, SIDE, SIDE), np.float32)


def _no_data(path):
    with h5py.File(path, "a") as file:
        del file["data"]


def _group(path):
    with h5py.File(path, "a") as file:
        del file["data"]
        file.create_group("data")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("text"),
        lambda path: path.write_bytes(path.read_bytes()[:-1000]),
        _other_shape,
        _no_data,
        _group,
    ],
)
def test_a_damaged_file_is_computed_anew(volumes, computed, cache, damage):
    paths, expected = make(volumes), files(cache)
    computed.clear()
    damage(paths[1])
    make(volumes)
    assert len(computed) == 1
    assert files(cache) == expected


def test_bytes_depend_neither_on_time_nor_on_threads_nor_on_batches(volumes, cache, monkeypatch):
    paths, expected = make(volumes), files(cache)
    for path in paths:
        path.unlink()
    time.sleep(1.1)  # HDF5's clock counts seconds
    monkeypatch.setattr(fbp_cache, "BATCH", 1)
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        make(volumes)
    finally:
        torch.set_num_threads(n_threads)
    assert files(cache) == expected


def _killed(volumes, after: int) -> None:
    """Compute, and die while file number `after` is being written."""
    torch.set_num_threads(1)  # OpenMP's threads do not survive the fork
    write_bytes, n_written = Path.write_bytes, 0

    def dying(path, content):
        nonlocal n_written
        if n_written == after:
            write_bytes(path, bytes(content[: len(content) // 2]))
            os.kill(os.getpid(), signal.SIGKILL)
        n_written += 1
        return write_bytes(path, content)

    Path.write_bytes = dying
    make(volumes)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_killed_and_resumed_it_ends_with_the_same_bytes(volumes, cache, computed, after):
    paths, expected = make(volumes), files(cache)
    for path in paths:
        path.unlink()
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(volumes, after))
    process.start()
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL
    left = files(cache)
    assert len(left) == after + 1, "whole files, and the part that was being written"
    computed.clear()
    make(volumes)
    assert len(computed) == 3 - after
    assert files(cache) == expected, "nothing is left over"


def _race(volumes, results) -> None:
    torch.set_num_threads(1)
    n_computed = 0

    def counting(*arguments):
        nonlocal n_computed
        n_computed += 1
        return fbp(*arguments)

    fbp_cache.fbp = counting
    make(volumes)
    results.put(n_computed)


def test_of_several_processes_one_computes(volumes, cache):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    processes = [context.Process(target=_race, args=(volumes, results)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(results.get() for _ in processes) == [0, 0, 3]
    assert len(files(cache)) == 3


def test_full_disk_is_said_in_one_sentence_and_leaves_nothing(volumes, cache, monkeypatch):
    write_bytes = Path.write_bytes

    def full(path, content):
        write_bytes(path, bytes(content[:1000]))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        InputError, match=r"\(0\.0 GB\) cannot be written to .*fbp \(No space left on device\)"
    ) as caught:
        make(volumes)
    assert "RECON_CACHE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert files(cache) == {}


def test_a_cache_in_the_way_is_named(volumes, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("RECON_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written to .*file/fbp \(Not a directory\)"):
        make(volumes)


def test_no_locks_no_matter(volumes, cache, monkeypatch):
    import fcntl

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    make(volumes)
    assert len(files(cache)) == 3


def test_observations_that_are_not_finite_are_named(root, computed, cache):
    with h5py.File(root / "observation_train_001.hdf5", "a") as file:
        file["data"][2, 5, 5] = np.inf
    volumes = find_ct_volumes(root, "train", progress=False)
    with pytest.raises(InputError, match=r"observation_train_001\.hdf5 holds nan or inf"):
        make(volumes)
    assert len(files(cache)) == 1, "what was done before is kept"


def test_sources_that_break_are_named(volumes):
    volumes[1].path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"observation_train_001\.hdf5 is not a readable HDF5 file"):
        make(volumes)
    volumes[1].path.unlink()
    with pytest.raises(InputError, match=r"observation_train_001\.hdf5 cannot be read \(No such file"):
        make(volumes)


@pytest.mark.parametrize("settings", [("han", 0.641), ("hann", 0.0), ("hann", 1.5)])
def test_bad_filters(volumes, settings):
    with pytest.raises(InputError, match=r"window 'han'|frequency_scaling"):
        make(volumes, *settings)


def test_files_of_equal_name_but_other_suffix_do_not_share(tmp_path, computed):
    paths = [write_pair(tmp_path, "a_0"), tmp_path / "observation_a_0.h5"]
    with h5py.File(paths[0]) as file:
        write_data(paths[1], file["data"][()])
    made = [make(find_ct_volumes(path, None))[0] for path in paths]
    assert made[0] != made[1]
