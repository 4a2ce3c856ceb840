"""Folders of classified images."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from data_prep import ImageNetDataset
from data_prep.labelled import image_folder, imagenet
from data_prep.labelled.image_folder import check_image, read_image
from recon.errors import InputError
from tests.data_prep.vision_files import write_imagenet

LEVEL = 1 / 255 / min(imagenet.STD)  # one grey level, normalised


def dataset(root, split="train", **options):
    return ImageNetDataset(root, split, progress=False, **{"image_size": (64, 64), "resize": 72, **options})


@pytest.fixture
def root(tmp_path):
    return write_imagenet(tmp_path / "data")


def test_is_the_recipe_on_torchvisions_image_folder(root):
    steps = [v2.Resize(72), v2.CenterCrop((64, 48)), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([*steps, v2.Normalize(imagenet.MEAN, imagenet.STD)])  # Pillow resizes here
    for split in ("train", "val", "test"):
        data = dataset(root, split, image_size=(64, 48))
        expected = torchvision.datasets.ImageFolder(root / image_folder.FOLDERS[split], transform)
        assert data.class_names == expected.classes
        assert data.labels.tolist() == expected.targets
        for index, (image, label) in enumerate(expected):
            sample = data[index]
            assert (sample.image - image).abs().max() < 1.01 * LEVEL, "up to rounding to bytes"
            assert (sample.image.flip(-1) - image).abs().max() > 20 * LEVEL, "control"
            assert sample.label == label
            assert str(root / image_folder.FOLDERS[split] / data.sample_name(index)) == expected.samples[index][0]


def test_default_is_224_of_256(tmp_path):
    data = ImageNetDataset(write_imagenet(tmp_path, 2, 1, (300, 260)), "val", progress=False)
    assert data[0].image.shape == (3, 224, 224)
    assert data.view_reach == 16


def test_all_kinds_of_pixels_are_read_as_pillow_shows_them(tmp_path):
    colours = np.kron(np.random.default_rng(0).integers(0, 255, (5, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    for name, mode, kind in (
        ("grey.JPEG", "L", "JPEG"),
        ("cmyk.JPEG", "CMYK", "JPEG"),
        ("a_png.JPEG", "RGB", "PNG"),
        ("transparent.png", "RGBA", "PNG"),
        ("palette.PNG", "P", "PNG"),
        ("web.webp", "RGB", "WEBP"),
    ):
        Image.fromarray(colours).convert(mode).save(folder / name, kind)
    (folder / "._grey.JPEG").write_bytes(b"a Mac was here")
    (folder / "notes.txt").write_text("not an image")
    data = dataset(tmp_path, image_size=(32, 32), resize=40)
    assert len(data) == 6
    for index in range(6):
        path = tmp_path / "train" / data.sample_name(index)
        assert read_image(path).shape == (3, 40, 48)
        with Image.open(path) as image:
            assert np.array_equal(read_image(path).permute(1, 2, 0), np.asarray(image.convert("RGB")))
        assert data[index].image.shape == (3, 32, 32)


def test_training_flips_and_rolls(root):
    still = dataset(root)
    flipped = dataset(root, training=True)
    rolled = dataset(root, training=True, max_shift=2, flip=False)
    n_flipped, shifts = 0, set()
    for epoch in range(40):
        image, plain = flipped[(epoch, 5)].image, still[5].image
        n_flipped += torch.equal(image, plain.flip(-1))
        assert torch.equal(image, plain) != torch.equal(image, plain.flip(-1))
        image = rolled[(epoch, 5)].image
        found = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(image, torch.roll(plain, (dy, dx), (-2, -1)))
        ]
        assert len(found) == 1
        shifts.update(found)
    assert 10 < n_flipped < 30
    assert len(shifts) > 12
    assert {-2, 2} <= {dy for dy, _ in shifts} & {dx for _, dx in shifts}, "the largest included"


def test_random_crop_shows_a_part_of_the_image(root):
    data, still = dataset(root, training=True, random_crop=True, flip=False), dataset(root)
    whole = read_image(root / "train" / still.sample_name(5))
    random = imagenet.generator("crop", 0, 2, 5)
    box = imagenet.random_box(whole.shape[1], whole.shape[2], random)
    expected = F.resized_crop(whole, *box, [64, 64], antialias=True)
    assert torch.equal(data[(2, 5)].image, data.normalise(expected))
    assert not torch.equal(data[(3, 5)].image, data[(2, 5)].image)


def test_random_boxes_have_torchvisions_distribution():
    random = np.random.default_rng(0)
    ours = np.array([imagenet.random_box(100, 140, random) for _ in range(3000)])
    crop = v2.RandomResizedCrop(8)
    drawn = [crop.make_params([torch.empty(3, 100, 140)]) for _ in range(3000)]
    theirs = np.array([[one["top"], one["left"], one["height"], one["width"]] for one in drawn])
    error = 5 * theirs.std(0) * math.sqrt(2 / 3000)
    assert (np.abs(ours.mean(0) - theirs.mean(0)) < error).all()
    assert (np.abs(ours.std(0) - theirs.std(0)) < error).all()
    for top, left, height, width in ours:
        assert 0 <= top <= 100 - height < 100
        assert 0 <= left <= 140 - width < 140
        assert 0.07 < height * width / 14000 <= 1
        assert 0.7 < width / height < 1.4


@pytest.mark.parametrize(
    ("rows", "columns", "box"),
    [(10, 200, (0, 93, 10, 13)), (200, 10, (93, 0, 13, 10)), (1, 1, (0, 0, 1, 1))],
)
def test_a_box_of_an_extreme_image_is_its_centre(rows, columns, box):
    assert {imagenet.random_box(rows, columns, np.random.default_rng(seed)) for seed in range(20)} == {box}


def test_view_moves_over_the_resized_image(root):
    data = dataset(root, "val", image_size=(64, 48))
    with Image.open(root / "val" / data.sample_name(1)) as image:
        resized = F.pil_to_tensor(image.resize((72, 86), Image.Resampling.BILINEAR))
    for dy, dx in ((4, -4), (-3, 0), (1, 2)):
        expected = data.normalise(resized[:, 11 + dy : 75 + dy, 12 + dx : 60 + dx])
        assert (data.shifted_view(1, (dy, dx)) - expected).abs().max() < 1.01 * LEVEL


def test_each_folder_is_checked_once_until_it_changes(root, monkeypatch):
    checked = []

    def check(path):
        checked.append(path.name)
        check_image(path)

    monkeypatch.setattr(image_folder, "check_image", check)
    first = dataset(root)
    assert len(checked) == 12
    assert [first.sample_name(i) for i in range(12)] == [dataset(root).sample_name(i) for i in range(12)]
    assert len(checked) == 12, "remembered"
    folder = root / "train" / "n00000002"
    shutil.copy(next(folder.iterdir()), folder / "another.jpg")
    assert len(dataset(root)) == 13
    assert len(checked) == 17, "the folder that changed"


def a_file(root):
    return root / "train" / "n00000002" / "n00000002_train_0001.JPEG"


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"<html>404</html>"),
        lambda path: path.write_bytes(b"\0" * 5000),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_corrupt_file_is_named_and_found_again_until_it_is_mended(root, damage):
    path = a_file(root)
    content = path.read_bytes()
    damage(path)
    for _ in range(2):
        with pytest.raises(InputError, match="cannot be read as an image") as caught:
            dataset(root)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    if path.is_dir():
        path.rmdir()
    path.write_bytes(content)
    assert len(dataset(root)) == 12


def test_png_cut_short(tmp_path):
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8)).save(folder / "a.png")
    assert len(dataset(tmp_path)) == 1
    cut_short(folder / "a.png")
    with pytest.raises(InputError, match=r"a\.png cannot be read"):
        check_image(folder / "a.png")


def test_what_follows_after_the_end_of_a_jpeg_does_no_harm(root):
    path = a_file(root)
    expected = read_image(path)
    path.write_bytes(path.read_bytes() + b"\0" * 64)
    assert len(dataset(root)) == 12
    assert torch.equal(read_image(path), expected)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_file_that_turns_bad_in_mid_training_is_named(root, n_workers):
    data = dataset(root, training=True)
    cut_short(a_file(root))  # in place: the folder's own time of change stays
    assert len(dataset(root)) == 12
    context = multiprocessing.get_context("fork") if n_workers else None
    with pytest.raises(InputError) as caught:
        list(DataLoader(data, batch_size=4, num_workers=n_workers, multiprocessing_context=context))
    sentence = str(caught.value).rpartition("InputError: ")[2].strip()  # as run_command shows it
    assert sentence.startswith(f"{a_file(root)} cannot be read as an image (")
    assert "\n" not in sentence


def remove_class(root):
    shutil.rmtree(root / "val" / "n00000002")


def empty_class(root):
    for path in (root / "train" / "n00000002").iterdir():
        path.unlink()


def flatten(root):
    for path in list((root / "train").glob("*/*")):
        path.rename(root / "train" / path.name)
    for path in list((root / "train").iterdir()):
        if path.is_dir():
            path.rmdir()


def empty_split(root):
    shutil.rmtree(root / "train")
    (root / "train").mkdir()


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (empty_class, "n00000002 holds no image .*jpeg"),
        (remove_class, r"train has the class folder n00000002 but .*val has not \(1 such\)"),
        (lambda root: (root / "val" / "n00000009").mkdir(), "val has the class folder n00000009 but .*train has not"),
        (lambda root: shutil.rmtree(root / "train"), "train cannot be read .No such file.*<data>/train/<class>"),
        (flatten, "holds 12 images, but no class folder to put them in: the layout is <data>/train/<class>"),
        (empty_split, "no class folders and no images: the layout is"),
        (lambda root: os.rename(root, root.with_name("moved")), "train cannot be read"),
    ],
)
def test_bad_folders_are_one_sentence(root, damage, match):
    damage(root)
    with pytest.raises(InputError, match=match) as caught:
        dataset(root)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_one_split_alone_is_enough(tmp_path):
    root = write_imagenet(tmp_path, splits=("val",))
    assert len(dataset(root, "test")) == len(dataset(root, "val")) == 12


def test_bad_settings(root):
    for options, match in (
        ({"resize": 60}, r"resize is 60, less than image_size \[64, 64\]"),
        ({"image_size": (0, 5)}, "image_size"),
        ({"image_size": ()}, "image_size"),
    ):
        with pytest.raises(InputError, match=match):
            dataset(root, **options)
    with pytest.raises(InputError, match=r"does not come with the package: .*<data>/train/<class>"):
        ImageNetDataset(None, "train")


def test_grey_values_of_16_bits_are_scaled_to_8(tmp_path):
    """Pillow cuts them off at 255: nearly all would be white."""
    values = np.linspace(0, 65535, 48 * 40).round().astype(np.uint16).reshape(48, 40)
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    Image.fromarray(values).save(folder / "deep.png")
    Image.fromarray((values / 257).round().astype(np.uint8)).save(folder / "flat.png")
    data = dataset(tmp_path, image_size=(32, 32), resize=40)
    deep, flat = data.files
    assert torch.equal(read_image(deep), read_image(flat))
    assert torch.equal(data[0].image, data[1].image)
    assert read_image(deep).min() == 0
    assert read_image(deep).max() == 255


def test_pixels_of_32_bits_are_refused(tmp_path):
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    for values in (np.ones((40, 40), np.float32), np.ones((40, 40), np.int32)):
        path = folder / "wide.png"
        Image.fromarray(values).save(path, "TIFF")
        with pytest.raises(InputError, match=r"wide\.png holds pixels of 32 bits"):
            dataset(tmp_path)


def test_a_flipped_bit_in_a_png_file_is_found(tmp_path):
    """Pillow decodes without the checksums of the pixels, and shows others."""
    random = np.random.default_rng(0)
    path = tmp_path / "image.png"
    Image.fromarray(random.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    start, end = whole.index(b"IDAT"), whole.index(b"IEND") - 4
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[int(random.integers(start, end))] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"image\.png cannot be read as an image"):
            check_image(path)


def test_images_of_other_kinds_are_left_out_aloud(root, capsys):
    folder = sorted((root / "val").iterdir())[0]
    for name in ("scan.bmp", "photo.TIF", "notes.txt"):
        (folder / name).write_bytes(b"x")
    dataset(root, "val")
    said = capsys.readouterr().err
    assert f"{folder / 'photo.TIF'} and 1 more are left out" in said
    assert "notes.txt" not in said
