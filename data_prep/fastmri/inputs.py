"""k-space to be reconstructed: fastMRI files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.fastmri.dataset import FastMRIDataset
from data_prep.fastmri.folder import fastmri_files
from data_prep.slices.inputs import InputFiles
from data_prep.storage.hdf5 import find_dataset, open_volume


class KSpaceFiles(InputFiles):
    """fastMRI files of one coil or several, whatever the run was trained on."""

    listed = "fastMRI files (*.h5)"
    settings = ("image_size", "mask_type", "center_fractions", "accelerations")

    def find(self, folder: Path) -> list[Path]:
        """Return the fastMRI files of a folder, see `fastmri_files`."""
        return fastmri_files(folder)

    def takes(self, path: Path) -> bool:
        """Whether it is a file."""
        return not path.is_dir()

    def open(self, path: Path, settings: Mapping[str, Any], multiple: int, n_photons: float) -> FastMRIDataset:
        """Check a file and make it a data set, see `InputFiles.open`."""
        with open_volume(path) as file:
            n_dims = getattr(find_dataset(file, "kspace", path), "ndim", 3)
        challenge = "multicoil" if n_dims == 4 else "singlecoil"
        # not of the run's settings but of its network
        of_network: dict[str, Any] = {key: bool(settings.get(key)) for key in ("measured", "given_maps")}
        return FastMRIDataset(path, None, challenge, progress=False, **of_network, **self._chosen(settings))


KSPACE = KSpaceFiles()
