"""Randomness as a function of what is drawn for: seed, epoch, file, slice."""

from __future__ import annotations

import hashlib

import numpy as np


def stable_seed(*parts: int | str) -> tuple[int, ...]:
    """Hash parts into a seed that is equal on every machine, in every process and at every call.

    Python's own `hash` of a string differs between processes, so it cannot serve. The parts are told apart by
    type and length: `stable_seed(1, 23)`, `stable_seed(12, 3)` and `stable_seed("1", "23")` differ.

    Args:
        parts: for instance ("mask", seed, epoch, file name, slice); the first part names the purpose, so that a
            mask and a shift of the same slice are independent.

    Returns:
        Four integers in [0, 2**32), which `numpy.random.default_rng` and `RandomState.seed` both take.
    """
    text = ";".join(f"{type(part).__name__}:{len(str(part))}:{part}" for part in parts)
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).digest()
    return tuple(int.from_bytes(digest[4 * i : 4 * i + 4], "little") for i in range(4))


def generator(*parts: int | str) -> np.random.Generator:
    """Return a NumPy random generator seeded with `stable_seed(*parts)`."""
    return np.random.default_rng(stable_seed(*parts))
