"""Verdicts on claims, from figures alone: holds, fails, or inconclusive.

Quality is compared by an equivalence test with a margin that was fixed before (two one-sided t-tests at 5 %: the 90 %
interval of the mean difference lies within the margin). What is independent is a person; where there is one alone, a
seed of the training: nothing is said of other people then. There are so few that a bootstrap, whose intervals of three
to six values are too narrow, would say more than is known; Student's t is wider.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import ttest_1samp

Word = Literal["holds", "fails", "inconclusive"]
FEWEST = 3  # values that a verdict on quality takes
EXACT = 1e-10  # NMSE_eq of float32: rounding of a network with Fourier transforms reaches 1e-11


class Interval(NamedTuple):
    """A mean with its confidence interval; without one (nan) of fewer than two values."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        """With two decimals and sign; of a single value that alone."""
        if self.n < 2:
            return f"{self.mean:+.2f}"
        return f"{self.mean:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def interval(values: Sequence[float], confidence: float = 0.9) -> Interval:
    """The mean of independent values and Student's interval.

    Example:
        >>> print(interval([0.1, 0.2, 0.3]))
        +0.20 [+0.03, +0.37]
    """
    if len(values) < 2 or np.ptp(values) == 0:
        low, high = (values[0], values[0]) if len(values) >= 2 else (float("nan"), float("nan"))
        return Interval(fmean(values) if values else float("nan"), low, high, len(values))
    ends = ttest_1samp(values, 0).confidence_interval(confidence)
    return Interval(fmean(values), float(ends.low), float(ends.high), len(values))


def equal(differences: Sequence[float], margin: float | None) -> Word:
    """Whether a mean difference is nearer to 0 than the margin; without one nothing is said.

    Example:
        >>> equal([0.05, 0.0, -0.05], margin=0.2), equal([0.5, 0.6, 0.7], margin=0.2), equal([-1.0, 0.0, 1.0], 0.2)
        ('holds', 'fails', 'inconclusive')
    """
    found = interval(differences)
    if found.n < FEWEST or margin is None:
        return "inconclusive"
    if -margin <= found.low and found.high <= margin:
        return "holds"
    return "fails" if found.low > margin or found.high < -margin else "inconclusive"


def larger(differences: Sequence[float], margin: float = 0.0) -> Word:
    """Whether a mean difference is above the margin.

    Example:
        >>> larger([0.5, 0.6, 0.7]), larger([-0.5, -0.6, -0.7]), larger([-1.0, 0.0, 1.0])
        ('holds', 'fails', 'inconclusive')
    """
    found = interval(differences)
    if found.n < FEWEST:
        return "inconclusive"
    return "holds" if found.low > margin else "fails" if found.high < margin else "inconclusive"


def exact(errors: Sequence[float], control: Sequence[float]) -> Word:
    """Whether all errors are rounding's, while those of an ordinary network are not.

    Args:
        errors: the largest NMSE_eq of each network.
        control: the same of the ordinary ones, by the same measurement.

    Example:
        >>> exact([1e-13, 0.0], [1e-3]), exact([1e-13, 1e-5], [1e-3]), exact([1e-13], [1e-13]), exact([], [1e-3])
        ('holds', 'fails', 'inconclusive', 'inconclusive')
    """
    if errors and max(errors) > EXACT:
        return "fails"
    return "holds" if errors and control and min(control) > EXACT else "inconclusive"


def together(words: Sequence[Word]) -> Word:
    """One verdict of several, each on other data: it holds where all do, and fails where one does.

    Example:
        >>> together(["holds", "holds"]), together(["holds", "inconclusive"]), together(["holds", "fails"])
        ('holds', 'inconclusive', 'fails')
    """
    if "fails" in words:
        return "fails"
    return "inconclusive" if "inconclusive" in words or not words else "holds"
