"""CT images in HU to be measured anew and reconstructed: NIfTI volumes, and DICOM series in folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.hounsfield.dataset import HUDataset
from data_prep.hounsfield.dicom import dicom_files, is_slice
from data_prep.hounsfield.volume import open_hu
from data_prep.slices.inputs import InputFiles, visible_files
from data_prep.storage.nifti import NIFTI, is_nifti, nifti_name
from recon.errors import InputError


class NiftiVolumes(InputFiles):
    """NIfTI volumes in HU, compressed or not."""

    listed = "NIfTI volumes (*.nii, *.nii.gz)"
    settings = ("window", "frequency_scaling")
    simulated = True

    def find(self, folder: Path) -> list[Path]:
        """Return the NIfTI files of a folder."""
        return visible_files(folder, [f"*{suffix}" for suffix in NIFTI])

    def takes(self, path: Path) -> bool:
        """Whether it is a file that is called as NIfTI."""
        return not path.is_dir() and is_nifti(path)

    def name(self, path: Path) -> str:
        """Return the file's name without NIfTI's suffix."""
        return nifti_name(path)

    def open(self, path: Path, settings: Mapping[str, Any], multiple: int, n_photons: float) -> HUDataset:
        """Check a volume, all of it, and make it a data set, see `InputFiles.open`."""
        measured = bool(settings.get("measured"))
        return HUDataset(open_hu(path), multiple, n_photons=n_photons, measured=measured, **self._chosen(settings))


class DicomSeries(InputFiles):
    """Folders of the axial DICOM slices of one series."""

    listed = "DICOM slices"
    settings = NiftiVolumes.settings
    simulated = True

    def find(self, folder: Path) -> list[Path]:
        """Return the slices in a folder, see `dicom_files`."""
        return dicom_files(folder)

    def takes(self, path: Path) -> bool:
        """Whether it is a folder."""
        return path.is_dir()

    def refuse(self, path: Path) -> None:
        """Refuse one slice alone.

        Raises:
            InputError: it is one; names its folder.
        """
        if not path.is_dir() and is_slice(path):
            raise InputError(f"{path} is one DICOM slice: give the folder of its series, {path.parent}")

    def to_open(self, folder: Path, found: Sequence[Path]) -> list[Path]:
        """Return the folder itself, under its own name where it was given as "." or ".."."""
        return [folder.resolve() if folder.name in ("", "..") else folder]

    def name(self, path: Path) -> str:
        """Return the folder's name."""
        return path.name

    def open(self, path: Path, settings: Mapping[str, Any], multiple: int, n_photons: float) -> HUDataset:
        """Check a series, all of it, and make it a data set, see `InputFiles.open`."""
        measured = bool(settings.get("measured"))
        return HUDataset(open_hu(path), multiple, n_photons=n_photons, measured=measured, **self._chosen(settings))


VOLUMES = NiftiVolumes()
SERIES = DicomSeries()
