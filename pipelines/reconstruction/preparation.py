"""What recon-prepare does for one task."""

from __future__ import annotations

from argparse import Action, Namespace
from collections.abc import Callable, Collection
from dataclasses import dataclass

AddFlag = Callable[..., Action]
"""``add_argument`` of a parser or of a group of its flags."""

AddFlags = Callable[[AddFlag], list[Action]]
"""What adds flags, and gives them."""


def _no_flags(add: AddFlag) -> list[Action]:
    return []


@dataclass(frozen=True)
class Preparation:
    """The task's part of each command; a part that cannot work raises InputError.

    Attributes:
        images: what simulate reads, in words.
        written: where simulate writes, in words.
        index: check every file of ``data``, and print what there is.
        simulate: make raw data and targets of ``images``, below ``out``; without images, write the bundled sample. It
            is also told the names of the flags that have another value than their default.
        cache: compute what a training starts from, of ``data`` (None: the bundled sample) and each ``split`` (None:
            all there are); None where a training starts from the files themselves.
        index_flags: add the flags of index that only this task has.
        simulate_flags: add those of simulate; gives them.
        cache_flags: add those of cache.
        imported: what import reads, in words.
        imports: turn measured ``files`` into the task's, below ``out``; None where it cannot.
        import_flags: add those of import; gives them.
    """

    images: str
    written: str
    index: Callable[[Namespace], None]
    simulate: Callable[[Namespace, Collection[str]], None]
    cache: Callable[[Namespace], None] | None = None
    index_flags: AddFlags = _no_flags
    simulate_flags: AddFlags = _no_flags
    cache_flags: AddFlags = _no_flags
    imported: str = ""
    imports: Callable[[Namespace], None] | None = None
    import_flags: AddFlags = _no_flags
