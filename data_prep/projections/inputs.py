"""Measured CT scans to be reconstructed: the files of recon-prepare import."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.projections.dataset import ScanDataset
from data_prep.projections.scan_file import HOW_TO, is_scan, read_scan
from data_prep.slices.inputs import InputFiles, visible_files
from data_prep.storage.hdf5 import open_volume
from recon.errors import InputError


class ScanFiles(InputFiles):
    """Measured scans with a geometry of their own, see `write_scan`."""

    listed = "imported CT scans (*.h5)"
    settings = ("window", "frequency_scaling")

    def find(self, folder: Path) -> list[Path]:
        """Return the scans in a folder."""
        return [path for path in visible_files(folder, ["*.h5"]) if is_scan(path)]

    def takes(self, path: Path) -> bool:
        """Whether it is a file that holds such a scan, whatever it is called."""
        return path.is_file() and is_scan(path)

    def refuse(self, path: Path) -> None:
        """Refuse raw counts, whose centre of rotation is to be seen to first.

        Raises:
            InputError: it holds some.
        """
        raw = False
        if path.is_file():
            with contextlib.suppress(InputError), open_volume(path) as file:  # who reads it says what is wrong with it
                raw = "exchange/data" in file
        if raw:
            raise InputError(f"{path} holds raw counts: {HOW_TO}, and give what that writes")

    def open(self, path: Path, settings: Mapping[str, Any], multiple: int, n_photons: float) -> ScanDataset:
        """Check a scan, all of it, and make it a data set, see `InputFiles.open`."""
        if settings.get("measured"):
            raise InputError(
                f"{path} was measured by a scanner of its own, and the run's network holds LoDoPaB's: give a run of "
                "--network unet, or another that takes the back-projection alone"
            )
        return ScanDataset(read_scan(path), multiple, **self._chosen(settings))


SCANS = ScanFiles()
