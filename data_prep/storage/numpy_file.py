"""NumPy's files of one array."""

from __future__ import annotations

import tokenize
from pathlib import Path

import numpy as np

from data_prep.storage.cache import reason, refuse_pipe
from recon.errors import InputError


def read_npy(path: Path) -> np.ndarray:
    """Open the array of a file *.npy; its values are read when they are used.

    Raises:
        InputError: it cannot be read, or is no such file.
    """
    try:
        refuse_pipe(path)
        found = np.load(path, mmap_mode="r", allow_pickle=False)  # refuses a header that says more than there is
        if not isinstance(found, np.ndarray):
            raise ValueError("it holds several arrays")
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, tokenize.TokenError) as error:
        raise InputError(f"{path} is not a readable .npy file ({reason(error)}): copy it again") from error
    return found
