"""What is said aloud about data that can be used, but may not be what it seems."""

from __future__ import annotations

import sys
from functools import cache


@cache
def note(sentence: str) -> None:
    """Print a sentence to standard error, once in a process."""
    print(f"note: {sentence}", file=sys.stderr, flush=True)
