"""Files that a trained network reconstructs from: how those of one kind are found, named and opened."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from data_prep.slices.base import SliceDataset
from data_prep.storage.cache import reason
from recon.errors import InputError


class InputFiles(ABC):
    """One kind of files; each becomes a data set of one volume.

    Attributes:
        listed: what they are called in a list, such as fastMRI files (*.h5).
        settings: what their samples depend on: names of the run's settings, dataset.* without that prefix.
        simulated: they are images that are measured anew, with as many photons as one likes; else what a scanner
            measured.
    """

    listed: ClassVar[str]
    settings: ClassVar[tuple[str, ...]]
    simulated: ClassVar[bool] = False

    @abstractmethod
    def find(self, folder: Path) -> list[Path]:
        """Return the files of this kind in a folder, by name; of slices in files of their own, the slices.

        Raises:
            InputError: the folder cannot be read.
        """

    @abstractmethod
    def takes(self, path: Path) -> bool:
        """Whether a file or folder that a user named is of this kind.

        Of the kinds of one task, one takes a file, whatever it is called: its reader says what is wrong with it.
        """

    @abstractmethod
    def open(self, path: Path, settings: Mapping[str, Any], multiple: int, n_photons: float) -> SliceDataset:
        """Check a file, or a folder of slices, and make it a data set of one volume.

        Args:
            path: see `takes`.
            settings: the run's, dataset.* without that prefix, and what its network needs beside the image
                ("measured", "given_maps"); others than `settings` are passed over.
            multiple: of the sides of the images, the network's total stride; for images that keep their size.
            n_photons: for each detector pixel, where the files are `simulated`.

        Raises:
            InputError: it cannot be read, or is not such a file.
        """

    def refuse(self, path: Path) -> None:
        """Refuse a file that a user named alone, and which is but a part of a volume; asked of each kind of a task.

        Raises:
            InputError: says what to give.
        """
        return

    def to_open(self, folder: Path, found: Sequence[Path]) -> list[Path]:
        """Return what is to be opened of a folder in which `find` found files: each; of slices, the folder itself."""
        return list(found)

    def name(self, path: Path) -> str:
        """Return what the reconstruction of a file is called, without suffix."""
        return path.stem

    def _chosen(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that the samples depend on."""
        return {key: settings[key] for key in self.settings}


def visible_files(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Return what is in a folder under such names, in small or capital letters, but not hidden; by name.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        names = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({reason(error)}): give another one") from error
    patterns = list(patterns)
    return [path for path in names if any(fnmatchcase(path.name.lower(), pattern) for pattern in patterns)]
