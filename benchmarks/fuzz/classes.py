"""Images to classify: CIFAR's pickles, Fashion-MNIST's IDX files and folders of classes."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.fuzz.damage import NAMES, NUMBERS, Random, damage_any, number_or_text, rename
from benchmarks.fuzz.inputs import OF_TASK, Inputs
from benchmarks.fuzz.judge import Command
from pipelines.commands import evaluate, train

MODES = ("1", "L", "P", "LA", "PA", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16", "I;16B")
SUFFIXES = ("png", "JPEG", "gif", "tif", "bmp", "webp", "ppm")


class _Call:
    """Pickled as a call, which must never be made."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch CALLED",)


def images(inputs: Inputs, folder: Path, random: Random) -> Command:
    """A data set of one of the three layouts, damaged, before a training or an evaluation."""
    task = random.choice(("cifar10", "fashion_mnist", "imagenet", "imagenet"))
    data = inputs.copy(task, folder / "data")
    files = sorted(path for path in data.rglob("*") if path.is_file())
    path = random.choice(files)
    if random.random() < 0.3:
        damage_any(path, random)
    elif random.random() < 0.1:
        _archive(data, random)
    else:
        {"cifar10": change_pickle, "fashion_mnist": change_idx, "imagenet": change_folders}[task](path, random)
    out = folder / "out"
    if random.random() < 0.7:
        argv = [f"--task={task}", f"--data={data}", *OF_TASK[task], f"--out={out}"]
        return Command("recon-train", train.main, argv, out, data)
    argv = [
        str(inputs.run(task)),
        f"--data={data}",
        "--split=val",
        "--shifts=1",
        "--max-shift=2",
        "--protocols",
        "plain",
    ]
    return Command("recon-evaluate", evaluate.main, [*argv, f"--out={out}"], out, data)


def change_pickle(path: Path, random: Random) -> None:
    """Keys, types and shapes of a batch; or a pickle that would run something."""
    content = pickle.loads(path.read_bytes())
    key = random.choice(list(content))
    value = content[key]
    kind = random.randrange(7)
    if kind == 0:
        del content[key]
    elif kind == 1:
        content[key] = random.choice((None, 3, [], {}, b"", "x", [None], [[1]], {1: 2}, number_or_text(random)))
    elif kind == 2 and isinstance(value, np.ndarray):
        content[key] = random.choice(
            (value[0], value[:, :-1], value.astype("f8"), value.astype(">u4"), value[:0], value.T, value.astype(object))
        )
    elif kind == 3 and isinstance(value, list):
        content[key] = random.choice((value[:-1], value * 2, [random.choice(NUMBERS) for _ in value], value[::-1]))
    elif kind == 4:
        content = random.choice(([content], None, content[key], {key: content}, (1, 2)))
    elif kind == 5:
        content[random.choice((key, "more"))] = _Call()
    path.write_bytes(pickle.dumps(content, random.choice((0, 2, 3, 4, 5))))


def change_idx(path: Path, random: Random) -> None:
    """Magic numbers, counts and the length of an IDX file, packed anew."""
    try:
        content = bytearray(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error):
        return
    kind = random.randrange(5)
    if kind < 2:
        content[random.choice((0, 1, 2, 3))] = random.choice((0, 1, 2, 3, 4, 5, 8, 9, 11, 13, 14, 255))
    elif kind < 4:
        at = 4 * random.randrange(1, 4)
        content[at : at + 4] = struct.pack(">I", random.choice((0, 1, 2, 9, 11, 27, 29, 2**16, 2**31, 2**32 - 1)))
    else:
        content = content[: random.randrange(len(content))] if random.random() < 0.5 else content + b"\0" * 100
    if random.random() < 0.2:
        path.unlink()
        path = path.with_suffix("")
        path.write_bytes(content)
    else:
        path.write_bytes(gzip.compress(bytes(content)))


def change_folders(path: Path, random: Random) -> None:
    """Images of other modes, formats and sizes; folders that are empty, nested, linked or oddly named."""
    kind, label, split = random.randrange(9), path.parent, path.parent.parent
    if kind < 3:
        _other_image(path, random)
    elif kind == 3:
        (label / random.choice(("notes.txt", ".DS_Store", "Thumbs.db", "x.JPEG", "._0.png"))).write_bytes(b"\0text" * 9)
    elif kind == 4:
        label.rename(label.with_name(random.choice(NAMES)))
    elif kind == 5:
        (split / random.choice(("empty", "n00000003", "n00000001 (1)"))).mkdir()
    elif kind == 6:
        (label / "loop").symlink_to(split, target_is_directory=True)
    elif kind == 7:
        rename(path, random)
    else:
        for other in label.iterdir():
            other.unlink()
        if random.random() < 0.5:
            label.rmdir()


def _other_image(path: Path, random: Random) -> None:
    kind = random.randrange(4)
    path.unlink()
    if kind == 0:  # a header that declares very much
        side = random.choice((10**5, 20_000, 2**31 - 1, 0))
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
        body = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
        return
    size = random.choice(((40, 44), (1, 1), (3000, 2), (2, 3000), (36, 36)))
    mode, suffix = random.choice(MODES), random.choice(SUFFIXES)
    image = Image.new(mode, size, None if mode in ("P", "PA") else random.choice((0, 1)))
    try:
        image.save(
            path.with_suffix(f".{suffix}"), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
        )
    except (OSError, ValueError, KeyError):
        Image.new("RGB", size).save(path, "JPEG" if kind == 1 else "PNG")


def _archive(data: Path, random: Random) -> None:
    """What was downloaded lies beside what was unpacked, or in its place."""
    name = random.choice(("cifar-10-python.tar.gz", "ILSVRC2012_img_train.tar", "train.zip"))
    with tarfile.open(data / name, "w:gz" if name.endswith("gz") else "w") as archive:
        archive.add(data / random.choice(sorted(path.name for path in data.iterdir() if path.name != name)), "x")
    for path in list(data.iterdir()) if random.random() < 0.5 else ():
        if path.name != name:
            path.rename(path.with_name(f"was-{path.name}"))
