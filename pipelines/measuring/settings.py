"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        shifts: shifts drawn for each slice.
        max_shift: they are drawn from [-max_shift, max_shift]^2 without (0, 0), in pixels.
        seed: of the shifts and the noise, which depend on (seed, file, slice) alone.
        batch_size: how many shifted images run at once.
        noise_levels: standard deviations of the noise added to normalised inputs (whose own deviation is 1).
    """

    shifts: int = 16
    max_shift: int = 16
    seed: int = 0
    batch_size: int = 4
    noise_levels: tuple[float, ...] = (0.1, 0.5)
