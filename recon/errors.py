"""What is said to a user about input that cannot work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from the user.

    The message is one sentence that says what is wrong, where (file, key or side) and what to do. Commands
    print it without a traceback and exit with code 2.
    """


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
        near = difflib.get_close_matches(str(value), known, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"unknown {what} {value!r}{hint}: choose one of {', '.join(known)}")
