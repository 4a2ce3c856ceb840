from __future__ import annotations

import itertools
import multiprocessing
import pickle
import shutil

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from data_prep import (
    FastMRIDataset,
    Sample,
    ShapeBatchSampler,
    coil_maps,
    make_mask,
    normalise,
    simulate_kspace,
    write_fastmri,
)
from data_prep.storage.open_files import OpenFiles
from recon.errors import InputError
from tests.data_prep.files import SCALE, blobs, write_dataset, write_volume

SIZES = [(48, 40), (48, 44), (33, 47), (48, 21)]  # the last has fewer columns than the target, as FLAIR-203


def dataset(root, split="train", **options):
    return FastMRIDataset(root, split, progress=False, **options)


@pytest.fixture
def root(tmp_path):
    return write_dataset(tmp_path / "data", {"train": 3})


def equal(a: Sample, b: Sample) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("n_coils", [0, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mask_type", ["random", "equispaced_fraction"])
def test_equal_to_fastmris_transform(tmp_path, n_coils, size, mask_type):
    from fastmri.data.subsample import create_mask_for_mask_type
    from fastmri.data.transforms import UnetDataTransform

    write_dataset(tmp_path, {"val": 2}, n_coils=n_coils, size=size)
    challenge = "multicoil" if n_coils else "singlecoil"
    function = create_mask_for_mask_type(mask_type, [0.08], [4])
    transform = UnetDataTransform(challenge, function, use_seed=True)
    data = dataset(tmp_path, "val", challenge=challenge, mask_type=mask_type)
    assert len(data) == 6
    for index, (v, s) in enumerate(data.slices):
        volume, sample = data.volumes[v], data[index]
        with h5py.File(volume.path) as file:
            kspace, target = file["kspace"][s], file[volume.recon_key][s]
            attrs = {"max": file.attrs["max"], "recon_size": (32, 32, 1)}
        theirs = transform(kspace, None, target, attrs, volume.path.name, s)
        assert data.shapes[index] == (*theirs.image.shape, True)
        # each is up to 1.5e-6 from float64's: the transforms are two
        torch.testing.assert_close(sample.image.clamp(-6, 6)[0], theirs.image, rtol=0, atol=2e-6)
        assert (sample.image.clamp(-6, 6)[0] - theirs.image).norm() < 5e-7 * theirs.image.norm()
        torch.testing.assert_close(sample.mean, theirs.mean, rtol=1e-6, atol=0)
        torch.testing.assert_close(sample.std, theirs.std + 1e-11, rtol=1e-6, atol=0)
        normalised = ((sample.target - sample.mean) / sample.std).clamp(-6, 6)[0]
        torch.testing.assert_close(normalised, theirs.target, rtol=0, atol=1e-5)
        assert sample.data_range == volume.maximum
        assert (sample.volume, sample.slice) == (v, s)


def test_test_files_use_their_own_mask_and_have_no_target(tmp_path):
    mask = np.zeros(40, bool)
    mask[[3, 9, 18, 19, 20, 21, 22, 30]] = True
    write_volume(tmp_path / "singlecoil_test" / "file.h5", target=False, mask=mask)
    data = dataset(tmp_path, "test")
    assert torch.equal(data.mask(0), torch.from_numpy(mask))
    sample = data[1]
    with h5py.File(tmp_path / "singlecoil_test" / "file.h5") as file:
        kspace = file["kspace"][1]
    image = np.abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace), norm="ortho")))[8:40, 4:36]
    np.testing.assert_allclose(sample.image[0] * sample.std + sample.mean, image, atol=1e-6 * image.max())
    assert sample.target.shape == (1, 0, 0)
    assert sample.data_range == 0
    assert data.shapes == [(32, 32, False)] * 3
    with pytest.raises(InputError, match=r"file\.h5 has no 'reconstruction_esc'"):
        data.volume_target(0)


def test_evaluation_masks_are_fastmris_in_every_epoch(root):
    data = dataset(root)
    for v, volume in enumerate(data.volumes):
        expected = make_mask("random", 40, (0.08,), (4,), tuple(map(ord, volume.path.name)))
        assert all(torch.equal(data.mask(v, s, epoch), expected) for s in range(3) for epoch in range(2))
    assert equal(data[0, 4], data[7, 4])
    assert equal(data[0, 4], data[4])


def test_training_masks_are_a_function_of_seed_epoch_file_and_slice(root):
    def masks(seed):
        data = dataset(root, training=True, seed=seed)
        return {
            (seed, *key): tuple(data.mask(*key).tolist()) for key in itertools.product(range(3), range(3), range(2))
        }

    both = masks(0) | masks(1)
    assert both == masks(1) | masks(0)
    assert len(set(both.values())) > 0.9 * len(both)


def test_normalisation(root):
    sample = dataset(root)[2]
    assert abs(sample.image.mean()) < 1e-5
    assert abs(sample.image.std() - 1) < 1e-5
    image, mean, std = normalise(sample.image[0] * sample.std + sample.mean)
    torch.testing.assert_close(image, sample.image)
    assert (mean, std) == (pytest.approx(float(sample.mean)), pytest.approx(float(sample.std)))
    assert [part.dtype for part in sample[:7]] == [torch.float32] * 5 + [torch.int64] * 2
    assert [part.shape for part in sample[:7]] == [(1, 32, 32)] * 2 + [()] * 5
    assert 1e-6 < sample.target.max() < 1e-3, "the target keeps the file's units"


def test_a_folder_or_a_file_gives_the_splits_samples(root):
    whole = dataset(root)
    folder = dataset(root / "singlecoil_train", None)
    assert folder.volumes == whole.volumes
    assert equal(folder[4], whole[4])
    alone = dataset(root / "singlecoil_train" / "file1.h5", None)
    assert (alone.volumes, len(alone)) == (whole.volumes[1:2], 3)
    ours, theirs = alone[2], whole[5]
    assert equal(ours[:5], theirs[:5])
    assert (ours.volume, ours.slice) == (0, 2)
    assert dataset(str(root / "singlecoil_train"), None).volumes == whole.volumes


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("nowhere.h5", None, r"There is no file or folder .*nowhere\.h5: give"),
        ("empty", None, r"holds no fastMRI files \(\*\.h5\)"),
        ("text.h5", None, r"text\.h5 is not a readable HDF5 file"),
        ("text.h5", "train", r"text\.h5 cannot be read \(Not a directory\)"),
    ],
)
def test_what_is_no_folder_and_no_file(root, name, split, message):
    (root / "text.h5").write_text("no HDF5")
    (root / "empty").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        dataset(root / name, split)
    assert "\n" not in str(caught.value)


def test_zero_kspace_gives_a_zero_image(tmp_path):
    path = write_volume(tmp_path / "singlecoil_train" / "file.h5")
    with h5py.File(path, "a") as file:
        file["kspace"][1] = 0
    sample = dataset(tmp_path)[1]
    assert torch.equal(sample.image, torch.zeros(1, 32, 32))
    assert sample.mean == 0


@pytest.mark.parametrize("image_size", [(16, 24), (48, 64), (16, 64), (33, 31)])
def test_image_size_crops_or_pads_image_and_target_alike(root, image_size):
    plain, sized = dataset(root), dataset(root, image_size=image_size)
    rows, columns = min(32, image_size[0]), min(32, image_size[1])
    assert sized.shapes == [(*image_size, True)] * 9

    def middle(x):
        top, left = (x.shape[-2] - rows) // 2, (x.shape[-1] - columns) // 2
        return x[..., top : top + rows, left : left + columns]

    a, b = plain[4], sized[4]
    assert b.image.shape == b.target.shape == (1, *image_size)
    torch.testing.assert_close(middle(b.target), middle(a.target), rtol=0, atol=0)
    torch.testing.assert_close(middle(b.image) * b.std + b.mean, middle(a.image) * a.std + a.mean, rtol=0, atol=1e-9)
    assert b.target.sum() == pytest.approx(float(middle(a.target).sum()), rel=1e-5), "what is padded is zero"
    assert b.data_range == a.data_range
    assert sized.volume_target(1).shape == (3, *image_size)


def test_shifts_roll_image_and_target_together_and_differ_by_slice_and_epoch(root):
    plain, shifted = dataset(root, training=True), dataset(root, training=True, max_shift=3)
    found = []
    for epoch, index in itertools.product(range(3), range(9)):
        a, b = plain[epoch, index], shifted[epoch, index]
        matches = [
            shift
            for shift in itertools.product(range(-3, 4), repeat=2)
            if torch.equal(torch.roll(b.image, tuple(-n for n in shift), (-2, -1)), a.image)
        ]
        assert len(matches) == 1
        assert torch.equal(torch.roll(b.target, tuple(-n for n in matches[0]), (-2, -1)), a.target)
        assert (b.mean, b.std) == (a.mean, a.std)
        found += matches
    assert len(set(found)) > 15
    assert {n for shift in found for n in shift} == set(range(-3, 4))


def test_no_shift_in_evaluation(root):
    assert equal(dataset(root, max_shift=5)[3], dataset(root)[3])


@pytest.mark.parametrize("n_coils", [0, 3])
def test_bits_depend_neither_on_order_nor_on_workers_nor_on_threads(tmp_path, n_coils):
    write_dataset(tmp_path, {"train": 2}, n_coils=n_coils, size=(260, 250), image_size=(240, 240))
    write_volume(tmp_path / f"{'multi' if n_coils else 'single'}coil_train" / "other.h5", n_coils=n_coils, seed=8)
    data = dataset(tmp_path, challenge="multicoil" if n_coils else "singlecoil", training=True, max_shift=4)
    sampler = ShapeBatchSampler(data.shapes, 2, shuffle=True, seed=1)
    sampler.set_position(3)
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        alone = {key: data[key] for batch in sampler for key in batch}
    finally:
        torch.set_num_threads(n_threads)
    torch.set_num_threads(1)
    try:
        assert all(equal(data[3, index], alone[3, index]) for index in range(len(data)))
    finally:
        torch.set_num_threads(n_threads)
    for n_workers in (0, 2):
        loader = DataLoader(data, batch_sampler=sampler, num_workers=n_workers)
        for keys, batch in zip(sampler, loader, strict=True):
            for i, key in enumerate(keys):
                assert equal(Sample(*(part[i] for part in batch)), alone[key])


def test_volume_target_is_the_samples_targets(root):
    data = dataset(root)
    assert torch.equal(data.volume_target(1), torch.cat([data[index].target for index in (3, 4, 5)]))


def image_of(sample: Sample) -> torch.Tensor:
    return sample.image[0] * sample.std + sample.mean


@pytest.mark.parametrize("shift", [(3, -2), (0, 7), (-50, 0)])
@pytest.mark.parametrize("n_coils", [0, 3])
def test_a_move_without_a_crop_is_a_circular_shift_of_the_image(tmp_path, n_coils, shift):
    write_dataset(tmp_path, {"val": 2}, n_coils=n_coils, size=(48, 40), image_size=(48, 40))
    data = dataset(tmp_path, "val", challenge="multicoil" if n_coils else "singlecoil")
    before, after = data[4], data.moved(4, shift)
    expected = image_of(before).roll(shift, (0, 1))
    torch.testing.assert_close(image_of(after), expected, rtol=0, atol=1e-6 * float(expected.max()))
    assert after.target.shape == (1, 0, 0)
    assert (after.data_range, after.volume, after.slice) == (before.data_range, 1, 1)
    assert [part.dtype for part in after] == [part.dtype for part in before]


def test_a_move_shows_the_same_content_where_it_stays_in_view_and_new_content_at_the_border(root):
    data = dataset(root)
    before, after = image_of(data[4]), image_of(data.moved(4, (5, -3)))
    tolerance = 1e-6 * float(before.max())
    torch.testing.assert_close(after[5:, :-3], before[:-5, 3:], rtol=0, atol=tolerance)
    assert (after - before.roll((5, -3), (0, 1))).abs().max() > 100 * tolerance, "control: not circular in the crop"
    whole = dataset(root, image_size=(48, 40)).moved(4, (5, -3))
    torch.testing.assert_close(
        image_of(whole)[8:40, 4:36], after, rtol=0, atol=tolerance, msg="then fitted to image_size"
    )


def test_a_moved_image_is_normalised_with_its_own_numbers(root):
    data = dataset(root)
    sample, moved = data[4], data.moved(4, (9.5, -8.25))
    assert abs(moved.image.mean()) < 1e-5
    assert abs(moved.image.std() - 1) < 1e-5
    assert moved.mean != sample.mean
    assert moved.std != sample.std


def test_moves_by_fractions_add_up_to_whole_pixels(root, tmp_path):
    shutil.copytree(root, tmp_path / "half")
    with h5py.File(tmp_path / "half" / "singlecoil_train" / "file1.h5", "a") as file:
        ramp = np.exp(-2j * np.pi * (np.arange(48) - 24) * 0.5 / 48)
        file["kspace"][...] = file["kspace"][()] * ramp[:, None]
    one = image_of(dataset(root).moved(4, (1, 0)))
    two_halves = image_of(dataset(tmp_path / "half").moved(4, (0.5, 0)))
    torch.testing.assert_close(two_halves, one, rtol=0, atol=1e-6 * float(one.max()))


@pytest.mark.parametrize("n_coils", [0, 3])
@pytest.mark.parametrize("own_mask", [False, True])
def test_no_move_gives_the_very_sample(tmp_path, n_coils, own_mask):
    mask = np.arange(40) % 3 == 0 if own_mask else None
    challenge = "multicoil" if n_coils else "singlecoil"
    write_dataset(tmp_path, {"test": 1}, n_coils=n_coils, mask=mask)
    data = dataset(tmp_path, "test", challenge=challenge)
    sample, moved = data[2], data.moved(2, (0.0, 0))
    assert equal(sample._replace(target=moved.target), moved)
    assert data.coils_move(0) == bool(n_coils)


@pytest.mark.parametrize("shift", [(4, -6), (0.5, 2.75)])
def test_a_move_under_known_coils_equals_simulating_the_moved_object(tmp_path, shift):
    magnitude = 1 + np.arange(2)[:, None, None] + blobs(2, (32, 36), np.random.default_rng(0)).real / SCALE
    maps = coil_maps(4, 48, 48).numpy()
    for name, move, kept in (("known", (0, 0), maps), ("moved", shift, maps), ("unknown", (0, 0), None)):
        (tmp_path / name).mkdir()
        kspace = simulate_kspace(magnitude, matrix=48, n_coils=4, noise=0, shift=move)
        write_fastmri(tmp_path / name / "a.h5", kspace, "T1", "p", maps=kept)
    known, moved, unknown = (
        dataset(tmp_path / name, None, challenge="multicoil") for name in ("known", "moved", "unknown")
    )
    assert (known.coils_move(0), unknown.coils_move(0)) == (False, True)
    for index in range(2):
        expected = image_of(moved[index])
        torch.testing.assert_close(image_of(known.moved(index, shift)), expected, rtol=0, atol=2e-6)
        assert (image_of(unknown.moved(index, shift)) - expected).abs().max() > 1e-3, "control: coils move along"
        nothing = torch.zeros(1, 0, 0)
        assert equal(known.moved(index, (0, 0)), known[index]._replace(target=nothing))


def test_masked_kspace_of_several_coils_moves_with_them(tmp_path):
    path = write_volume(tmp_path / "a.h5", n_coils=3, mask=np.arange(40) % 3 == 0)
    with h5py.File(path, "a") as file:
        file["sensitivity_maps"] = coil_maps(3, 48, 40).numpy()
    data = dataset(path, None, challenge="multicoil")
    assert data.coils_move(0)
    data.moved(0, (2, 1))


@pytest.mark.parametrize(
    "maps",
    [
        coil_maps(2, 48, 40).numpy(),
        coil_maps(3, 48, 40).numpy() * 2,
        coil_maps(3, 48, 40).numpy() * np.nan,
        np.full((3, 48, 40), 3**-0.5),
        coil_maps(3, 48, 40).numpy()[None],
        "text",
    ],
)
def test_unusable_maps_are_named(tmp_path, maps):
    path = write_volume(tmp_path / "a.h5", n_coils=3)
    with h5py.File(path, "a") as file:
        file["sensitivity_maps"] = maps
    data = dataset(path, None, challenge="multicoil")
    for call in (lambda: data.moved(0, (1, 1)), lambda: data.coils_move(0)):
        with pytest.raises(InputError, match=r"a\.h5: 'sensitivity_maps' is not complex of shape \(3, 48, 40\)"):
            call()


@pytest.mark.parametrize("shift", [(1,), (1, np.nan)])
def test_bad_moves(root, shift):
    with pytest.raises(InputError, match="give two finite numbers of pixels"):
        dataset(root).moved(0, shift)


def test_survives_pickle_and_spawn(root):
    data = dataset(root)
    sample = data[0]
    assert equal(pickle.loads(pickle.dumps(data))[0], sample)
    loader = DataLoader(
        data,
        batch_size=None,
        sampler=[(0, 0)],
        num_workers=1,
        multiprocessing_context=multiprocessing.get_context("spawn"),
    )
    assert equal(next(iter(loader)), sample)


def test_few_files_stay_open(tmp_path):
    write_dataset(tmp_path, {"train": 5}, n_slices=1)
    paths = sorted((tmp_path / "singlecoil_train").glob("*.h5"))
    files = OpenFiles(limit=2)
    for path in [*paths, paths[3]]:
        with h5py.File(path) as file:
            np.testing.assert_array_equal(files.read(path, "kspace", slice(0, 1)), file["kspace"][:1])
    assert list(files._files) == [paths[4], paths[3]]
    files.close()
    assert not files._files


LAYOUTS = {
    "contiguous": {},
    "chunks": {"chunks": (2, 3, 4)},
    "compressed": {"chunks": (1, 6, 5), "compression": "gzip"},
    "large chunks": {"chunks": (4, 6, 5), "shuffle": True},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["complex64", ">c8", "float32", ">f4", "float64", "float16", "int16", "bool"])
def test_every_layout_and_type_is_read_as_h5py_reads_it(tmp_path, layout, dtype):
    path, values = tmp_path / "a.h5", np.random.default_rng(0).integers(0, 2, (4, 6, 5)).astype(dtype)
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("data", data=values, **LAYOUTS[layout])
    files = OpenFiles()
    for part in (3, 0, 2, 0, -1, slice(1, 3), slice(None)):
        found = files.read(path, "data", part)
        np.testing.assert_array_equal(found, values[part])
        assert found.dtype == values.dtype
    for part in (4, -5):
        with pytest.raises(InputError, match=r"a\.h5 changed while it was in use"):
            files.read(path, "data", part)
    in_one_piece = layout == "contiguous" and np.dtype(dtype).isnative and np.dtype(dtype).kind in "fc"
    assert bool(files._places) == in_one_piece


def test_slices_that_were_never_written_are_zero(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("part", (3, 2, 2), np.float32)[0] = 1
        file.create_dataset("none", (3, 2, 2), np.float32)
    files = OpenFiles()
    for key, index in itertools.product(("part", "none"), (1, 2, 1)):
        assert not files.read(tmp_path / "a.h5", key, index).any()


def test_a_file_that_changes_is_read_anew_or_refused(tmp_path):
    path, files = tmp_path / "a.h5", OpenFiles()

    def write(n_slices, value):
        with h5py.File(tmp_path / "new.h5", "w") as file:
            file["data"] = np.full((n_slices, 300, 300), value, np.float32)
        (tmp_path / "new.h5").replace(path)

    write(5, 1)
    for value, n_slices in ((2, 4), (3, 6)):
        assert (files.read(path, "data", 3) == value - 1).all()
        write(n_slices, value)
        assert (files.read(path, "data", 3) == value).all()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"a\.h5 is truncated"):
        files.read(path, "data", 5)


def test_a_file_that_breaks_in_use_is_named(root):
    data = dataset(root)
    (root / "singlecoil_train" / "file0.h5").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"file0\.h5 is not a readable HDF5 file"):
        data[0]
    write_volume(root / "singlecoil_train" / "file1.h5", n_slices=1)
    with pytest.raises(InputError, match=r"file1\.h5 changed while it was in use"):
        data[5]


def test_a_file_of_another_size_in_its_place_is_named(root):
    data = dataset(root)
    write_volume(root / "singlecoil_train" / "file0.h5", size=(48, 44))
    with pytest.raises(InputError, match=r"file0\.h5 changed .*'kspace' had shape \(48, 40\), now \(48, 44\)"):
        data[0]
    write_volume(root / "singlecoil_train" / "file1.h5", image_size=(24, 24))
    with pytest.raises(InputError, match=r"file1\.h5 changed while it was in use \('reconstruction_esc'"):
        data[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mask_type": "radial"}, "unknown mask_type 'radial'"),
        ({"image_size": (320,)}, r"image_size is \[320\]"),
        ({"image_size": (320, 0)}, r"image_size is \[320, 0\]"),
        ({"max_shift": -1}, "max_shift is -1"),
        ({"split": "validation"}, "no folder singlecoil_validation"),
        ({"challenge": "single"}, "unknown challenge 'single'"),
        ({"challenge": "single", "split": None}, "unknown challenge 'single'"),
    ],
)
def test_bad_settings(root, options, message):
    with pytest.raises(InputError, match=message):
        dataset(root, **options)
