"""CIFAR and Fashion-MNIST: their files, their splits and the two protocols."""

from __future__ import annotations

import gzip
import itertools
import os
import pickle
import shutil
import warnings

import numpy as np
import pytest
import torch
import torchvision.datasets
from torchvision.transforms.v2 import functional as F

from data_prep import CIFARDataset, FashionMNISTDataset
from data_prep.labelled import fashion_mnist
from recon.errors import InputError
from tests.data_prep.vision_files import (
    CIFAR10_NAMES,
    labelled_images,
    write_cifar,
    write_fashion_mnist,
    write_idx,
    write_python2_pickle,
)


def pixels(data):
    """All images (images, channels, rows, columns) uint8."""
    images = torch.stack([data[index].image for index in range(len(data))])
    return (data.denormalise(images) * 255).round().byte().numpy()


def by_torchvision(root, n_classes, train):
    """Images and labels as torchvision reads them, without its checksums."""
    kind = {10: torchvision.datasets.CIFAR10, 100: torchvision.datasets.CIFAR100}[n_classes]

    class Unchecked(kind):
        def _check_integrity(self):
            return True

        def _load_meta(self):
            pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, on what Python 2 pickled
        found = Unchecked(root, train)
    return found.data.transpose(0, 3, 1, 2), np.array(found.targets)


@pytest.mark.parametrize("n_classes", [10, 100])
def test_cifar_is_what_torchvision_reads(tmp_path, n_classes):
    root = write_cifar(tmp_path, n_classes, 203, 100)
    test = CIFARDataset(root, "test", n_classes)
    images, labels = by_torchvision(root, n_classes, train=False)
    assert np.array_equal(pixels(test), images)
    assert np.array_equal(test.labels, labels)
    images, labels = by_torchvision(root, n_classes, train=True)
    for split in ("train", "val"):
        data = CIFARDataset(root, split, n_classes)
        assert np.array_equal(pixels(data), images[data.numbers])
        assert np.array_equal(data.labels, labels[data.numbers])
        assert data.sample_name(3) == f"train-{data.numbers[3]:05d}"
    assert test.class_names == (CIFAR10_NAMES if n_classes == 10 else [f"fine{i:02d}" for i in range(100)])
    inside = next(path for path in root.iterdir() if path.is_dir())
    assert np.array_equal(pixels(CIFARDataset(inside, "test", n_classes)), pixels(test)), "the folder itself"


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_what_torchvision_reads(tmp_path, packed):
    root = write_fashion_mnist(tmp_path / "packed", packed=packed)
    raw = write_fashion_mnist(tmp_path / "FashionMNIST" / "raw", packed=False)
    for split, train in (("train", True), ("val", True), ("test", False)):
        expected = torchvision.datasets.FashionMNIST(tmp_path, train)
        for folder in (root, tmp_path, raw):
            data = FashionMNISTDataset(folder, split, image_size=(28, 28))
            assert np.array_equal(pixels(data)[:, 0], expected.data.numpy()[data.numbers])
            assert np.array_equal(data.labels, expected.targets.numpy()[data.numbers])
    padded = FashionMNISTDataset(root, "test")
    assert np.array_equal(pixels(padded)[:, :, 2:-2, 2:-2], pixels(data))
    assert pixels(padded).sum() == pixels(data).sum(), "zeros around"


def test_bundled_fashion_mnist():
    sizes = {"train": 3600, "val": 400, "test": 1000}
    sets = {split: FashionMNISTDataset(None, split) for split in sizes}
    assert {split: len(data) for split, data in sets.items()} == sizes
    assert sets["test"].class_names[:3] == ["T-shirt/top", "Trouser", "Pullover"]
    assert np.bincount(sets["test"].labels).tolist() == [100] * 10
    plain = FashionMNISTDataset(None, "train", image_size=(28, 28))
    images = torch.stack([sample.image for sample in plain.__getitems__(range(len(plain)))])
    assert abs(float(images.mean())) < 0.03, "the constants are those of all 60,000"
    assert abs(float(images.std()) - 1) < 0.03


@pytest.mark.parametrize("n", [50, 203, 2])
def test_train_and_val_divide_the_training_part_by_seed(tmp_path, n):
    root = write_fashion_mnist(tmp_path, n_train=n)
    found = {}
    for seed in (0, 1):
        train, val = (FashionMNISTDataset(root, split, seed=seed).numbers for split in ("train", "val"))
        assert sorted([*train, *val]) == list(range(n))
        assert len(val) == max(1, round(n / 10))
        assert (np.diff(train) > 0).all()
        found[seed] = val.tolist()
    if n > 2:
        assert found[0] != found[1]
    assert len(FashionMNISTDataset(root, "test", seed=1)) == 20


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    return write_cifar(tmp_path_factory.mktemp("cifar"))


def candidates(image, protocol, m):
    """Every outcome that training may have: by (dy, dx, flipped)."""
    found = {}
    for dy, dx in itertools.product(range(-m, m + 1), repeat=2):
        if protocol == "circular":
            moved = torch.roll(image, (dy, dx), (-2, -1))
        else:  # what RandomCrop(size, padding=m) does
            moved = F.crop(F.pad(image, [m] * 4), m - dy, m - dx, *image.shape[-2:])
        found[dy, dx, 0], found[dy, dx, 1] = moved, moved.flip(-1)
    return found


@pytest.mark.parametrize(("protocol", "max_shift"), [("circular", 2), ("crop", 0), ("circular", 0)])
def test_training_shifts_and_flips(cifar, protocol, max_shift):
    data = CIFARDataset(cifar, "train", protocol=protocol, max_shift=max_shift, training=True)
    still = pixels(CIFARDataset(cifar, "train"))
    m = 3 if protocol == "crop" else max_shift
    drawn = []
    for index in range(4):
        known = {
            outcome.numpy().tobytes(): key
            for key, outcome in candidates(torch.from_numpy(still[index]), protocol, m).items()
        }
        images = torch.stack([sample.image for sample in data.__getitems__([(epoch, index) for epoch in range(300)])])
        shown = (data.denormalise(images) * 255).round().byte().numpy()
        drawn += [known[image.tobytes()] for image in shown]
    dy, dx, flipped = np.array(drawn).T
    for shift in (dy, dx):
        counts = np.bincount(shift + m, minlength=2 * m + 1)
        assert (np.abs(counts - 1200 / (2 * m + 1)) < 5 * np.sqrt(1200 / (2 * m + 1)) + 1e-9).all(), (
            "uniform, +-m included"
        )
    if m:
        assert abs(np.corrcoef(dy, dx)[0, 1]) < 0.15
    assert abs(flipped.mean() - 0.5) < 0.08
    other = "crop" if protocol == "circular" else "circular"
    if m:
        key = next(key for key in drawn[-300:] if key[0] and key[1])
        wrong, right = (candidates(torch.from_numpy(still[3]), one, m)[key] for one in (other, protocol))
        assert not torch.equal(wrong, right), "control: the protocols differ"


def test_flip_can_be_left_out(cifar):
    data = CIFARDataset(cifar, "train", flip=False, training=True)
    still = CIFARDataset(cifar, "train")
    assert all(torch.equal(data[(epoch, 5)].image, still[5].image) for epoch in range(20))


def test_a_pickle_cannot_run_code(tmp_path, cifar):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    root = shutil.copytree(cifar, tmp_path / "data")
    evil = root / "cifar-10-batches-py" / "test_batch"
    evil.write_bytes(pickle.dumps({"data": Evil(), "labels": []}, 2))
    with pytest.raises(InputError, match=r"test_batch is damaged or no CIFAR file \(it asks for posix.mkdir"):
        CIFARDataset(root, "test")
    assert not (tmp_path / "pwned").exists()
    pickle.loads(evil.read_bytes())
    assert (tmp_path / "pwned").exists(), "control"


def batch(n=4, labels=None, **extra):
    images, classes = labelled_images(n, 10, (3, 32, 32))
    return {"data": images.reshape(n, 3072), "labels": classes.tolist() if labels is None else labels, **extra}


def rewrite(content):
    return lambda folder: write_python2_pickle(folder / "test_batch", content)


def truncate(folder):
    path = folder / "test_batch"
    path.write_bytes(path.read_bytes()[:-2000])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (truncate, "test_batch is damaged"),
        (lambda folder: (folder / "test_batch").write_bytes(b""), "test_batch is damaged"),
        (lambda folder: (folder / "test_batch").write_bytes(b"<html>404</html>"), "test_batch is damaged"),
        (lambda folder: (folder / "test_batch").unlink(), "test_batch is missing"),
        (rewrite([1, 2]), "test_batch holds no dictionary"),
        (rewrite({"labels": [1]}), "test_batch lacks 'data'"),
        (rewrite({"data": batch()["data"], "fine_labels": [1] * 4}), "no batch of CIFAR-10"),
        (rewrite({**batch(), "data": batch()["data"][:, :3000]}), "test_batch lacks 'data' of 3072 bytes"),
        (rewrite(batch(labels=[1, 2])), "holds 4 images, but 2 'labels'"),
        (rewrite(batch(labels=[1, 2, 10, 3])), "test_batch has the label 10, but there are only classes 0 to 9"),
        (rewrite(batch(labels=[1, -1, 2, 3])), "label -1"),
        (rewrite(batch(0)), "holds 0 images, too few"),
        (lambda folder: write_python2_pickle(folder / "batches.meta", {"label_names": ["cat"]}), "batches.meta"),
    ],
)
def test_damaged_cifar_is_one_sentence(tmp_path, cifar, damage, match):
    root = shutil.copytree(cifar, tmp_path / "data")
    damage(root / "cifar-10-batches-py")
    with pytest.raises(InputError, match=match) as caught:
        CIFARDataset(root, "test")
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_the_wrong_archive_is_named(tmp_path, cifar):
    hundred = write_cifar(tmp_path / "hundred", 100, 100, 100)
    for root, n_classes, match in (
        (hundred, 10, "holds CIFAR-100, not CIFAR-10: .*cifar-10-batches-py.*cifar-10-python.tar.gz"),
        (hundred / "cifar-100-python", 10, "holds CIFAR-100, not CIFAR-10"),
        (cifar, 100, "holds CIFAR-10, not CIFAR-100: .*cifar-100-python"),
        (cifar / "cifar-10-batches-py", 100, "holds CIFAR-10"),
        (tmp_path, 10, "has no cifar-10-batches-py/batches.meta"),
        (tmp_path / "nothing", 10, "has no cifar-10-batches-py"),
        (None, 10, "does not come with the package: .*tar -xzf cifar-10-python.tar.gz"),
        (cifar, 20, "n_classes is 20"),
    ):
        with pytest.raises(InputError, match=match):
            CIFARDataset(root, "train", n_classes)
    renamed = shutil.copytree(hundred / "cifar-100-python", tmp_path / "x" / "cifar-10-batches-py")
    (renamed / "meta").rename(renamed / "batches.meta")
    with pytest.raises(InputError, match=r"batches.meta does not name 10 classes"):
        CIFARDataset(tmp_path / "x", "train")


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (lambda root: cut(root / f"{IMAGES}.gz"), f"{IMAGES}.gz cannot be read"),
        (lambda root: (root / f"{IMAGES}.gz").write_bytes(b"<html>404</html>"), f"{IMAGES}.gz cannot be read"),
        (lambda root: (root / f"{IMAGES}.gz").write_bytes(gzip.compress(b"x")), "truncated or no IDX file of 3 axes"),
        (lambda root: shutil.copy(root / f"{LABELS}.gz", root / f"{IMAGES}.gz"), "no IDX file of 3 axes"),
        (lambda root: cut(write_idx(root / IMAGES, np.zeros((3, 28, 28)), False)), f"{IMAGES} is truncated"),
        (lambda root: (root / f"{LABELS}.gz").unlink(), f"has no {LABELS}.gz: .*train-images-idx3-ubyte.gz"),
        (lambda root: write_idx(root / LABELS, np.zeros(7), False), "holds 20 images, but t10k-labels.* 7 labels"),
        (lambda root: write_idx(root / LABELS, np.full(20, 11), False), "has the label 11"),
        (lambda root: write_fashion_mnist(root, n_test=0), "holds 0 images"),
    ],
)
def test_damaged_fashion_mnist_is_one_sentence(tmp_path, damage, match):
    root = write_fashion_mnist(tmp_path)
    damage(root)
    with pytest.raises(InputError, match=match) as caught:
        FashionMNISTDataset(root, "test")
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_bad_settings(cifar):
    for options, match in (
        ({"protocol": "circle"}, "unknown protocol 'circle' .did you mean 'circular'"),
        ({"protocol": "crop", "max_shift": 3}, "max_shift is 3, but the crop protocol draws its own"),
    ):
        with pytest.raises(InputError, match=match):
            CIFARDataset(cifar, "train", **options)
    for size in ((0, 32), (32,), ()):
        with pytest.raises(InputError, match="image_size"):
            FashionMNISTDataset(None, "val", image_size=size)


def test_too_few_images_to_divide(tmp_path):
    with pytest.raises(InputError, match="holds 1 images, too few for the train split"):
        FashionMNISTDataset(write_fashion_mnist(tmp_path, n_train=1), "train")


def test_class_names_are_those_of_the_bundled_file():
    import h5py

    with fashion_mnist.as_file(fashion_mnist.packaged_file(fashion_mnist.SAMPLE)) as path, h5py.File(path) as file:
        assert [str(name) for name in file.attrs["classes"]] == fashion_mnist.CLASS_NAMES
