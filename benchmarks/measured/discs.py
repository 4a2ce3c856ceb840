"""Plastic discs in a fan beam (Helsinki Tomography Challenge 2022): the Dice coefficient by FBP and by TV."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import torch
from skimage.filters import threshold_otsu
from torch import Tensor

from benchmarks.measured.pictures import save_images
from benchmarks.measured.total_variation import least_squares_tv
from recon.physics.ct import FanBeam, fbp

EVERY = (1, 8, 24, 48)


def read_disc(path: Path, disc: str) -> tuple[Tensor, FanBeam, Tensor]:
    """The sinogram ``(angles, detectors)``, its scan in metres and the reference segmentation, bool (rows, columns).

    The file's columns run along our x, and its rows against our y.
    """
    with h5py.File(path, "r") as file:
        data, truth = file[f"{disc}/sinogram"], file[f"{disc}/segmentation"][()] > 0
        side = 512 * float(data.attrs["effectivePixelSizePost"]) * 1e-3  # the detector's pixel at the disc
        n_angles, n_detectors = data.shape
        scan = FanBeam(
            *(512, 512, (side, side), n_angles, n_detectors, n_detectors * float(data.attrs["pixelSizePost"]) * 1e-3),
            theta=tuple(np.deg2rad(data.attrs["angles"]).tolist()),
            source_to_origin=float(data.attrs["distanceSourceOrigin"]) * 1e-3,
            source_to_detector=float(data.attrs["distanceSourceDetector"]) * 1e-3,
        )
        return torch.from_numpy(data[()]), scan, torch.from_numpy(np.rot90(truth, -1).copy())


def dice(image: Tensor, truth: Tensor) -> float:
    """2 |A and B| / (|A| + |B|) of the pixels above Otsu's threshold and the segmentation."""
    inside = image > threshold_otsu(image.numpy())
    return float(2 * (inside & truth).sum() / (inside.sum() + truth.sum()))


def measure(path: Path, out: Path) -> None:
    """Print the Dice coefficients of every disc that has a segmentation, and draw the images."""
    with h5py.File(path, "r") as file:
        names = [name for name in file if "segmentation" in file[name]]
    print("| disc | views | FBP | TV |\n|---|---|---|---|")
    rows, references, largest = [], [], 0.0
    for name in names:
        sinogram, scan, truth = read_disc(path, name)
        for every in EVERY:
            theta = tuple(scan.angles[::every].tolist())
            part, few = sinogram[::every].contiguous(), replace(scan, n_angles=len(theta), theta=theta)
            images = {"FBP": fbp(part, few, "hann"), "TV": least_squares_tv(part, few)}
            found = " | ".join(f"{dice(image, truth):.4f}" for image in images.values())
            print(f"| {name} | {len(theta)} | {found} |", flush=True)
        largest = max(largest, float(images["TV"].max()))
        references.append(truth.float())
        rows.append([(f"{method}, {len(theta)} views", image) for method, image in images.items()])
    shown = [[("reference segmentation", truth * largest), *row] for truth, row in zip(references, rows, strict=True)]
    save_images(out / "discs.png", shown, "plastic discs, fan beam, measured", (0, largest))
