"""What is done to a file whatever it holds: flipped bits, truncation, foreign bytes, other files, odd names."""

from __future__ import annotations

import math
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Random = random.Random
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 255, 65_536, 10**5, 10**9, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, -(2**31), -(2**63), 10**30),
    *(0.5, -0.5, 1e-9, 1e-320, 1e30, 1e308, -1e308, math.inf, -math.inf, math.nan),
)
TEXTS = (
    *(
        "",
        " ",
        "\0",
        "null",
        "nan",
        "true",
        "[]",
        "{}",
        "[1, 2]",
        "[/red]",
        "[bold]x",
        "%s%n",
        "../../x",
        "-1",
        "1e3",
        "0x10",
    ),
    *("é", "日本語", "\u202e", "a" * 300, "x" * 5000, "9" * 5000, "a\nb", "~", "/", "!!python/object:os.system", "cpu"),
)
NAMES = (
    *(
        "a b.c",
        "[red]x",
        "file(1)",
        "日本",
        "e\u0301",
        "-x",
        "'\"",
        "x" * 200,
        "y" * 245,
        "$(x)",
        "a;b",
        "new\nline",
        "%s",
    ),
    "latin\udce9",  # the byte of a Latin-1 name
)


def number_or_text(random: Random) -> Any:
    """A value that is seldom the right one."""
    return random.choice(NUMBERS) if random.random() < 0.6 else random.choice(TEXTS)


def flip_bits(content: bytes, random: Random) -> bytes:
    """Up to 16 single bits."""
    found = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 16)) if found else 0):
        found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def flip_in_head(content: bytes, random: Random) -> bytes:
    """Bytes of the first 512, where most formats have their header."""
    found = bytearray(content)
    for _ in range(random.choice((1, 2, 8)) if found else 0):
        found[random.randrange(min(len(found), 512))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
    return bytes(found)


def truncate(content: bytes, random: Random) -> bytes:
    """The beginning."""
    return content[
        : random.choice((0, 1, 4, len(content) // 2, max(len(content) - 1, 0), random.randint(0, len(content))))
    ]


def insert(content: bytes, random: Random) -> bytes:
    """Random bytes somewhere."""
    at = random.randint(0, len(content))
    return content[:at] + random.randbytes(random.choice((1, 3, 8, 1000))) + content[at:]


def cut_out(content: bytes, random: Random) -> bytes:
    """A part is missing."""
    at = random.randint(0, len(content))
    return content[:at] + content[at + random.choice((1, 4, 100, 5000)) :]


def blank(content: bytes, random: Random) -> bytes:
    """A block of zeros, as a bad disk leaves it."""
    at, n = random.randint(0, len(content)), random.choice((8, 512, 4096))
    return content[:at] + b"\0" * len(content[at : at + n]) + content[at + n :]


def repeat(content: bytes, random: Random) -> bytes:
    """Appended to itself, or followed by something else."""
    return content + random.choice((content, b"\0" * 100, b"\n", b"<html>404</html>"))


def foreign(content: bytes, random: Random) -> bytes:
    """Another content altogether."""
    html, utf16 = b"<!DOCTYPE html><html>404 Not Found</html>", "text in UTF-16".encode("utf-16")
    magic = (b"\x89HDF\r\n\x1a\n", b"\x1f\x8b\x08\x00", b"PK\x03\x04" + bytes(100), b"\x80\x02]q\x00.")
    return random.choice((b"", b"\0" * 4096, random.randbytes(2000), html, utf16, b"{}\n", *magic))


BLIND: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(flip_bits, flip_bits, flip_in_head, flip_in_head, truncate, insert, cut_out, blank, repeat, foreign),
)


def damage_bytes(path: Path, random: Random) -> None:
    """Change a file without knowing what it is."""
    path.write_bytes(random.choice(BLIND)(path.read_bytes(), random))


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _lost_link(path: Path) -> None:
    path.symlink_to(path.with_name("lost"))


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def _nothing(path: Path) -> None:
    pass


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def put_in_place(path: Path, random: Random) -> None:
    """Another kind of file in the place of a file: a folder, a pipe, a lost link, a device, or none."""
    path.unlink()
    random.choice((_folder, _pipe, _lost_link, _link_to_itself, _nothing, _device))(path)


def rename(path: Path, random: Random) -> Path:
    """An odd name, mostly with the same suffix."""
    suffix = path.suffix if random.random() < 0.8 else random.choice((path.suffix.upper(), "", ".H5", ".nrrd", ".gz"))
    return path.rename(path.with_name(random.choice(NAMES) + suffix))


def copy_beside(path: Path, random: Random) -> Path:
    """A copy as a browser or an editor leaves it."""
    name = random.choice(("{0} (1){1}", "{0} - Copy{1}", "._{0}{1}", "{0}{1}~", "copy{1}")).format(
        path.stem, path.suffix
    )
    return Path(shutil.copy(path, path.with_name(name)))


def damage_any(path: Path, random: Random) -> None:
    """Mostly the bytes, sometimes the file itself or its name."""
    how = random.choices((damage_bytes, put_in_place, rename, copy_beside), (12, 2, 2, 1))[0]
    how(path, random)
