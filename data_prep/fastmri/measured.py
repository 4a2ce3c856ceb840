"""What networks with the measurement inside, and CG-SENSE, need of fastMRI files beside the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from data_prep.fastmri.reading import VolumeReader
from data_prep.fastmri.volume import Volume
from recon.errors import InputError
from recon.physics.coil_maps import espirit
from recon.physics.conjugate_gradients import cg_sense
from recon.physics.mri import apply_mask, fft2c, ifft2c


def measurement(kspace: Tensor, mask: Tensor, std: float, maps: Tensor | None) -> dict[str, Tensor]:
    """Return a sample's kspace, mask and maps, of k-space (rows, columns) or (coils, rows, columns)."""
    coils = kspace if kspace.ndim == 3 else kspace[None]
    found = {"kspace": apply_mask(coils, mask).div_(std), "mask": mask}
    return found if maps is None else found | {"maps": maps}


def cg_sense_images(volume: Volume, reader: VolumeReader, mask: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Yield, slice by slice, the classical reconstruction of several coils: CG-SENSE with maps by ESPIRiT.

    Args:
        volume: of several coils.
        reader: of its file.
        mask: (columns,) bool, with calibration lines.
        device: to compute on.

    Yields:
        |x|, float32 (rows, columns) of k-space's size, in the file's units, on the CPU.

    Raises:
        InputError: the file cannot be read any more.

    Source: `recon.physics.conjugate_gradients.cg_sense` with its defaults; `recon.physics.coil_maps.espirit`.
    """
    mask = mask.to(device)
    for s in range(volume.n_slices):
        kspace = reader.kspace(volume, s)[None].to(device)
        yield cg_sense(kspace, mask, espirit(kspace, mask))[0].abs().cpu()


def check_rolled(volumes: Sequence[Volume]) -> None:
    """Refuse targets that show but a part of k-space's matrix, and would have to be rolled as the object is.

    Raises:
        InputError: names the first.
    """
    for volume in volumes:
        if volume.image_size != volume.kspace_size:
            raise InputError(
                f"{volume.path}: the target shows {volume.image_size} of k-space's {volume.kspace_size} pixels, "
                "so that it cannot be rolled as the object is: set dataset.max_shift to 0"
            )


def check_maps(volume: Volume, mask: Tensor, reader: VolumeReader, given: bool) -> None:
    """Refuse a mask without calibration lines, and several coils whose maps the file is to give and does not.

    Args:
        volume: of one coil or several.
        mask: (columns,) bool.
        reader: of its file.
        given: whether the network takes the file's maps.

    Raises:
        InputError: names the file, and what it lacks; or its maps do not fit.
    """
    if given and volume.n_coils > 1 and reader.maps(volume) is None:
        raise InputError(
            f"{volume.path} has no 'sensitivity_maps', but network.maps is given: store its coil maps, complex "
            f"({volume.n_coils}, {volume.kspace_size[0]}, {volume.kspace_size[1]}) with root sum of squares 1, or "
            "train with network.maps learned or espirit"
        )
    if not is_calibrated(mask):
        raise InputError(
            f"{volume.path}: the mask has no calibration lines (its centre was not measured), from which coil maps "
            "and the image's phase are estimated: give another mask, or a network of images"
        )


def is_calibrated(mask: Tensor) -> bool:
    """Whether a mask (columns,) has calibration lines: its centre was measured."""
    return bool(mask[len(mask) // 2])


def flip_image(image: Tensor, axis: int, shown: Sequence[int]) -> Tensor:
    """Flip images (..., rows, columns) about the middle of their centre crop of this size, so that it is flipped, too.

    Args:
        image: real or complex.
        axis: -2 or -1.
        shown: (rows, columns) of the crop.
    """
    n, side = image.shape[axis], shown[axis]
    return image.flip(axis).roll(2 * ((n - side) // 2) + side - n, axis)


def flip_kspace(kspace: Tensor, axis: int, shown: Sequence[int]) -> Tensor:
    """Return the k-space (..., rows, columns) of the object that :func:`flip_image` gives."""
    return fft2c(flip_image(ifft2c(kspace), axis, shown))


def flip_mask(mask: Tensor) -> Tensor:
    """Return the mask (columns,) of columns -u, u counted from the centre; -N / 2 of an even side stays."""
    return mask.flip(0).roll(1 - len(mask) % 2)
