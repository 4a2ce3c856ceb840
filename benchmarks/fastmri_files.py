"""Files of fastMRI's schema for the benchmarks: noise with the sizes, the header and the layout of the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from data_prep.fastmri.headers import write_header
from data_prep.slices.crop import center_crop

KSPACE_SIZE, IMAGE_SIZE = (640, 368), (320, 320)  # of a fastMRI knee


def write_volumes(
    folder: Path,
    n_volumes: int,
    n_slices: int,
    kspace_size: Sequence[int] = KSPACE_SIZE,
    image_size: Sequence[int] = IMAGE_SIZE,
    n_coils: int = 0,
    n_written: int | None = None,
    seed: int = 0,
) -> None:
    """Write volumes; n_coils 0 is single-coil.

    Only the first `n_written` slices are stored, the same in all volumes, where it is given: the others are holes in
    a sparse file, read as zeros, so that a thousand volumes fit on a small disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    coils, random = (n_coils,) if n_coils else (), np.random.default_rng(seed)
    n_stored = n_slices if n_written is None else n_written
    kspace = np.empty((n_stored, *coils, *kspace_size), np.complex64)
    for number in range(n_volumes):
        if number == 0 or n_written is None:
            kspace.real, kspace.imag = (random.standard_normal(kspace.shape, dtype=np.float32) for _ in range(2))
            target = center_crop(np.abs(kspace), image_size)
            target = np.linalg.norm(target, axis=1) if n_coils else target
        with h5py.File(folder / f"file{1000000 + number}.h5", "w") as file:
            file.create_dataset("kspace", (n_slices, *coils, *kspace_size), np.complex64)[:n_stored] = kspace
            name = "reconstruction_rss" if n_coils else "reconstruction_esc"
            file.create_dataset(name, (n_slices, *image_size), np.float32)[:n_stored] = target
            file["ismrmrd_header"] = write_header(kspace_size, image_size, (280.0, 162.8), 4.5)
            file.attrs.update(max=target.max(), norm=np.linalg.norm(target), acquisition="CORPD_FBK", patient_id="p")
