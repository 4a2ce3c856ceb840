"""Tiny files in LoDoPaB's schema, written without the code under test: Gaussians and their exact sinograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

EXTENT = 0.26  # m, of the image
SIDE, N_ANGLES, N_DETECTORS = 32, 60, 47
PARTS = {"train": "train", "val": "validation", "test": "test"}


def gaussians(
    n_slices: int, side: int = SIDE, n_angles: int = N_ANGLES, seed: int = 0, shift: Sequence[float] = (0, 0)
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, side, side) in [0, 1] of a few Gaussians, moved by pixels, and their line integrals in metres.

    Angles (a + 1/2) pi / n_angles, detectors evenly over the diagonal, the first axis of the image is x.
    """
    random = np.random.default_rng(seed)
    n_detectors = int(np.ceil(side * np.sqrt(2))) + 1
    center = (np.arange(side) - (side - 1) / 2) * EXTENT / side
    angle = (np.arange(n_angles) + 0.5)[:, None] * np.pi / n_angles
    s = (np.arange(n_detectors) - (n_detectors - 1) / 2) * EXTENT * np.sqrt(2) / n_detectors
    images, sinograms = np.zeros((n_slices, side, side)), np.zeros((n_slices, n_angles, n_detectors))
    for image, sinogram in zip(images, sinograms, strict=True):
        for _ in range(4):
            x, y, width, height = random.uniform((-0.06, -0.06, 0.01, 0.05), (0.06, 0.06, 0.02, 0.12))
            x, y = x + shift[0] * EXTENT / side, y + shift[1] * EXTENT / side
            image += height * np.exp(-((center[:, None] - x) ** 2 + (center - y) ** 2) / (2 * width**2))
            distance = s - x * np.cos(angle) - y * np.sin(angle)
            sinogram += height * width * np.sqrt(2 * np.pi) * np.exp(-(distance**2) / (2 * width**2))
    return images.astype(np.float32), sinograms.astype(np.float32)


def write_data(path: Path, values: np.ndarray, **attributes: float) -> Path:
    """Write dataset `data` in chunks, as LoDoPaB's files have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=values, chunks=True, maxshape=values.shape)
        file.attrs.update(attributes)
    return path


def write_pair(
    root: Path,
    name: str = "train_000",
    n_slices: int = 3,
    seed: int = 0,
    nested: bool = False,
    n_photons: float | None = None,
    **options: object,
) -> Path:
    """Write the ground truth and the observations of one file; returns the latter's path."""
    images, sinograms = gaussians(n_slices, seed=seed, **options)  # type: ignore[arg-type]
    paths = {}
    for kind, values in (("ground_truth", images), ("observation", sinograms)):
        folder = root / f"{kind}_{name.rpartition('_')[0]}" if nested else root
        attributes = {"n_photons": n_photons} if n_photons and kind == "observation" else {}
        paths[kind] = write_data(folder / f"{kind}_{name}.hdf5", values, **attributes)
    return paths["observation"]


def write_ct(root: Path, n_files: Mapping[str, int], **options: object) -> Path:
    """Write so many files of each split; returns the root."""
    seed = 0
    for split, n in n_files.items():
        for i in range(n):
            write_pair(root, f"{PARTS[split]}_{i:03d}", seed=seed, **options)  # type: ignore[arg-type]
            seed += 1
    return root


def tree(root: Path) -> dict[str, bytes]:
    """The content of each file below a folder."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
