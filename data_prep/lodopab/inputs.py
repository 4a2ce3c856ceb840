"""Sinograms to be reconstructed: LoDoPaB's observations."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.lodopab.dataset import LoDoPaBDataset
from data_prep.slices.inputs import InputFiles, visible_files
from data_prep.storage.nifti import is_nifti


class SinogramFiles(InputFiles):
    """LoDoPaB's observations, with or without their ground truth."""

    listed = "LoDoPaB observations (observation_*.hdf5)"
    settings = ("image_size", "window", "frequency_scaling")

    def find(self, folder: Path) -> list[Path]:
        """Return the observations of a folder."""
        return visible_files(folder, ["observation_*.hdf5"])

    def takes(self, path: Path) -> bool:
        """Whether it is a file, but not called as NIfTI."""
        return not path.is_dir() and not is_nifti(path)

    def open(self, path: Path, settings: Mapping[str, Any], multiple: int, n_photons: float) -> LoDoPaBDataset:
        """Check a file and make it a data set, see `InputFiles.open`."""
        measured = bool(settings.get("measured"))  # not of the run's settings but of its network
        return LoDoPaBDataset(path, None, cache=False, progress=False, measured=measured, **self._chosen(settings))


SINOGRAMS = SinogramFiles()
