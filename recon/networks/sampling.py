"""The variants of a network: what sampling and blur mean together."""

from __future__ import annotations

from recon.errors import InputError, check_choice
from recon.layers import BinomialBlur

SAMPLINGS = ("stride", "lpf", "aps")


def resolve_blur(sampling: str, blur: int | None) -> int:
    """The size of the blur that a (sampling, blur) pair means: stride 1, lpf 3 and aps 1 by default.

    Raises:
        InputError: an unknown sampling, a size outside 1 to 7, stride with a blur, lpf without one.
    """
    check_choice("sampling", sampling, SAMPLINGS)
    size = {"stride": 1, "lpf": 3, "aps": 1}[sampling] if blur is None else blur
    BinomialBlur(size)
    if sampling == "stride" and size != 1:
        raise InputError(f"sampling stride has no blur: for blur {size} write sampling lpf or aps")
    if sampling == "lpf" and size == 1:
        raise InputError("sampling lpf with blur 1 does not blur: write sampling stride, or blur 2 to 7")
    return size
