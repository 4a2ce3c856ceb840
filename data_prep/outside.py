"""Images from outside what a network was trained on: noise, photographs, another part of the body.

All of them come with the installed packages; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import as_file, files
from typing import NamedTuple

import h5py
import numpy as np
import torch
from torch import Tensor

from data_prep.slices.crop import fit_center
from data_prep.slices.seeds import generator
from recon.errors import InputError, check_choice
from recon.physics.ct import MU_AIR, MU_WATER

N_IMAGES = 4
PHOTOGRAPHS = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png")  # in scikit-image's wheels, 0.24 to 0.26


class OutsideImage(NamedTuple):
    """One image that no training set holds, before it is normalised.

    Attributes:
        name: for instance white-noise-0, camera or chest_c-3 (the subject and its slice).
        image: (rows, columns) float32.
    """

    name: str
    image: Tensor


def outside_images(name: str, size: Sequence[int], seed: int = 0) -> list[OutsideImage]:
    """Return the images of one name, to be normalised (`normalise`) and put before a network: four, but one flat one.

    - white-noise: independent N(0, 1) in each pixel; the only ones with negative values and with a seed.
    - flat: the value 1 everywhere, a tie for whatever network.
    - natural: photographs of scikit-image's wheel, grey, in [0, 1].
    - chest-ct: attenuation mu >= 0 in 1/m of four slices of the bundled test subject chest_c, evenly spaced;
      mu = HU (mu_water - mu_air) / 1000 + mu_water, with 20 and 0.02 / m, negative values cut off.
    - brain-mri: magnitudes, in the scanner's units, of four slices of the bundled test subject brain2.

    An image that is larger than `size` along both axes is scaled down, aspect kept and smoothed against aliasing,
    until it just covers `size`; what still overhangs is cropped around the centre, and what is missing is padded
    with zeros. So all of `size` is filled with content wherever the image is large enough, and nothing is enlarged.

    Args:
        name: one of `OUTSIDE`.
        size: (rows, columns) of the images.
        seed: of the white noise, which is a function of (seed, number of the image).

    Raises:
        InputError: an unknown name, a bad size, or an installation of scikit-image without its photographs.
    """
    check_choice("kind of images", name, _MAKERS)
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"size is {list(size)}: give two whole numbers, rows and columns.")
    rows, columns = int(size[0]), int(size[1])
    return _MAKERS[name]((rows, columns), seed)


def _white_noise(size: tuple[int, int], seed: int) -> list[OutsideImage]:
    found = []
    for number in range(N_IMAGES):
        values = generator("white-noise", seed, number).standard_normal(size, dtype=np.float32)
        found.append(OutsideImage(f"white-noise-{number}", torch.from_numpy(values)))
    return found


def _flat(size: tuple[int, int], seed: int) -> list[OutsideImage]:
    return [OutsideImage("flat", torch.ones(size))]


def _natural(size: tuple[int, int], seed: int) -> list[OutsideImage]:
    return [OutsideImage(name.partition(".")[0], _cover(_photograph(name), size)) for name in PHOTOGRAPHS]


def _chest_ct(size: tuple[int, int], seed: int) -> list[OutsideImage]:
    slices = _slices("ct_chest.h5", "chest_c")
    return [
        OutsideImage(name, _cover(np.maximum(hu * ((MU_WATER - MU_AIR) / 1000) + MU_WATER, 0), size))
        for name, hu in slices
    ]


def _brain_mri(size: tuple[int, int], seed: int) -> list[OutsideImage]:
    return [OutsideImage(name, _cover(magnitude, size)) for name, magnitude in _slices("mri_brain.h5", "brain2")]


_MAKERS: dict[str, Callable[[tuple[int, int], int], list[OutsideImage]]] = {
    "white-noise": _white_noise,
    "flat": _flat,
    "natural": _natural,
    "chest-ct": _chest_ct,
    "brain-mri": _brain_mri,
}
OUTSIDE = {
    "white-noise": "white noise",
    "flat": "a flat image",
    "natural": "natural images",
    "chest-ct": "chest CT",
    "brain-mri": "brain MRI",
}
"""The names of the images from outside, and what a reader is told that they are."""


def _photograph(name: str) -> np.ndarray:
    """A grey image (rows, columns) float64 in [0, 1], read from the package: `skimage.data` might download it."""
    from skimage.color import rgb2gray  # scikit-image takes half a second to import: not before it is needed
    from skimage.io import imread

    try:
        with as_file(files("skimage").joinpath("data", name)) as path:
            image = imread(path) / 255
    except OSError as error:
        raise InputError(
            f"This installation of scikit-image has no data/{name}: install it from its wheel, pip install "
            "--force-reinstall scikit-image."
        ) from error
    return rgb2gray(image) if image.ndim == 3 else image


def _slices(file_name: str, subject: str) -> list[tuple[str, np.ndarray]]:
    """Evenly spaced slices, the first and the last among them, with their names."""
    with (
        as_file(files("data_prep").joinpath("samples", file_name)) as path,
        h5py.File(path, "r") as file,
    ):
        volume = file[subject][()].astype(np.float64)
    numbers = np.linspace(0, len(volume) - 1, N_IMAGES).round().astype(int).tolist()
    return [(f"{subject}-{number}", volume[number]) for number in numbers]


def _cover(image: np.ndarray, size: tuple[int, int]) -> Tensor:
    """Scale an image down until it just covers `size`, then crop or zero-pad its centre; float32."""
    scale = max(side / n for side, n in zip(size, image.shape, strict=True))
    if scale < 1:
        from skimage.transform import resize

        smaller = [max(side, round(n * scale)) for side, n in zip(size, image.shape, strict=True)]
        image = resize(image, smaller, anti_aliasing=True)
    return fit_center(torch.from_numpy(image.astype(np.float32)), size).contiguous()
