"""What is said of failures that are the machine's, not the program's: disks, paths, memory, loading processes."""

from __future__ import annotations

import errno
import os
import re

from recon.errors import InputError

SHOWN = 40  # characters of a long name
CANNOT_WRITE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR),
    errno.ELOOP,
)
NO_SHARED_MEMORY = ("shared memory", "Bus error", "No space left on device", "unable to mmap", "unable to resize")
NO_MEMORY = ("Unable to allocate", "can't allocate memory", "out of memory", "bad_alloc")


def sentence_of(error: Exception) -> str | None:
    """One sentence that says what failed and what to do; None where it is the program's own fault.

    Args:
        error: what ended a command.
    """
    text = str(error).strip()
    if isinstance(error, InputError):
        # one that a loading process found carries a traceback; its own sentence stands last
        text = text.rpartition("InputError: ")[2] if "Original Traceback" in text else text
        return "\\n".join(text.splitlines())  # a name may hold a line break
    if isinstance(error, OSError) and error.errno in CANNOT_WRITE:
        where = f" ({error.filename})" if error.filename else ""
        return f"cannot write{where}: {os.strerror(error.errno)}; give another --out folder"
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return f"{os.strerror(error.errno)}: {str(error.filename)[:SHOWN]}...: give a shorter path"
    if "DataLoader worker" in text or "</torch_" in text:
        return _of_loaders(error, text)
    if isinstance(error, MemoryError) or any(said in text for said in NO_MEMORY):
        what = text.splitlines()[0] if text else "no more is given"
        return (
            f"there is too little memory ({what}): give smaller batches, images or networks, or fewer of them at once"
        )
    return None


def _of_loaders(error: Exception, text: str) -> str | None:
    """Of a process that loads data and has died, or has found no room to hand its batch over."""
    ended = re.search(r"DataLoader worker \(pid.*", text)
    short = isinstance(error, OSError | MemoryError) or any(said in text for said in NO_SHARED_MEMORY)
    if ended is None and not short:
        return None  # an error of ours, wherever it was raised
    said = ended[0] if ended else text.splitlines()[-1]
    return (
        f"a process that loads data has ended ({said.rstrip('. ')}): it may have found too little shared memory "
        "(/dev/shm; in Docker give --shm-size=8g) or memory; load in the main process with --dataset.n_workers=0"
    )
