"""Measured fan-beam sinograms of plastic discs: FBP and a threshold against the reference segmentations."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu

from recon.physics.ct import FanBeam, fbp

DISCS = Path(__file__).parents[2].parent / "shared" / "real_data" / "ct_discs.h5"

pytestmark = pytest.mark.skipif(not DISCS.is_file(), reason="the measured discs are not in ../shared/real_data")


def read(disc):
    """The sinogram, its scan in metres and the segmentation, whose columns run along our x and rows against our y."""
    with h5py.File(DISCS, "r") as file:
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


def dice(sinogram, scan, truth):
    image = fbp(sinogram, scan, "hann")
    inside = image > threshold_otsu(image.numpy())
    return float(2 * (inside & truth).sum() / (inside.sum() + truth.sum()))


@pytest.mark.parametrize("disc", ["01a", "07c"])
def test_the_reference_segmentation_is_reached(disc):
    sinogram, scan, truth = read(disc)
    assert dice(sinogram, scan, truth) >= 0.97
    assert dice(sinogram, scan.rotating_about(289.5), truth) < 0.97, "control: a centre 10 pixels off"


def test_a_short_scan_and_the_other_sense_of_rotation():
    sinogram, scan, truth = read("07c")
    part = slice(100, 540)
    short = replace(scan, n_angles=440, theta=scan.theta[part])
    assert dice(sinogram[part], short, truth) >= 0.97
    assert dice(sinogram.flip(0), scan, truth) < 0.97, "control: turning the other way"
