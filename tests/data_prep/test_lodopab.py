from __future__ import annotations

import itertools
import json
import multiprocessing
import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data_prep import LoDoPaBDataset, Sample, ShapeBatchSampler, find_ct_volumes, geometry_of, read_ct_volume
from data_prep.lodopab import folder as ct_folder
from data_prep.storage.index import index_file
from recon.errors import InputError
from recon.physics.ct import LODOPAB
from tests.data_prep.ct_files import N_ANGLES, N_DETECTORS, SIDE, gaussians, write_ct, write_data, write_pair


def dataset(root, split="train", **options):
    return LoDoPaBDataset(root, split, progress=False, **{"image_size": None, **options})


def equal(a: Sample, b: Sample) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.fixture
def root(tmp_path):
    return write_ct(tmp_path / "data", {"train": 3})


def test_the_counts_alone_make_lodopabs_geometry():
    assert geometry_of(362, 1000, 513) == LODOPAB
    small = geometry_of(SIDE, N_ANGLES, N_DETECTORS)
    assert (small.extent, small.detector_extent) == (LODOPAB.extent, LODOPAB.detector_extent)
    assert (small.rows, small.columns, small.n_angles, small.n_detectors) == (SIDE, SIDE, N_ANGLES, N_DETECTORS)


def test_input_is_the_reconstruction_of_what_was_measured_and_target_the_ground_truth(root):
    data = dataset(root, window="ram-lak", frequency_scaling=1)
    assert len(data) == 9
    assert [volume.name for volume in data.volumes] == ["train_000", "train_001", "train_002"]
    for index, (v, s) in enumerate(data.slices):
        sample, expected = data[index], torch.from_numpy(gaussians(3, seed=v)[0][s])
        assert torch.equal(sample.target[0], expected)
        image = sample.image[0] * sample.std
        assert error(image, expected) < 0.05, "the same values, in the same unit, the same way round"
        assert error(image.mT, expected) > 0.3, "control"
        assert (sample.mean, sample.std) == (0, 1 / 16)
        assert sample.data_range == expected.max() - expected.min()
        assert (sample.volume, sample.slice) == (v, s)
        assert [part.dtype for part in sample[:7]] == [torch.float32] * 5 + [torch.int64] * 2
        assert [part.shape for part in sample[:7]] == [(1, SIDE, SIDE)] * 2 + [()] * 5
    assert data.shapes == [(SIDE, SIDE, True)] * 9
    assert torch.equal(data.volume_target(1), torch.cat([data[index].target for index in (3, 4, 5)]))


def test_the_faces_that_the_pipelines_read(root):
    volume = dataset(root).volumes[1]
    assert (volume.path, volume.target_path) == tuple(
        root / f"{kind}_train_001.hdf5" for kind in ("observation", "ground_truth")
    )
    assert (volume.n_slices, volume.image_size, volume.has_target) == (3, (SIDE, SIDE), True)
    assert (volume.acquisition, volume.n_photons) == ("LoDoPaB", 4096)
    assert volume.recon_key == "ground_truth_train_001.hdf5"


def test_the_default_is_lodopabs_baseline_padded_to_384(root):
    sample = LoDoPaBDataset(root, "train", progress=False)[4]
    expected = dataset(root, window="hann", frequency_scaling=0.641, image_size=[384, 384])[4]
    assert equal(sample, expected)
    assert not torch.equal(dataset(root, window="cosine")[4].image, dataset(root)[4].image)


@pytest.mark.parametrize("image_size", [(24, 20), (48, 64), (16, 64), (33, 31)])
def test_image_size_crops_or_pads_image_and_target_alike(root, image_size):
    plain, sized = dataset(root), dataset(root, image_size=image_size)
    rows, columns = min(SIDE, image_size[0]), min(SIDE, image_size[1])
    assert sized.shapes == [(*image_size, True)] * 9

    def middle(x):
        top, left = (x.shape[-2] - rows) // 2, (x.shape[-1] - columns) // 2
        return x[..., top : top + rows, left : left + columns]

    a, b = plain[4], sized[4]
    assert b.image.shape == b.target.shape == (1, *image_size)
    for before, after in ((a.image, b.image), (a.target, b.target)):
        assert torch.equal(middle(after), middle(before))
        assert after.square().sum() == pytest.approx(float(middle(before).square().sum()), rel=1e-5), "zeros around"
    assert b.data_range == middle(a.target).max() - middle(a.target).min(), "of what is shown, not of the padding"
    assert sized.volume_target(1).shape == (3, *image_size)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_all_layouts_give_the_same_samples(tmp_path, split):
    counts = {"train": 2, "val": 2, "test": 2}
    flat, nested = write_ct(tmp_path / "flat", counts), write_ct(tmp_path / "nested", counts, nested=True)
    shutil.copytree(nested, tmp_path / "mixed")
    part = {"val": "validation"}.get(split, split)
    for path in (tmp_path / "mixed" / f"ground_truth_{part}").iterdir():
        path.rename(tmp_path / "mixed" / path.name)
    (flat / f"._observation_{part}_000.hdf5").write_bytes(b"a Mac was here")
    expected = dataset(flat, split)
    assert [volume.name for volume in expected.volumes] == [f"{part}_000", f"{part}_001"]
    for other in (dataset(nested, split), dataset(tmp_path / "mixed", split), dataset(str(flat), split)):
        assert [volume.name for volume in other.volumes] == [volume.name for volume in expected.volumes]
        assert all(equal(other[index], expected[index]) for index in range(6))
    if split == "val":
        assert len(dataset(nested / "observation_validation", None)) == 6
    alone = dataset(nested / f"observation_{part}" / f"observation_{part}_001.hdf5", None)
    assert equal(alone[2][:5], expected[5][:5])
    assert (alone[2].volume, alone[2].slice) == (0, 2)


def test_the_surplus_zeros_of_lodopabs_last_ground_truth_are_no_samples(tmp_path):
    images, sinograms = gaussians(5)
    images[3:] = 0
    write_data(tmp_path / "ground_truth_test_000.hdf5", images)
    write_data(tmp_path / "observation_test_000.hdf5", sinograms[:3])
    data = dataset(tmp_path, "test")
    assert len(data) == 3
    assert data.volume_target(0).shape == (3, SIDE, SIDE)


def test_observations_alone_are_enough_to_reconstruct(tmp_path):
    random = np.random.default_rng(0)
    path = write_data(tmp_path / "patient.h5", 0.3 * random.random((1, 1000, 513), np.float32))
    data = dataset(path, None, cache=False)
    assert data.volumes[0].geometry == LODOPAB
    assert data.shapes == [(362, 362, False)]
    sample = data[0]
    assert (sample.image.shape, sample.target.shape, sample.data_range) == ((1, 362, 362), (1, 0, 0), 0)
    message = r"patient\.h5 has no ground_truth_patient\.hdf5 beside it"
    for call in (lambda: data.volume_target(0), lambda: data.moved(0, (1, 1))):
        with pytest.raises(InputError, match=message):
            call()


def test_cached_and_computed_when_asked_for_are_the_same_bits(root, cache):
    cached = [*dataset(root)]
    shutil.rmtree(cache / "fbp")
    at_once = dataset(root, cache=False)
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert all(equal(at_once[index], cached[index]) for index in range(9))
    finally:
        torch.set_num_threads(n_threads)
    assert not (cache / "fbp").exists()


def test_shifts_roll_image_and_target_together_and_differ_by_slice_and_epoch(root):
    plain, shifted = dataset(root, training=True), dataset(root, training=True, max_shift=3)
    found = []
    for epoch, index in itertools.product(range(2), range(9)):
        a, b = plain[epoch, index], shifted[epoch, index]
        matches = [
            shift
            for shift in itertools.product(range(-3, 4), repeat=2)
            if torch.equal(torch.roll(b.image, tuple(-n for n in shift), (-2, -1)), a.image)
        ]
        assert len(matches) == 1
        assert torch.equal(torch.roll(b.target, tuple(-n for n in matches[0]), (-2, -1)), a.target)
        found += matches
    assert len(set(found)) > 10
    assert equal(dataset(root, max_shift=5)[3], dataset(root)[3]), "no shift in evaluation"
    assert equal(plain[0, 4], plain[7, 4])


def test_bits_depend_neither_on_order_nor_on_workers(root):
    data = dataset(root, training=True, max_shift=4)
    sampler = ShapeBatchSampler(data.shapes, 2, shuffle=True, seed=1)
    sampler.set_position(3)
    alone = {key: data[key] for batch in sampler for key in batch}
    for n_workers in (0, 2):
        loader = DataLoader(data, batch_sampler=sampler, num_workers=n_workers)
        for keys, batch in zip(sampler, loader, strict=True):
            for i, key in enumerate(keys):
                assert equal(Sample(*(part[i] for part in batch)), alone[key])


def test_survives_pickle_and_spawn(root):
    data = dataset(root)
    sample = data[0]
    assert equal(pickle.loads(pickle.dumps(data))[0], sample)
    spawn = multiprocessing.get_context("spawn")
    loader = DataLoader(data, batch_size=None, sampler=[(0, 0)], num_workers=1, multiprocessing_context=spawn)
    assert equal(next(iter(loader)), sample)


class TestMoved:
    CLEAR = {"window": "ram-lak", "frequency_scaling": 1}

    def test_the_noise_is_a_function_of_seed_file_and_slice(self, root):
        data = dataset(root)
        first = data.moved(4, (0, 0))
        assert equal(first, data.moved(4, (0.0, 0)))
        assert not torch.equal(first.image, dataset(root, seed=1).moved(4, (0, 0)).image)
        assert first.target.shape == (1, 0, 0)
        assert (first.data_range, first.volume, first.slice) == (data[4].data_range, 1, 1)
        assert [part.dtype for part in first] == [part.dtype for part in data[4]]
        noise = [data.moved(index, (0, 0)).image - data[index].image for index in (3, 4)]
        assert abs(torch.corrcoef(torch.stack([part.flatten() for part in noise]))[0, 1]) < 0.2

    @pytest.mark.parametrize("shift", [(3, -2), (-0.25, 1.5), (0, 0)])
    def test_without_noise_it_is_the_reconstruction_of_the_moved_object(self, tmp_path, shift):
        write_pair(tmp_path / "here", n_photons=1e12)
        write_pair(tmp_path / "there", shift=shift)
        found, expected = dataset(tmp_path / "here", **self.CLEAR), dataset(tmp_path / "there", **self.CLEAR)
        for index in range(3):
            assert error(found.moved(index, shift).image, expected[index].image) < 0.06
            assert any(shift) == (error(found.moved(index, (0, 0)).image, expected[index].image) > 0.15), "control"

    def test_what_leaves_the_square_is_gone_and_air_comes_in(self, tmp_path):
        images = np.full((1, SIDE, SIDE), 0.1, np.float32)
        images[:, :8] = 0.2
        write_data(tmp_path / "ground_truth_val_000.hdf5", images)
        others, sinograms = gaussians(1)
        sinograms *= images.mean() / others.mean()  # as much attenuation, elsewhere
        write_data(tmp_path / "observation_val_000.hdf5", sinograms, n_photons=1e12)
        data = dataset(tmp_path / "observation_val_000.hdf5", None, **self.CLEAR)
        moved = data.moved(0, (12, 0)).image[0] / 16
        assert moved[2:10].abs().mean() < 0.01
        torch.testing.assert_close(moved[14:18, 4:-4].mean(), torch.tensor(0.2), atol=0.01, rtol=0)
        torch.testing.assert_close(moved[22:30, 4:-4].mean(), torch.tensor(0.1), atol=0.01, rtol=0)
        away = data.moved(0, (-8, 0)).image[0] / 16
        torch.testing.assert_close(away[2:22, 4:-4].mean(), torch.tensor(0.1), atol=0.01, rtol=0)
        assert away[26:].abs().mean() < 0.01

    def test_more_photons_less_noise(self, tmp_path):
        for n_photons in (100, 10000):
            write_pair(tmp_path / str(n_photons), n_photons=n_photons)
        few, many = (dataset(tmp_path / str(n_photons)) for n_photons in (100, 10000))
        errors = [error(data.moved(0, (0, 0)).image, data[0].image) for data in (few, many)]
        assert errors[0] > 5 * errors[1]

    @pytest.mark.parametrize("image_size", [None, (24, 28), (48, 36)])
    @pytest.mark.parametrize("shift", [(3, -2), (-0.25, 1.5), (0, 0)])
    def test_in_view_is_what_both_images_show(self, tmp_path, image_size, shift):
        """Of an image whose value tells the pixel, both crops hold the same pixels there, and no more would do."""
        write_pair(tmp_path)
        data = dataset(tmp_path, image_size=image_size)
        rows, columns = data.in_view(0, shift)
        for part, t, axis in ((rows, shift[0], 0), (columns, shift[1], 1)):
            side = data.shapes[0][axis]
            shown = [i - (side - SIDE) // 2 if side > SIDE else i for i in range(side)]
            inside = range(min(side, SIDE))
            expected = [i for i in range(side) if shown[i] in inside and 0 <= shown[i] - t <= len(inside) - 1]
            assert list(range(side))[part] == expected

    @pytest.mark.parametrize("shift", [(1,), (1, np.nan)])
    def test_bad_moves(self, root, shift):
        with pytest.raises(InputError, match="give two finite numbers of pixels"):
            dataset(root).moved(0, shift)


@pytest.fixture
def reads(monkeypatch):
    """The names of the files that are read."""
    names = []
    original = ct_folder.read_ct_volume

    def read(path, *target):
        names.append(path.name)
        return original(path, *target)

    monkeypatch.setattr(ct_folder, "read_ct_volume", read)
    return names


def test_only_new_and_changed_pairs_are_read_again(root, reads):
    first = find_ct_volumes(root, "train", progress=False)
    assert reads == [f"observation_train_00{i}.hdf5" for i in range(3)]
    reads.clear()
    assert find_ct_volumes(root, "train", progress=False) == first
    assert reads == []
    stored = json.loads(index_file(root, "lodopab-train").read_text())
    assert sorted(stored["files"]) == [f"observation_train_00{i}.hdf5" for i in range(3)]

    write_data(root / "ground_truth_train_001.hdf5", gaussians(3, seed=7)[0])
    write_pair(root, "train_002", n_slices=2)
    changed = find_ct_volumes(root, "train", progress=False)
    assert reads == ["observation_train_001.hdf5", "observation_train_002.hdf5"]
    assert [volume.n_slices for volume in changed] == [3, 3, 2]
    shutil.move(root, root.parent / "elsewhere")
    assert [v.path.parent.name for v in find_ct_volumes(root.parent / "elsewhere", "train", False)] == ["elsewhere"] * 3


def _edit(change):
    """Write dataset `data` anew, changed."""

    def edit(path):
        with h5py.File(path, "a") as file:
            values = change(file["data"][()])
            del file["data"]
            file["data"] = values

    return edit


def _attribute(value):
    def edit(path):
        with h5py.File(path, "a") as file:
            file.attrs["n_photons"] = value

    return edit


def _one(value):
    def change(values):
        values[1, 16, 16] = value
        return values

    return _edit(change)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def _no_data(path):
    with h5py.File(path, "w") as file:
        file["image"] = np.zeros(3)


BAD_FILES = [
    ("observation", _truncate, "truncated"),
    ("observation", lambda path: path.write_bytes(b""), "not a readable HDF5 file"),
    ("observation", lambda path: path.write_text("text " * 1000), "not a readable HDF5 file"),
    ("observation", _no_data, "no dataset 'data'"),
    ("observation", _edit(lambda x: x.astype(int)), "'data' is int64"),
    ("observation", _edit(lambda x: x[0]), r"shape \(60, 47\), expected floats of shape \(samples, angles, detectors"),
    ("observation", _edit(lambda x: x[:0]), r"shape \(0, 60, 47\)"),
    ("observation", _edit(lambda x: x.mT.copy()), r"sinograms of 47 x 60 .* whose diagonal needs 47 detectors"),
    ("observation", _edit(lambda x: x[:, :, 1:]), r"sinograms of 60 x 46 .* do not fit images of 32 x 32"),
    ("observation", _edit(lambda x: np.tile(x, (2, 1, 1))), "ground_truth_train_001.hdf5 has 3 images and obs"),
    ("observation", _edit(lambda x: x[:2]), "has 3 images and observation_train_001.hdf5 2 observations"),
    ("observation", _edit(lambda x: x * 0), r"whose mean is 0, but that of the ground truth is 0\.0"),
    ("observation", _edit(lambda x: x * 81.35858), r"divided by 81\.35858 as LoDoPaB's"),
    (
        "observation",
        _edit(lambda x: np.where(np.arange(3)[:, None, None] == 1, x * 0, x)),
        "observation 1 has the line",
    ),
    ("observation", _attribute(-1.0), r"n_photons is .*-1"),
    ("observation", _attribute("many"), "n_photons is 'many'"),
    ("ground_truth", _truncate, "truncated"),
    ("ground_truth", _no_data, "no dataset 'data'"),
    ("ground_truth", _edit(lambda x: x[0]), "expected floats of shape"),
    ("ground_truth", _edit(lambda x: x[:, 1:]), "images of 31 x 32, expected square ones"),
    ("ground_truth", _edit(lambda x: x[:, 1:, 1:]), "do not fit images of 31 x 31"),
    ("ground_truth", _edit(lambda x: x * 81), r"image 0 has values .* in \[0, 1\]"),
    ("ground_truth", _one(np.nan), "image 1 has values from nan to nan"),
    ("ground_truth", _one(-1), "image 1 has values from -1 to"),
    ("ground_truth", _edit(lambda x: x * 0), "and not flat"),
]


@pytest.mark.parametrize(("kind", "damage", "message"), BAD_FILES)
def test_bad_files_are_named_in_one_sentence(root, kind, damage, message):
    path = root / f"{kind}_train_001.hdf5"
    damage(path)
    with pytest.raises(InputError, match=message) as caught:
        dataset(root)
    assert "train_001.hdf5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_bytes_never_give_anything_but_an_input_error(root):
    """Cut and overwrite one file at random places: it reads as before, or is refused in a sentence."""
    random = np.random.default_rng(0)
    n_refused = 0
    for trial in range(40):
        path = root / f"{('observation', 'ground_truth')[trial // 2 % 2]}_train_001.hdf5"
        whole = path.read_bytes()
        damaged = bytearray(whole)
        if trial % 2:
            del damaged[int(random.integers(len(whole))) :]
        else:
            start = int(random.integers(3000))
            damaged[start : start + 64] = random.bytes(64)
        path.write_bytes(damaged)
        message = ""
        try:
            data = dataset(root)
            [data[index] for index in range(len(data))]
        except InputError as refused:
            message = str(refused)
            n_refused += 1
        assert not message or "train_001" in message
        path.write_bytes(whole)
    assert n_refused >= 20


@pytest.mark.parametrize("size", [(999, 513), (100, 513), (513, 1000), (1000, 512), (60, 47)])
def test_observations_alone_must_have_lodopabs_size(tmp_path, size):
    path = write_data(tmp_path / "patient.hdf5", np.ones((1, *size), np.float32))
    with pytest.raises(InputError, match=rf"sinograms of {size[0]} x {size[1]} .*expected LoDoPaB's 1000 x 513"):
        read_ct_volume(path)


def test_mixed_sizes_are_refused(root):
    write_pair(root, "train_001", side=36)
    with pytest.raises(InputError, match=r"train_001\.hdf5 has sinograms of 60 x 52 and .*000\.hdf5 of 60 x 47"):
        dataset(root)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", ["ground_truth", "observation"])
def test_one_of_a_pair_without_the_other(tmp_path, kind, nested):
    write_ct(tmp_path, {"train": 3}, nested=nested)
    other = {"ground_truth": "observation", "observation": "ground_truth"}[kind]
    next(tmp_path.rglob(f"{kind}_train_001.hdf5")).unlink()
    with pytest.raises(InputError, match=rf"{other}_train_001\.hdf5 has no {kind}_train_001\.hdf5 beside it"):
        dataset(tmp_path)


def test_a_lost_link_is_named(tmp_path):
    write_ct(tmp_path, {"train": 2})
    path = tmp_path / "observation_train_001.hdf5"
    path.unlink()
    path.symlink_to(tmp_path / "nowhere.hdf5")
    with pytest.raises(InputError, match=r"observation_train_001\.hdf5"):
        dataset(tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("", "validation", "unknown split 'validation'"),
        ("", "val", r"has no files observation_validation_\*\.hdf5 \(found .*ground_truth_train_000.* and 4 more\)"),
        ("empty", "val", r"\(found nothing\)"),
        ("nowhere", "train", r"nowhere cannot be read \(No such file"),
        ("nowhere", None, r"There is no file or folder .*nowhere"),
        ("empty", None, r"empty holds no observations \(\*\.hdf5, found nothing\)"),
        ("text.hdf5", None, r"text\.hdf5 is not a readable"),
        ("text.hdf5", "train", r"text\.hdf5 cannot be read \(Not a directory\)"),
    ],
)
def test_bad_places(root, name, split, message):
    (root / "empty").mkdir()
    (root / "text.hdf5").write_text("no HDF5")
    with pytest.raises(InputError, match=message) as caught:
        dataset(root / name, split)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": (384,)}, r"image_size is \[384\]"),
        ({"max_shift": -1}, "max_shift is -1"),
        ({"window": "han"}, r"unknown window 'han' \(did you mean 'hann'\?\)"),
        ({"frequency_scaling": 0.0}, "frequency_scaling 0.0"),
    ],
)
def test_bad_settings(root, options, message):
    with pytest.raises(InputError, match=message):
        dataset(root, cache=False, **options)


def test_a_file_that_breaks_in_use_is_named(root):
    data = dataset(root, cache=False)
    (root / "observation_train_000.hdf5").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"observation_train_000\.hdf5 is (truncated|not a readable HDF5 file)"):
        data[0]
    write_pair(root, "train_001", n_slices=1)
    with pytest.raises(InputError, match=r"observation_train_001\.hdf5 changed while it was in use"):
        data[5]


def test_files_half_in_the_root_and_half_in_their_folders(tmp_path):
    flat = write_ct(tmp_path / "flat", {"train": 4})
    half = tmp_path / "half"
    shutil.copytree(flat, half)
    for kind in ("observation", "ground_truth"):
        (half / f"{kind}_train").mkdir()
        for number in (1, 3):
            (half / f"{kind}_train_00{number}.hdf5").rename(half / f"{kind}_train" / f"{kind}_train_00{number}.hdf5")
    assert [volume.name for volume in dataset(half).volumes] == [f"train_00{number}" for number in range(4)]
    assert all(equal(one, other) for one, other in zip(dataset(half), dataset(flat), strict=True))
    shutil.copy(flat / "observation_train_001.hdf5", half)
    with pytest.raises(InputError, match=r"observation_train_001\.hdf5 and .*observation_train/obs.* have one name"):
        dataset(half)


def test_suffixes_in_capital_letters(root):
    for path in sorted(root.glob("*_train_001.hdf5")):
        path.rename(path.with_suffix(".HDF5"))
    assert [volume.name for volume in dataset(root).volumes] == ["train_000", "train_001", "train_002"]


def test_copies_of_a_browser_and_gaps_are_told(root, capsys):
    for kind in ("observation", "ground_truth"):
        shutil.copy(root / f"{kind}_train_000.hdf5", root / f"{kind}_train_000 (1).hdf5")
        (root / f"{kind}_train_001.hdf5").unlink()
    assert [volume.name for volume in dataset(root).volumes] == ["train_000", "train_002"]
    told = capsys.readouterr().err
    assert f"left out, as copies that a browser made: {root / 'observation_train_000 (1).hdf5'}." in told
    assert "has no observation_train_001.hdf5, but files of higher numbers." in told


@pytest.mark.parametrize(("factor", "says"), [(0, "an observation that is zero"), (81.35858, "divide them")])
def test_observations_alone_in_another_unit(tmp_path, factor, says):
    values = 0.1 * factor * np.random.default_rng(0).random((1, 1000, 513), np.float32)
    data = dataset(write_data(tmp_path / "patient.hdf5", values.astype(np.float32)), None, cache=False)
    with pytest.raises(InputError, match=says):
        data[0]


def test_a_link_to_itself_is_named(tmp_path):
    write_ct(tmp_path, {"train": 2})
    path = tmp_path / "observation_train_001.hdf5"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(InputError, match=r"observation_train_001\.hdf5"):
        dataset(tmp_path)
