"""What is said to a user about input that cannot work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from the user.

    The message is one sentence that says what is wrong, where (file, key or side) and what to do. Commands
    print it without a traceback and exit with code 2.
    """


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The hint at the known name that is most like a mistyped one, to be put behind it in a message.

    Args:
        name: what the user wrote.
        known: the names that exist.
        cutoff: how like it must be, 0 (not at all) to 1 (equal); see ``difflib.get_close_matches``.

    Returns:
        " (did you mean 'x'?)", or "" if nothing is near.
    """
    found = difflib.get_close_matches(name, list(known), 1, cutoff)
    return f" (did you mean {found[0]!r}?)" if found else ""


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
        raise InputError(f"unknown {what} {value!r}{nearest(str(value), known)}: choose one of {', '.join(known)}")
