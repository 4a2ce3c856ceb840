"""What all data sets of classified images have in common."""

from __future__ import annotations

import itertools
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as F

from data_prep import CIFARDataset, FashionMNISTDataset, ImageNetDataset, LabelledImage, ShapeBatchSampler
from recon.errors import InputError
from tests.data_prep.vision_files import write_cifar, write_fashion_mnist, write_imagenet

SIZE = {"imagenet": (64, 56)}


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    root = tmp_path_factory.mktemp("vision")
    return {
        "cifar10": write_cifar(root / "cifar10"),
        "cifar100": write_cifar(root / "cifar100", 100, 120, 100),
        "fashion_mnist": write_fashion_mnist(root / "fashion_mnist"),
        "imagenet": write_imagenet(root / "imagenet", n_per_class=8),
    }


KINDS = ("cifar10", "cifar100", "fashion_mnist", "imagenet")


@pytest.fixture
def make(roots):
    def open_split(kind, split="train", **options):
        if kind == "imagenet":
            settings = {"image_size": SIZE[kind], "resize": 72, **options}
            return ImageNetDataset(roots[kind], split, progress=False, **settings)
        if kind == "fashion_mnist":
            return FashionMNISTDataset(roots[kind], split, **options)
        return CIFARDataset(roots[kind], split, int(kind[5:]), **options)

    return open_split


def equal(a: LabelledImage, b: LabelledImage) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def all_of(data, **options):
    """The samples of a whole epoch, in batches of a loader."""
    sampler = ShapeBatchSampler(data.shapes, 4, shuffle=True, seed=1)
    sampler.set_position(3)
    batches = list(DataLoader(data, batch_sampler=sampler, **options))
    return LabelledImage(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_samples_are_what_they_say(make, kind, split):
    data = make(kind, split)
    rows, columns = SIZE.get(kind, (32, 32))
    assert data.image_size == (rows, columns)
    assert data.n_channels == (1 if kind == "fashion_mnist" else 3)
    assert data.shapes == [(data.n_channels, rows, columns)] * len(data)
    assert data.mean.shape == data.std.shape == (data.n_channels, 1, 1)
    assert data.labels.dtype == np.int64
    assert len({data.sample_name(index) for index in range(len(data))}) == len(data)
    assert len(data.class_names) == {"cifar100": 100, "imagenet": 3}.get(kind, 10)
    for index in (0, len(data) - 1):
        sample = data[index]
        assert isinstance(sample, LabelledImage)
        assert [part.dtype for part in sample] == [torch.float32, torch.int64, torch.int64]
        assert [part.shape for part in sample] == [(data.n_channels, rows, columns), (), ()]
        assert (sample.label, sample.index) == (data.labels[index], index)
        assert sample.image.is_contiguous()
        assert equal(sample, data[(7, index)]), "nothing is drawn outside training"


@pytest.mark.parametrize("kind", KINDS)
def test_normalisation_is_torchvisions_and_can_be_undone(make, kind):
    data = make(kind)
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16).repeat(data.n_channels, 1, 1)
    image = data.normalise(pixels)
    mean, std = (values.flatten().tolist() for values in (data.mean, data.std))
    expected = F.normalize(F.to_dtype(pixels, torch.float32, scale=True), mean, std)
    assert (image - expected).abs().max() < 1e-6
    assert (data.denormalise(image) * 255 - pixels).abs().max() < 1e-3
    assert (data.denormalise(image.double()[None]) * 255 - pixels).abs().max() < 1e-3, "a batch, in float64"
    assert data.denormalise(image + 100).max() == 1
    assert data.denormalise(image - 100).min() == 0


SETTINGS = [("cifar10", {"protocol": "crop"}), ("cifar100", {"max_shift": 5}), ("fashion_mnist", {"protocol": "crop"})]
SETTINGS += [("imagenet", {"max_shift": 9}), ("imagenet", {"random_crop": True}), ("fashion_mnist", {"max_shift": 40})]


@pytest.mark.parametrize(("kind", "options"), SETTINGS)
def test_draws_are_functions_of_seed_epoch_and_index(make, kind, options):
    data = make(kind, training=True, **options)
    n = len(data)
    one_by_one = [data[(3, index)] for index in range(n)]
    again = make(kind, training=True, **options)
    for index in reversed(range(n)):
        again[(2, index)]
        assert equal(again[(3, index)], one_by_one[index]), "whatever was read before"
    batches = all_of(data)
    assert sorted(batches.index.tolist()) == list(range(n))
    for image, label, index in zip(*batches, strict=True):
        assert equal(LabelledImage(image, label, index), one_by_one[index]), "in batches or alone"
    for others in ([data[(4, i)] for i in range(n)], [make(kind, training=True, flip=False)[(3, i)] for i in range(n)]):
        assert not all(equal(a, b) for a, b in zip(others, one_by_one, strict=True)), "control"


@pytest.mark.parametrize(("kind", "options"), SETTINGS[1:4:2])
def test_workers_change_nothing(make, kind, options):
    data = make(kind, training=True, **options)
    workers = multiprocessing.get_context("fork")
    assert equal(all_of(data), all_of(data, num_workers=2, multiprocessing_context=workers))


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_in_another_process_is_the_same(make, kind):
    data = make(kind, training=True)
    assert equal(pickle.loads(pickle.dumps(data))[(2, 5)], data[(2, 5)])


@pytest.mark.parametrize("kind", KINDS)
def test_a_view_moves_by_whole_pixels(make, kind):
    data = make(kind, "test")
    m, (rows, columns) = data.view_reach, data.image_size
    assert m == (4 if kind == "imagenet" else 16)
    index = 5
    still = data[index].image
    assert torch.equal(data.shifted_view(index, (0, 0)), still)
    for dy, dx in itertools.product((-m, -1, 0, 3, m), (-m, 0, 2, m)):
        view = data.shifted_view(index, (dy, dx))
        assert view.shape == still.shape
        y = slice(max(0, -dy), rows - max(0, dy))
        x = slice(max(0, -dx), columns - max(0, dx))
        seen = still[:, y.start + dy : y.stop + dy, x.start + dx : x.stop + dx]
        assert torch.equal(view[:, y, x], seen), "out[y, x] = in[y + dy, x + dx]"
        outside = torch.ones(rows, columns, dtype=torch.bool)
        outside[y, x] = False
        black = (view == -data.mean / data.std).all(0)
        if kind == "imagenet":
            assert not black[outside].any(), "true content comes in"
        else:
            assert black[outside].all(), "zeros before normalisation come in"
    for shift in ((m + 1, 0), (0, -m - 1)):
        with pytest.raises(ValueError, match=f"at most {m} pixels"):
            data.shifted_view(index, shift)


@pytest.mark.parametrize("kind", KINDS)
def test_erased_is_black_in_three_by_three_pixels(make, kind):
    data = make(kind, "test")
    rows, columns = data.image_size
    places = set()
    for index, seed in itertools.product(range(len(data)), range(3)):
        before, after = data[index].image, data.erased(index, seed)
        assert torch.equal(after, data.erased(index, seed))
        black = (after == -data.mean / data.std).all(0)
        changed = (before != after).any(0)
        assert (changed <= black).all()
        found = black.nonzero()
        top, left = found.amin(0).tolist() if kind != "fashion_mnist" else changed.nonzero().amin(0).tolist()
        if 2 < top < rows - 5 and 2 < left < columns - 5:  # the padding of Fashion-MNIST is black as well
            assert changed[top : top + 3, left : left + 3].sum() == changed.sum() <= 9
            assert changed.sum() > 6
        places.add((top, left))
    assert len(places) > 20


@pytest.mark.parametrize("kind", KINDS)
def test_bad_settings(make, kind):
    for options, match in (
        ({"max_shift": -1}, "max_shift is -1"),
        ({"split": "validation"}, "unknown split 'validation'.*train, val, test"),
    ):
        with pytest.raises(InputError, match=match):
            make(kind, **options)
