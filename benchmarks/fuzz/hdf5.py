"""HDF5 files and fastMRI's header, damaged by what the formats allow."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.fuzz.damage import TEXTS, Random, damage_any, number_or_text

TYPES = ("<f4", "<f8", "<f2", ">f4", "<i2", ">i4", "<u1", "<i8", "?", "<c8", ">c8", "<c16", "S8")
SHAPES: tuple[tuple[int, ...], ...] = (
    *((), (0,), (1,), (3, 0, 4), (1, 1, 1), (2, 10**9, 32), (2**40, 32, 32), (2, 32, 10**5), (2, 31, 33), (2, 1, 32)),
    *((2, 2, 2, 2, 2), (1, 32, 32), (7, 32, 32), (2, 32), (2, 1, 32, 32), (2, 4096, 4096)),
)


def _names(file: h5py.File) -> list[str]:
    return [name for name in file if file.get(name, getlink=True).__class__ is h5py.HardLink]


def _arrays(file: h5py.File) -> list[str]:
    """Names of the data sets that may be read: not those that declare very much."""
    return [name for name in _names(file) if isinstance(file[name], h5py.Dataset) and (file[name].size or 0) < 10**7]


def _replace(file: h5py.File, name: str, values: Any, **options: Any) -> None:
    attributes = dict(file[name].attrs)
    del file[name]
    file.create_dataset(name, data=values, **options).attrs.update(attributes)


def remove(file: h5py.File, random: Random) -> None:
    """A dataset is missing."""
    del file[random.choice(_names(file))]


def rename_dataset(file: h5py.File, random: Random) -> None:
    """A dataset has another name."""
    file.move(random.choice(_names(file)), random.choice(("data2", "K-Space", "mask", "reconstruction_rss", "maps")))


def make_group(file: h5py.File, random: Random) -> None:
    """A group in a dataset's place."""
    name = random.choice([*_names(file), "mask", "sensitivity_maps"])
    if name in file:
        del file[name]
    file.create_group(name).attrs["data"] = 1


def change_type(file: h5py.File, random: Random) -> None:
    """The same values in another type."""
    name = random.choice(_arrays(file))
    values = file[name][()]
    if isinstance(values, np.ndarray):
        dtype = random.choice((*TYPES, np.clongdouble, np.longdouble))
        _replace(
            file,
            name,
            np.nan_to_num(np.abs(values)).astype(dtype) if values.dtype.kind == "c" else values.astype(dtype),
        )
    else:
        _replace(file, name, random.choice((1, 1.5, [1, 2], b"", "x" * 70_000)))


def change_shape(file: h5py.File, random: Random) -> None:
    """Axes missing, added, exchanged or cut."""
    name = random.choice(_arrays(file))
    values = np.asarray(file[name][()])
    if values.ndim < 2:
        return _replace(file, name, values.reshape(1, 1))
    axis = random.randrange(values.ndim)
    ways: tuple[Callable[[], np.ndarray], ...] = (
        *(lambda: values[0], lambda: values[None], lambda: values[:, None], lambda: values.swapaxes(0, -1)),
        *(lambda: np.delete(values, 0, axis), lambda: np.take(values, [0], axis), lambda: np.take(values, [], axis)),
        *(lambda: np.repeat(values, 2, axis), lambda: values.reshape(-1), lambda: values.swapaxes(-1, -2)),
    )
    _replace(file, name, random.choice(ways)())


def declare(file: h5py.File, random: Random) -> None:
    """A shape of which nothing, or nearly nothing, is stored."""
    name = random.choice(_arrays(file))
    dtype, shape = file[name].dtype, random.choice(SHAPES)
    del file[name]
    chunks = tuple(min(n, 32) or 1 for n in shape) if shape and np.prod(shape, dtype=float) > 1e8 else None
    file.create_dataset(name, shape, dtype, chunks=chunks)


def change_values(file: h5py.File, random: Random) -> None:
    """NaN, infinity, nothing, or very much."""
    name = random.choice(_arrays(file))
    values = np.asarray(file[name][()])
    if values.dtype.kind not in "fc" or not values.size:
        return
    value = random.choice((np.nan, np.inf, -np.inf, 0, 1, -1, 1e30, 1e-30, 3e38))
    if random.random() < 0.5:
        values = values.copy()
        values.reshape(-1)[random.randrange(values.size)] = value
    elif random.random() < 0.5:
        values = np.full_like(values, value)
    else:
        with np.errstate(all="ignore"):
            values = values * values.dtype.type(value)
    _replace(file, name, values)


def change_attribute(file: h5py.File, random: Random) -> None:
    """Missing, of another type, or odd."""
    name = random.choice([*file.attrs, "mask", "acquisition", "max", "patient_id"])
    if name in file.attrs:
        del file.attrs[name]
    value = random.choice((
        *(None, *TEXTS[:14], np.nan, np.inf, [1.0, 2.0], np.zeros((2, 2)), b"\xff\xfe", h5py.Empty("f"), 2**63),
        np.void(b"abc"),
    ))  # fmt: skip
    if value is not None:
        file.attrs[name] = value.replace("\0", "") if isinstance(value, str) else value


def link(file: h5py.File, random: Random) -> None:
    """A link to itself, to what is not there, or to another file that is gone."""
    name = random.choice([*_names(file), "mask", "sensitivity_maps"])
    if name in file:
        del file[name]
    file[name] = random.choice(
        (h5py.SoftLink(f"/{name}"), h5py.SoftLink("/lost"), h5py.SoftLink("/"), h5py.ExternalLink("lost.h5", "/data"))
    )


def store_virtually(file: h5py.File, random: Random) -> None:
    """A virtual data set whose source is gone."""
    name = random.choice(_arrays(file))
    shape, dtype = file[name].shape or (2, 32, 32), file[name].dtype
    del file[name]
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource("lost.h5", "data", shape)
    file.create_virtual_dataset(name, layout)


def store_otherwise(file: h5py.File, random: Random) -> None:
    """In chunks, compressed, with a checksum: nothing that should matter."""
    name = random.choice(_arrays(file))
    values = file[name][()]
    if isinstance(values, np.ndarray) and values.size:
        _replace(
            file, name, values, chunks=True, compression=random.choice(("gzip", "lzf")), fletcher32=True, shuffle=True
        )


def add_mask(file: h5py.File, random: Random) -> None:
    """A mask of another length or type, or with values that are not 0 and 1."""
    n = random.choice((32, 32, 32, 31, 0, 1, 64))
    mask = np.array([random.random() < 0.4 for _ in range(n)])
    ways: tuple[Any, ...] = (
        *(
            mask,
            mask.astype("f4"),
            mask.astype("i8"),
            mask * 0.3,
            mask * np.nan,
            mask * 2 - 1,
            mask * 0,
            mask * 2.0,
            mask[None],
        ),
        *(mask.astype("S3"), 1, "mask", np.tile(mask, (32, 1)), mask.astype("c8"), mask.astype(">f8")),
    )
    if "mask" in file:
        del file["mask"]
    file["mask"] = random.choice(ways)


def change_header(file: h5py.File, random: Random) -> None:
    """The XML of fastMRI's files."""
    text = file["ismrmrd_header"][()].decode()
    numbers = list(re.finditer(r">([\d.]+)<", text))
    tags = re.findall(r"<(\w+)>", text)
    kind = random.randrange(10)
    if kind < 4 and numbers:
        at = random.choice(numbers)
        text = text[: at.start(1)] + str(number_or_text(random)).replace("\0", "") + text[at.end(1) :]
    elif kind < 6:
        tag = random.choice(tags)
        text = re.sub(
            rf"<{tag}>.*?</{tag}>", random.choice(("", f"<{tag}/>", f"<{tag}>x</{tag}>")), text, count=1, flags=re.S
        )
    elif kind == 6:
        text = text[: random.randrange(len(text))]
    elif kind == 7:
        entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 9))
        text = re.sub(r"<ismrmrdHeader", f'<!DOCTYPE x [<!ENTITY a0 "1">{entities}]><ismrmrdHeader', text)
        text = re.sub(r"<x>\d+</x>", "<x>&a8;</x>", text)
    elif kind == 8:
        text = re.sub(r"\bx>", "X>", text) if random.random() < 0.5 else f"<a>{text.partition('?>')[2]}</a>"
    values: Any = text.encode()
    if kind == 9:
        values = random.choice((b"", b"\xff\xfe", text.encode("utf-16"), [text.encode()], 3.0, text.encode() + b"\0\0"))
    _replace(file, "ismrmrd_header", values)


COMMON = (
    *(remove, rename_dataset, make_group, change_type, change_shape, declare, change_values, change_values),
    *(change_attribute, link, store_virtually, store_otherwise),
)
FASTMRI = (*COMMON, *(add_mask,) * 2, *(change_header,) * 4)


_NOTHING_TO_DAMAGE = (  # after a first damage, or in a file without a header
    *(KeyError, TypeError, ValueError, IndexError, OSError, AttributeError, OverflowError, RuntimeError),
)


def damage_hdf5(path: Path, ways: tuple[Callable[[h5py.File, Random], None], ...], random: Random) -> None:
    """Damage a file once or twice, by what the format allows or blindly."""
    if random.random() < 0.25:
        return damage_any(path, random)
    for _ in range(random.choice((1, 1, 2))):
        with h5py.File(path, "r+") as file, contextlib.suppress(*_NOTHING_TO_DAMAGE):
            random.choice(ways)(file, random)
