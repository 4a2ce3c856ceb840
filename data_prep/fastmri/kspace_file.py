"""k-space as a fastMRI file, whatever it comes from: simulated, or measured and imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from data_prep.storage.cache import reason, write_hdf5
from recon.errors import InputError
from recon.physics.mri import apply_mask, ifft2c, rss


class Undersampling(NamedTuple):
    """What fastMRI's test files tell of their undersampling.

    Attributes:
        mask: (columns,) bool, True where a column is measured.
        acceleration: the nominal one.
        n_center: the number of columns around the centre that are all kept.
    """

    mask: np.ndarray
    acceleration: int
    n_center: int


def write_kspace(
    path: Path,
    kspace: np.ndarray,
    header: bytes,
    attributes: Mapping[str, Any],
    undersampling: Undersampling | None = None,
    maps: np.ndarray | None = None,
) -> None:
    """Write k-space as a fastMRI file (arXiv 1811.08839), whole or not at all.

    The target, of k-space's size, is `reconstruction_esc` = |F^-1 k| for one coil or `reconstruction_rss` for
    several; attrs max and norm are the target's maximum and 2-norm, float64.

    Args:
        path: the file, *.h5.
        kspace: complex (slices, rows, columns) or (slices, coils, rows, columns).
        header: the ISMRMRD header (`write_header`).
        attributes: the file's other attributes.
        undersampling: what is kept of k-space, as in fastMRI's test files: k-space is zero elsewhere, there is a
            `mask` and no target, and attrs acceleration and num_low_frequency stand in the place of max and norm.
        maps: complex (coils, rows, columns), kept as `sensitivity_maps`; None keeps none.

    Raises:
        InputError: the file cannot be written.
    """
    data = torch.from_numpy(kspace.astype(np.complex64, copy=False))
    datasets: dict[str, Any] = {"ismrmrd_header": header}
    attributes = dict(attributes)
    if undersampling is None:
        images = ifft2c(data)
        target = (images.abs() if data.ndim == 3 else rss(images, 1)).numpy()
        datasets["reconstruction_esc" if data.ndim == 3 else "reconstruction_rss"] = target
        attributes |= {"max": float(target.max()), "norm": float(np.linalg.norm(target))}
    else:
        mask, acceleration, n_center = undersampling
        data = apply_mask(data, torch.from_numpy(mask))
        datasets["mask"] = mask
        attributes |= {"acceleration": acceleration, "num_low_frequency": n_center}
    datasets["kspace"] = data.numpy()
    if maps is not None:
        datasets["sensitivity_maps"] = maps.astype(np.complex64)
    try:
        write_hdf5(Path(path), datasets, attributes)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({reason(error)}): free space or choose another folder.") from error
