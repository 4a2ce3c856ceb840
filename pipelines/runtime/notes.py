"""What is noteworthy of files, said aloud: once, and by the first process alone."""

from __future__ import annotations

from collections.abc import Iterable

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from data_prep.storage.notes import note


def say_aloud(notes: Iterable[str]) -> None:
    """Print each sentence to standard error, if it was not said before.

    Args:
        notes: sentences, without "note: ".
    """
    for sentence in notes if rank_zero_only.rank == 0 else ():  # type: ignore[attr-defined]
        note(sentence)
