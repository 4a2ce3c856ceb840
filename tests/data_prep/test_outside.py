from __future__ import annotations

import socket
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_prep import OUTSIDE, normalise, outside, outside_images
from data_prep import bundled as samples
from recon.errors import InputError

SIZES = [(32, 32), (96, 64), (64, 160), (640, 368), (256, 256), (7, 9)]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("skimage.data._fetchers._fetch", refuse)


def test_kinds():
    assert tuple(OUTSIDE) == tuple(outside._MAKERS) == ("white-noise", "flat", "natural", "chest-ct", "brain-mri")
    assert [(name, image.unique().tolist()) for name, image in outside_images("flat", (8, 9))] == [("flat", [1.0])]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [kind for kind in OUTSIDE if kind != "flat"])
def test_four_different_images_with_content_in_every_size(kind, size):
    images = outside_images(kind, size)
    assert len({name for name, _ in images}) == 4
    for i, (_, image) in enumerate(images):
        assert image.shape == size
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        assert image.isfinite().all()
        assert kind == "white-noise" or image.min() >= 0
        assert normalise(image)[2] > 0.1 * float(image.abs().mean()), "no blank input"
        assert (image != 0).float().mean() > 0.2
        assert not any(torch.equal(image, other) for _, other in images[:i])


@pytest.mark.parametrize("kind", OUTSIDE)
def test_the_same_at_every_call(kind):
    for (a, x), (b, y) in zip(outside_images(kind, (40, 48)), outside_images(kind, [40, 48], seed=0), strict=True):
        assert a == b
        assert torch.equal(x, y)


def test_noise_is_white_and_a_function_of_seed_and_number():
    images = [image for seed in range(3) for _, image in outside_images("white-noise", (64, 80), seed)]
    together = torch.stack(images).flatten(1)
    assert together.mean(1).abs().max() < 5 / 72
    assert (together.std(1) - 1).abs().max() < 5 / 100
    assert (torch.corrcoef(together) - torch.eye(12)).abs().max() < 5 / 72
    neighbours = torch.stack([(image * image.roll(1, axis)).mean() for image in images for axis in (0, 1)])
    assert neighbours.abs().max() < 5 / 72
    assert [name for name, _ in outside_images("white-noise", (8, 8))] == [f"white-noise-{i}" for i in range(4)]


def test_only_noise_has_a_seed():
    for kind in [*OUTSIDE][1:]:
        pairs = zip(outside_images(kind, (32, 48), 0), outside_images(kind, (32, 48), 1), strict=True)
        assert all(torch.equal(a.image, b.image) for a, b in pairs)


def bundled(name: str, subject: str) -> np.ndarray:
    with h5py.File(Path(samples.__file__).parent / "samples" / name) as file:
        return file[subject][()].astype(float)


def test_chest_is_attenuation_per_metre():
    hounsfield = bundled("ct_chest.h5", "chest_c")
    images = outside_images("chest-ct", (362, 362))
    assert [name for name, _ in images] == ["chest_c-0", "chest_c-3", "chest_c-5", "chest_c-8"]
    for (_, image), number in zip(images, (0, 3, 5, 8), strict=True):
        expected = np.maximum(hounsfield[number] * (20 - 0.02) / 1000 + 20, 0)
        np.testing.assert_allclose(image, expected, rtol=1e-6)
    assert 20 < images[0].image.median() < 22, "the liver is nearly water"


def test_brain_is_magnitude():
    images = outside_images("brain-mri", (256, 256))
    assert [name for name, _ in images] == ["brain2-0", "brain2-3", "brain2-6", "brain2-9"]
    np.testing.assert_array_equal(torch.stack([image for _, image in images]), bundled("mri_brain.h5", "brain2")[::3])


def test_photographs_are_grey_and_between_0_and_1():
    images = dict(outside_images("natural", (300, 400)))
    assert set(images) == {"astronaut", "camera", "chelsea", "coffee"}
    for image in images.values():
        assert image.max() <= 1
        assert 0.1 < image.mean() < 0.7
        assert image.std() > 0.1


def test_scaled_to_cover_then_cropped_and_never_enlarged():
    image = np.zeros((100, 200))
    image[40:60, 90:110] = 1
    halved = outside._cover(image, (50, 60))
    assert halved.mean() == pytest.approx(10 * 10 / (50 * 60), rel=0.02)
    assert halved[22:28, 27:33].min() > 0.99, "the centre stays the centre, at half the size"
    assert halved[:17].max() < 0.01
    mixed = outside._cover(image, (150, 80))
    np.testing.assert_array_equal(mixed[25:125], image[:, 60:140])
    assert not mixed[:25].any()
    assert not mixed[125:].any()


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("white_noise", (8, 8), r"unknown kind of images 'white_noise' \(did you mean 'white-noise'\?\)"),
        ("natural", (8,), r"size is \[8\]: give two whole numbers"),
        ("natural", (8, 0), r"size is \[8, 0\]"),
    ],
)
def test_bad_requests(kind, size, message):
    with pytest.raises(InputError, match=message):
        outside_images(kind, size)


def test_missing_photographs_are_named(monkeypatch):
    monkeypatch.setattr(outside, "PHOTOGRAPHS", ("elsewhere.png",))
    with pytest.raises(InputError, match=r"scikit-image has no data/elsewhere\.png: install it"):
        outside_images("natural", (8, 8))
