"""What is said to a user about input that cannot work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from the user.

    The message is one sentence that says what is wrong, where (file, key or side) and what to do. Commands
    print it without a traceback and exit with code 2.
    """


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like a given one, for a hint; None where none is.

    Args:
        name: what the user gave.
        known: the names that exist.
        cutoff: how much alike they must be, from 0 to 1.
    """
    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff)), None)


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a value that is not among the known ones.

    Args:
        what: the setting's name, for the message.
        value: what the user gave.
        choices: the values that exist.

    Raises:
        InputError: names the setting, the value, all choices and the nearest one.
    """
    known = list(choices)
    if value not in known:
        near = nearest(str(value), known)
        hint = f" (did you mean {near!r}?)" if near else ""
        raise InputError(f"unknown {what} {value!r}{hint}: choose one of {', '.join(known)}")
