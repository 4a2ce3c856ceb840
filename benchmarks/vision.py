"""How many images a second one core makes ready: JPEGs by three ways of the same recipe, and small images in memory.

    python -m benchmarks.vision --images 100

The JPEGs are 500 x 375, smooth colours in noise, written here at quality 95 into a temporary folder; each is decoded,
its shorter side resized to 256, the centre 224 x 224 cropped and normalised. Then the bundled Fashion-MNIST, through
PyTorch's loader in batches of 256. All in one thread without workers, by the CPU's time, in turn; medians. Prints a
table in Markdown; exit code 1 if the data set's images differ from Pillow's own by more than one grey level.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from data_prep import FashionMNISTDataset, ImageNetDataset, LabelledDataset, ShapeBatchSampler
from data_prep.labelled.image_folder import check_image, read_image
from data_prep.labelled.imagenet import MEAN, STD
from data_prep.storage.index import index_file
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError

ROWS, COLUMNS = 375, 500
DATA_SET, PILLOW = "the data set: Pillow decodes, torchvision resizes bytes", "Pillow decodes and resizes"
LIMIT = 1.01  # grey levels


class Way(NamedTuple):
    """How images are made ready.

    Attributes:
        name: for the table.
        work: makes all of them.
        n_images: how many.
        difference: from Pillow's own, the largest, in grey levels; None where it is another task.
    """

    name: str
    work: Callable[[], object]
    n_images: int
    difference: float | None


def write_jpegs(folder: Path, n_images: int, seed: int) -> Path:
    """Write `<folder>/train/images/*.JPEG`; returns `folder`."""
    (folder / "train" / "images").mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(n_images):
        coarse = random.integers(0, 256, (12, 16, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC), np.float32)
        pixels = (smooth + random.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "train" / "images" / f"{number:05d}.JPEG", quality=95)
    return folder


def recipe(*first: Callable[[object], object]) -> v2.Compose:
    """Resize, crop and normalise, after `first`."""
    resize = (v2.Resize(256, antialias=True), v2.CenterCrop(224), v2.ToImage(), v2.ToDtype(torch.float32, scale=True))
    return v2.Compose([*first, *resize, v2.Normalize(MEAN, STD)])


def with_pillow(path: Path) -> Tensor:
    """The recipe as torchvision's ImageFolder with transforms of Pillow's images runs it."""
    with Image.open(path) as image:
        return recipe()(image.convert("RGB"))


def in_float(path: Path) -> Tensor:
    """The recipe, resized in floating point, that is without rounding to bytes in between."""
    return recipe(v2.ToDtype(torch.float32, scale=True))(read_image(path))


def with_torchvision(path: Path) -> Tensor:
    """The recipe with torchvision's decoder, deprecated since 0.29."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = torchvision.io.decode_jpeg(torchvision.io.read_file(str(path)), torchvision.io.ImageReadMode.RGB)
    return recipe()(image)


def jpeg_ways(folder: Path) -> list[Way]:
    """All ways to make the JPEGs of a folder ready, each with its difference from Pillow's."""
    data = ImageNetDataset(folder, "train", progress=False)
    drawn = ImageNetDataset(folder, "train", random_crop=True, training=True, progress=False)
    paths = [folder / "train" / data.sample_name(index) for index in range(len(data))]
    of_path = {PILLOW: with_pillow, "Pillow decodes, torchvision resizes floats": in_float}
    if hasattr(torchvision.io, "decode_jpeg"):
        of_path["torchvision decodes (deprecated) and resizes bytes"] = with_torchvision
    expected = [with_pillow(path) for path in paths[:8]]
    found = {name: [make(path) for path in paths[:8]] for name, make in of_path.items()}
    found[DATA_SET] = [data[index].image for index in range(len(expected))]

    def difference(name: str) -> float:
        pairs = zip(found[name], expected, strict=True)
        return max(float((data.denormalise(a) - data.denormalise(b)).abs().max()) for a, b in pairs) * 255

    ways = [Way(DATA_SET, partial(one_by_one, data), len(paths), difference(DATA_SET))]
    for name, make in of_path.items():
        ways.append(Way(name, partial(each, make, paths), len(paths), difference(name)))
    ways.append(Way("the data set in training with random_crop", partial(one_by_one, drawn), len(paths), None))
    ways.append(Way("the check of each file, once", partial(each, check_image, paths), len(paths), None))
    return ways


def small_ways() -> list[Way]:
    """The bundled Fashion-MNIST in batches and image by image, with and without augmentation."""
    ways = []
    for training, how in ((False, "no augmentation"), (True, "crop protocol in training")):
        data = FashionMNISTDataset(None, "train", protocol="crop", training=training)
        loader = DataLoader(data, batch_sampler=ShapeBatchSampler(data.shapes, 256, shuffle=True))
        ways.append(Way(f"Fashion-MNIST in batches, {how}", partial(list, loader), len(data), None))
        ways.append(Way(f"Fashion-MNIST one by one, {how}", partial(one_by_one, data), len(data), None))
    return ways


def one_by_one(data: LabelledDataset) -> None:
    """Every sample of a data set, in its first epoch."""
    for index in range(len(data)):
        data[index]


def each(make: Callable[[Path], object], paths: Sequence[Path]) -> None:
    """Do something with every file."""
    for path in paths:
        make(path)


def measure(ways: Sequence[Way], repeats: int) -> list[float]:
    """Images a second of CPU time of each way: medians over interleaved turns."""
    for way in ways:
        way.work()  # brings files and code into the caches
    seconds = np.array([[_time(way.work) for way in ways] for _ in range(repeats)])
    return [way.n_images / median(column) for way, column in zip(ways, seconds.T, strict=True)]


def _time(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its table."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.vision", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=100, help="JPEGs (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="medians over so many (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the JPEGs (default %(default)s)")
    arguments = parser.parse_args(argv)
    if min(arguments.images, arguments.repeats) < 1:
        raise InputError("--images and --repeats must be at least 1")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            ways = [*jpeg_ways(write_jpegs(Path(folder), arguments.images, arguments.seed)), *small_ways()]
            speeds = measure(ways, arguments.repeats)
            index_file(Path(folder) / "train", "images").unlink(missing_ok=True)
    finally:
        torch.set_num_threads(n_threads)
    print("| | images/s per core | largest difference from Pillow (grey levels) |")
    print("|---|---|---|")
    for way, speed in zip(ways, speeds, strict=True):
        print(f"| {way.name} | {speed:.0f} | {'' if way.difference is None else f'{way.difference:.2f}'} |")
    print(
        f"\n{arguments.images} JPEGs of {COLUMNS} x {ROWS}, seed {arguments.seed}; medians of {arguments.repeats} "
        f"interleaved turns; torch {torch.__version__}, torchvision {torchvision.__version__}, "
        f"Pillow {Image.__version__}."
    )
    if not (ways[0].difference or 0) <= LIMIT:
        print(f"The images differ by {ways[0].difference:.2f} grey levels.", file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
