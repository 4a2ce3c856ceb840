"""The one exception for what a user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from the user.

    The message is one sentence that says what is wrong, where (file, key or side) and what to do. Commands
    print it without a traceback and exit with code 2.
    """
