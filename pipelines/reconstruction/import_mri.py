"""Measured k-space of scanners and labs as fastMRI files, each with a picture: MRI's part of recon-prepare import."""

from __future__ import annotations

import textwrap
from argparse import Action, Namespace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table
from tqdm import tqdm

from data_prep.raw.files import read_raw
from data_prep.raw.volume import RawVolume, write_raw
from pipelines.reconstruction.preparation import AddFlag
from pipelines.reports.png import save_figure
from pipelines.runtime.notes import say_aloud
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.shell import terminal, whole
from recon.errors import InputError
from recon.physics.mri import ifft2c, rss

SHOWN = 5  # slices of a preview
MULTIPLE = (1, 64)  # of k-space's sides
DECADES = 5  # of k-space's magnitude that its picture shows


def import_flags(add: AddFlag) -> list[Action]:
    """Add the flags that only MRI has."""
    return [
        add("--split", choices=("train", "val", "test"), default="train", help="(default %(default)s)"),
        add("--variable", help="of a file that holds several arrays, the one to read, such as 7B/FSE"),
        add("--axes", help="what the dimensions of an array are, such as slice,readout,phase"),
        add("--challenge", choices=("singlecoil", "multicoil"), help="(default: by the number of coils)"),
        add(
            "--phase-encoding",
            choices=("rows", "columns"),
            help="along which it runs, where --axes names rows and columns (default: columns)",
        ),
        add(
            "--acquisition", default="unknown", help="the contrast, by which figures are grouped (default %(default)s)"
        ),
        add(
            "--multiple",
            type=whole(*MULTIPLE),
            default=1,
            metavar="N",
            help="fill k-space up with zeros to sides that are multiples of N, as networks need (default: as it is)",
        ),
        add("--subject", help="who was measured, for folds by subject (default: the file's name without suffix)"),
    ]


def import_files(arguments: Namespace) -> None:
    """Write each file's volumes into <out>/<challenge>_<split>, with a picture beside each; print what they are.

    Raises:
        InputError: a file that cannot be used, or one that would be written over.
    """
    table = Table("volume", "slices", "coils", "k-space", "columns measured", "target")
    for path in tqdm(arguments.files, desc="importing", disable=None):
        for measured in read_raw(path, arguments.variable, arguments.axes, arguments.phase_encoding):
            raw = measured.padded(arguments.multiple)
            challenge = arguments.challenge or ("multicoil" if raw.kspace.shape[1] > 1 else "singlecoil")
            folder = arguments.out / f"{challenge}_{arguments.split}"
            written = folder / f"{_name(path, arguments.variable, raw.part)}.h5"
            if written.exists():
                raise InputError(f"{written} is there already: rename {path.name}, or give another --out folder")
            raw.kspace_for(challenge)  # refused before a folder is made
            make_folder(folder)
            write_raw(written, raw, challenge, arguments.acquisition, arguments.subject or path.stem)
            say_aloud(raw.remarks())
            save_preview(written.with_suffix(".png"), raw)
            n_slices, n_coils, rows, columns = raw.kspace.shape
            table.add_row(
                f"{folder.name}/{written.name}",
                *map(str, (n_slices, n_coils, f"{rows} x {columns}", f"{raw.measured.sum()} of {columns}")),
                "yes" if raw.is_complete else "no",
            )
    terminal(120).print(table)
    print(f"Written, as measured: {arguments.out}; look at the pictures beside the files")


def _name(path: Path, variable: str | None, part: str) -> str:
    """What a volume is called: the file's name, the array's where it was chosen, and the part's."""
    return "-".join(filter(None, (path.stem, (variable or "").strip("/").replace("/", "-"), part)))


def save_preview(path: Path, raw: RawVolume) -> None:
    """Draw some slices: k-space's magnitude over all coils, on a logarithmic scale, and the image below.

    Args:
        path: of the PNG.
        raw: the volume.
    """
    numbers = np.unique(np.linspace(0, len(raw.kspace) - 1, SHOWN).round().astype(int))
    kspace = torch.from_numpy(raw.kspace[numbers])
    spectrum, images = rss(kspace, 1).numpy(), rss(ifft2c(kspace), 1).numpy()
    top = float(spectrum.max())
    with matplotlib.rc_context({"font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(3 * len(numbers) + 1, 6.8), layout="constrained")
        axes = figure.subplots(2, len(numbers), squeeze=False)
        for place, number in enumerate(numbers):
            above, below = axes[:, place]
            above.imshow(
                np.log10(np.maximum(spectrum[place] / top, 10.0**-DECADES)), cmap="gray", vmin=-DECADES, vmax=0
            )
            below.imshow(images[place], cmap="gray", vmin=0, vmax=float(images.max()))
            above.set_title(f"slice {number}")
            for panel, x, y in ((above, "phase encoding", "readout"), (below, "columns", "rows")):
                panel.set_xlabel(x)
                panel.set_ylabel(y)
                panel.set_xticks([0, raw.kspace.shape[-1] // 2])
                panel.set_yticks([0, raw.kspace.shape[-2] // 2])
        name = textwrap.fill(path.stem, 14 * len(numbers) + 20)
        figure.suptitle(f"{name}\nlog10 |k-space|, {DECADES} decades; image")
        save_figure(path, figure)
