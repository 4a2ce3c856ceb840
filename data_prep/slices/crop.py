"""Centre crop and centre pad of the last two axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from torch import Tensor
from torch.nn.functional import pad

Array = TypeVar("Array", Tensor, np.ndarray)


def center_crop(image: Array, size: Sequence[int]) -> Array:
    """Crop the centre of (..., rows, columns); the first pixel kept is (n - size) // 2, as in fastMRI.

    Args:
        image: tensor or array (..., rows, columns).
        size: (rows, columns) of the result, neither above the image's.

    Returns:
        A view (..., size[0], size[1]).

    Raises:
        ValueError: the size does not fit into the image.
    """
    rows, columns = image.shape[-2:]
    if not (0 < size[0] <= rows and 0 < size[1] <= columns):
        raise ValueError(f"cannot crop {tuple(size)} out of {rows} x {columns}")
    top, left = (rows - size[0]) // 2, (columns - size[1]) // 2
    return image[..., top : top + size[0], left : left + size[1]]


def fit_center(image: Tensor, size: Sequence[int]) -> Tensor:
    """Crop or zero-pad the centre of (..., rows, columns) to `size`, each axis on its own.

    Padding puts the image where `center_crop` with the old size finds it again.

    Args:
        image: tensor (..., rows, columns).
        size: (rows, columns) of the result.

    Returns:
        Tensor (..., size[0], size[1]).
    """
    rows, columns = image.shape[-2:]
    image = center_crop(image, (min(rows, size[0]), min(columns, size[1])))
    missing = [size[0] - image.shape[-2], size[1] - image.shape[-1]]
    if not any(missing):
        return image
    before = [n // 2 for n in missing]
    return pad(image, (before[1], missing[1] - before[1], before[0], missing[0] - before[0]))
