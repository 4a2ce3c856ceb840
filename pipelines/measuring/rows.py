"""What a measurement gives: rows."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One figure of one case; a row of results.csv, without its run."""

    protocol: str
    volume: str
    slice: int | str
    shift_y: float | str
    shift_x: float | str
    metric: str
    value: float | str
    status: str  # ok, exact (outputs equal bit for bit; PSNR_eq is infinite and left out), or tie
