"""Tiny files in fastMRI's schema, written without the code under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

SCALE = 1e-4  # fastMRI's images have values of this order


def header(kspace_size: Sequence[int], image_size: Sequence[int]) -> bytes:
    """A scanner-like ISMRMRD header: the image has k-space's pixels."""
    sides = [mm / n for mm, n in zip((280.0, 162.8), kspace_size, strict=True)]

    def space(name: str, size: Sequence[int]) -> str:
        matrix = f"<matrixSize><x>{size[0]}</x><y>{size[1]}</y><z>1</z></matrixSize>"
        x, y = (side * n for side, n in zip(sides, size, strict=True))
        extent = f"<fieldOfView_mm><x>{x}</x><y>{y}</y><z>4.5</z></fieldOfView_mm>"
        return f"<{name}>{matrix}{extent}</{name}>"

    columns = kspace_size[1]
    limits = f"<minimum>0</minimum><maximum>{columns - 1}</maximum><center>{columns // 2}</center>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">'
        "<experimentalConditions><H1resonanceFrequency_Hz>63642459</H1resonanceFrequency_Hz>"
        f"</experimentalConditions><encoding>{space('encodedSpace', kspace_size)}{space('reconSpace', image_size)}"
        f"<encodingLimits><kspace_encoding_step_1>{limits}</kspace_encoding_step_1></encodingLimits>"
        "<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    ).encode()


def blobs(n_slices: int, size: Sequence[int], random: np.random.Generator) -> np.ndarray:
    """Complex images (n_slices, rows, columns) of a few Gaussian spots with noise."""
    y, x = np.mgrid[-1 : 1 : size[0] * 1j, -1 : 1 : size[1] * 1j]
    images = 0.01 * (random.standard_normal((n_slices, *size)) + 1j * random.standard_normal((n_slices, *size)))
    for image in images:
        for _ in range(6):
            cy, cx, width, height = random.uniform((-0.6, -0.6, 0.05, 0.3), (0.6, 0.6, 0.3, 1.0))
            image += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / width**2 + 1j * (y + x))
    return SCALE * images


def fit(images: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Crop or zero-pad the centre of the last two axes."""
    for axis, n in zip((-2, -1), size, strict=True):
        have = images.shape[axis]
        if n <= have:
            images = np.take(images, np.arange((have - n) // 2, (have - n) // 2 + n), axis)
        else:
            pads = [(0, 0)] * images.ndim
            pads[axis] = ((n - have) // 2, n - have - (n - have) // 2)
            images = np.pad(images, pads)
    return images


def write_volume(
    path: Path,
    n_slices: int = 3,
    size: Sequence[int] = (48, 40),
    n_coils: int = 0,
    image_size: Sequence[int] = (32, 32),
    seed: int = 0,
    target: bool = True,
    mask: np.ndarray | None = None,
    acquisition: str = "CORPD_FBK",
) -> Path:
    """Write one volume; n_coils 0 is single-coil. The target is the fully sampled image's centre."""
    random = np.random.default_rng(seed)
    images = blobs(n_slices, size, random)
    if n_coils:
        gains = random.uniform(0.2, 1, (n_coils, 1, 1)) * np.exp(1j * random.uniform(0, 6, (n_coils, 1, 1)))
        images = images[:, None] * gains
    axes = (-2, -1)
    kspace = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=axes), norm="ortho"), axes=axes)
    if mask is not None:
        kspace = kspace * mask
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace.astype(np.complex64)
        file["ismrmrd_header"] = header(size, image_size)
        if mask is not None:
            file["mask"] = mask
        if target:
            magnitude = np.linalg.norm(images, axis=1) if n_coils else np.abs(images)
            values = fit(magnitude, image_size).astype(np.float32)
            file["reconstruction_rss" if n_coils else "reconstruction_esc"] = values
            file.attrs["max"] = values.max()
            file.attrs["norm"] = np.linalg.norm(values)
        file.attrs["acquisition"] = acquisition
        file.attrs["patient_id"] = f"patient{seed}"
    return path


def write_dataset(root: Path, n_volumes: Mapping[str, int], n_coils: int = 0, **options: object) -> Path:
    """Write folders `<challenge>_<split>` with so many volumes each; returns the root."""
    challenge = "multicoil" if n_coils else "singlecoil"
    seed = 0
    for split, n in n_volumes.items():
        for i in range(n):
            path = root / f"{challenge}_{split}" / f"file{i}.h5"
            write_volume(path, n_coils=n_coils, seed=seed, **options)  # type: ignore[arg-type]
            seed += 1
    return root
