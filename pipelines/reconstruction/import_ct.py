"""Raw counts of beamlines as scans that recon-predict takes, each with a picture: CT's part of recon-prepare import."""

from __future__ import annotations

import re
import textwrap
from argparse import Action, ArgumentTypeError, Namespace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from data_prep.projections.exchange import Projections, read_exchange
from data_prep.projections.scan_file import write_scan
from pipelines.reconstruction.preparation import AddFlag
from pipelines.reports.png import save_figure
from pipelines.runtime.notes import say_aloud
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.shell import real, whole
from recon.errors import InputError
from recon.physics.ct import fbp

SHOWN = 5  # slices of a picture, which also say how large the attenuation gets
LARGEST = 0.999  # quantile of the back-projections' pixels
PIXEL_SIZES = (1e-6, 1e3)  # mm
COLUMNS, EVERY = (0, 1e6), (1, 10**6)


def import_flags(add: AddFlag) -> list[Action]:
    """Add the flags that only CT has."""
    return [
        add("--pixel-size", type=real(*PIXEL_SIZES), metavar="MM", help="of the detector (default: 1, which is said)"),
        add(
            "--rotation-centre",
            type=real(*COLUMNS),
            metavar="COLUMN",
            help="of the detector on which the centre of rotation falls (default: found from views half a turn apart)",
        ),
        add(
            "--rows", type=_rows, default=slice(None), metavar="FIRST:LAST", help="of the detector, as slices (all)"
        ),
        add("--every", type=whole(*EVERY), default=1, metavar="N", help="keep every Nth view (default: all)"),
    ]  # fmt: skip


def _rows(text: str) -> slice:
    """FIRST:LAST, the last one not included, as in Python."""
    found = re.fullmatch("([0-9]{1,9}):([0-9]{1,9})", text)
    if not found or int(found[1]) >= int(found[2]):
        raise ArgumentTypeError(f"{text!r} are no rows: give the first and the one after the last, such as 100:110")
    return slice(int(found[1]), int(found[2]))


def import_files(arguments: Namespace) -> None:
    """Write each file's scan to <out>, with a picture beside it; print what was found of it.

    Raises:
        InputError: a file that cannot be used, or one that would be written over.
    """
    pixel_size = 1e-3 * (arguments.pixel_size or 1.0)
    for path in tqdm(arguments.files, desc="importing", disable=None):
        written = arguments.out / f"{path.stem}.h5"
        if written.exists():
            raise InputError(f"{written} is there already: rename {path.name}, or give another --out folder")
        scan = read_exchange(path, pixel_size, arguments.rotation_centre, arguments.rows)
        n_views = scan.sinogram.shape[1]
        if 2 * arguments.every > n_views:
            raise InputError(f"{path}: --every {arguments.every} leaves one of {n_views} views: give a smaller number")
        scan = scan.thinned(arguments.every)
        numbers = np.unique(np.linspace(0, len(scan.sinogram) - 1, SHOWN).round().astype(int))
        images = fbp(scan.sinogram[numbers], scan.geometry, "hann")
        mu_max = float(np.quantile(images.numpy(), LARGEST))
        if not mu_max > 0:
            raise InputError(f"{path} holds nothing that attenuates: give a scan of an object, and its own flat fields")
        make_folder(arguments.out)
        write_scan(written, scan.sinogram, scan.geometry, mu_max, scan.n_photons)
        save_preview(written.with_suffix(".png"), scan, numbers, images)
        print(scan.described())
        if arguments.pixel_size is None:
            say_aloud([f"{path}: no --pixel-size was given; with 1 mm attenuations in 1/m are right but for a factor"])
    print(f"Written, as measured: {arguments.out}; look at the pictures beside the files")


def save_preview(path: Path, scan: Projections, numbers: np.ndarray, images: Tensor) -> None:
    """Draw some slices: the sinogram, with the centre of rotation in it, and the back-projection below.

    Args:
        path: of the PNG.
        scan: what was measured.
        numbers: of the slices.
        images: their back-projections, ``(slices, rows, columns)``.
    """
    low, high = np.quantile(images.numpy(), (1 - LARGEST, LARGEST))
    with matplotlib.rc_context({"font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(3 * len(numbers) + 1, 6.8), layout="constrained")
        axes = figure.subplots(2, len(numbers), squeeze=False)
        for place, number in enumerate(numbers):
            above, below = axes[:, place]
            above.imshow(scan.sinogram[number].numpy(), cmap="gray", aspect="auto")
            above.axvline(scan.rotation_centre, color="tab:orange", linewidth=0.8)
            below.imshow(images[place].mT.numpy(), cmap="gray", vmin=low, vmax=high)
            above.set_title(f"slice {number}")
            above.set_xlabel("detector; the line is the centre of rotation")
            above.set_ylabel("view")
        figure.suptitle(f"{textwrap.fill(path.stem, 14 * len(numbers) + 20)}\nsinogram; filtered back-projection")
        save_figure(path, figure)
