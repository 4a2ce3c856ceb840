"""Measured fan-beam sinograms of plastic discs: FBP and a threshold against the reference segmentations."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measured.discs import dice, read_disc
from recon.physics.ct import fbp

DISCS = Path(__file__).parents[2].parent / "shared" / "real_data" / "ct_discs.h5"

pytestmark = pytest.mark.skipif(not DISCS.is_file(), reason="the measured discs are not in ../shared/real_data")


def segmented(sinogram, scan, truth):
    return dice(fbp(sinogram, scan, "hann"), truth)


@pytest.mark.parametrize("disc", ["01a", "07c"])
def test_the_reference_segmentation_is_reached(disc):
    sinogram, scan, truth = read_disc(DISCS, disc)
    assert segmented(sinogram, scan, truth) >= 0.97
    assert segmented(sinogram, scan.rotating_about(289.5), truth) < 0.97, "control: a centre 10 pixels off"


def test_a_short_scan_and_the_other_sense_of_rotation():
    sinogram, scan, truth = read_disc(DISCS, "07c")
    part = slice(100, 540)
    short = replace(scan, n_angles=440, theta=scan.theta[part])
    assert segmented(sinogram[part], short, truth) >= 0.97
    assert segmented(sinogram.flip(0), scan, truth) < 0.97, "control: turning the other way"
