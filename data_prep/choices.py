"""One sentence for a value that is none of the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from recon.errors import InputError


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a value that is not among the choices.

    Args:
        what: the setting's name, for the message.
        value: what the user gave.
        choices: the values that exist.

    Raises:
        InputError: names the setting, the value, all choices and the nearest one.
    """
    known = list(choices)
    if value in known:
        return
    nearest = difflib.get_close_matches(str(value), known, n=1)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    raise InputError(f"{what} {value!r} is unknown{hint}: choose one of {', '.join(known)}.")
