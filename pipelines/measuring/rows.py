"""What every measurement ends in: rows, one figure of one case each, and summaries of them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple


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


def finite_or_empty(value: float) -> float | str:
    """Nothing for what is infinite or undefined: PSNR_eq of equal outputs, NMSE_eq of an output that is all zero."""
    return value if isfinite(value) else ""


Summary = dict[str, Any]
"""Figures by protocol and name, nested, as summary.json has them."""

Summaries = Mapping[str, Summary]
"""By run."""
