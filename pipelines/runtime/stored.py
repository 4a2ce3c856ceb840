"""Files of our own, read back: whole, of a size that ours have, and of the shape that we write.

Every file that the program wrote itself and reads again goes through here. What is expected is stated once, as the
class that the content becomes; pydantic compares.
"""

from __future__ import annotations

import csv
import io
import json
import math
import stat
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from data_prep.storage.cache import reason
from recon.errors import InputError

LARGEST = 2**28  # bytes of text; a table of a million epochs has half of it

Content = TypeVar("Content")
Count = Annotated[int, Field(ge=0, lt=2**31)]
"""A whole number such as an epoch or a step."""


def damaged(path: Path, what: str) -> InputError:
    """What is said of a file that is not as we wrote it."""
    return InputError(f"{path} is damaged ({what}): restore it from a copy, or give another folder")


def check_regular(path: Path, largest: float = math.inf) -> None:
    """Refuse what is no ordinary file: a pipe would be waited on for ever.

    Raises:
        InputError: it is missing, a folder, a pipe or a device, or larger than ours are.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): give the folder or file that has it") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise InputError(f"{path} is {kind} and no file: give a folder with a file there")
    if status.st_size > largest:
        raise damaged(path, f"it has {status.st_size:,} bytes")


def read_text(path: Path) -> str:
    """The text of a file; bytes of names that are not UTF-8 stay what they were.

    Raises:
        InputError: see :func:`check_regular`; or it cannot be read, or is no text.
    """
    check_regular(path, LARGEST)
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): give the folder or file that has it") from None
    if "\0" in text or text.startswith(("\udcff\udcfe", "\udcfe\udcff")):
        raise damaged(path, "it is no UTF-8 text")
    return text


def read_json(path: Path, kind: type[Content]) -> Content:
    """What a JSON file holds, as an instance of a class.

    Args:
        path: the file.
        kind: a dataclass, a NamedTuple, or a type such as dict[str, float].

    Raises:
        InputError: the file is damaged, or is not of this shape; names the place.
    """
    try:
        content = json.loads(read_text(path), parse_constant=_finite, parse_float=_finite)
    except RecursionError:
        raise damaged(path, "it is nested too deeply") from None
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise damaged(path, str(error)) from None
    return as_kind(content, kind, path)


def as_kind(content: object, kind: type[Content], path: Path) -> Content:
    """Content of a file as an instance of a class.

    Raises:
        InputError: it is not of this shape; names the first place.
    """
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(_short(str(part)) for part in first["loc"])
        raise damaged(path, f"{place}: {first['msg']}" if place else first["msg"]) from None
    except RecursionError:
        raise damaged(path, "it is nested too deeply") from None


def read_figures(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV table of numbers for each epoch, by column; what has no value is "".

    Raises:
        InputError: the file is damaged: a row is not whole, or a field is no number.
    """
    text = read_text(path)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except (csv.Error, ValueError) as error:
        raise damaged(path, str(error) if text else "it is empty") from None
    if not text.endswith("\n"):
        raise damaged(path, "its last row is not whole")
    if "epoch" not in header:
        raise damaged(path, "it has no column 'epoch'")
    for number, row in enumerate(rows, 1):
        if len(row) != len(header):
            raise damaged(path, f"row {number} has {len(row)} fields instead of {len(header)}")
        bad = next((field for field in row if field and not _is_number(field)), None)
        if bad is not None:
            raise damaged(path, f"row {number} has {_short(bad)!r} in the place of a number")
    return [dict(zip(header, row, strict=True)) for row in rows]


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{_short(text)} in the place of a number")
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return len(text) < 40


def _short(text: str) -> str:
    return text if len(text) < 40 else f"{text[:40]}..."
