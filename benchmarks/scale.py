"""What a slice, and starting, costs as the data set, the image and the network grow.

    python -m benchmarks.scale --out docs/images/scale.png

Each point is measured in a process of its own, on one core: fastMRI files of noise (sparse, a slice of each is stored)
are indexed for the first time and again, and slices of all of them are read in random order; U-Nets (sampling aps,
batch 1) reconstruct and train on images of growing size, and grow themselves. Memory is what is added to a process that
has PyTorch loaded. Prints a table in Markdown and draws a plot; Linux only.
"""

from __future__ import annotations

import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib.figure import Figure
from tqdm import tqdm

from benchmarks.fastmri_files import write_volumes
from benchmarks.harness import alone, memory, seconds
from data_prep import FastMRIDataset, ShapeBatchSampler, replace_file
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError
from recon.networks import UNet

VOLUMES, SIZES, WIDTHS = (10, 100, 1000), (64, 128, 256, 512), (4, 8, 16, 32)
LEVELS = 5

Point = dict[str, float]


def data_set(n_volumes: int, n_slices: int, n_reads: int, kspace_size: Sequence[int]) -> Point:
    """Index a folder of so many volumes twice, and read slices of it."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RECON_CACHE"] = f"{folder}/cache"
        image_size = tuple(min(side, 320) for side in kspace_size)
        write_volumes(Path(folder) / "singlecoil_train", n_volumes, n_slices, kspace_size, image_size, n_written=1)
        open_ = partial(FastMRIDataset, Path(folder), "train", training=True, progress=False)
        first = seconds(open_)
        again = median(seconds(open_) for _ in range(3))
        tracemalloc.start()
        data = open_()
        described, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        order = seconds(lambda: list(ShapeBatchSampler(data.shapes, 16, shuffle=True)))
        keys = np.random.default_rng(0).permutation(len(data))
        some, before = [int(key) for key in keys[:n_reads]], memory("VmRSS")
        for key in some:
            data[key]  # opens each file for the first time
        reads = [seconds(partial(data.__getitem__, key)) for key in some]
        return {
            "first index, s": first,
            "index, s": again,
            "order of an epoch, s": order,
            "described in, MB": described / 2**20,
            "slice to input, ms": 1e3 * median(reads),
            "reading takes, MB": memory("VmHWM") - before,
        }


def network(width: int, size: int, repeats: int) -> Point:
    """Reconstruct an image, and train on it."""
    before = memory("VmRSS")
    unet = UNet(widths=[width * 2**level for level in range(LEVELS)], norm="instance", sampling="aps")
    image = torch.randn(1, 1, size, size)

    @torch.inference_mode()
    def reconstruct() -> None:
        unet(image)

    def train() -> None:
        unet.zero_grad()
        unet(image).square().mean().backward()

    point: Point = {"parameters": sum(parameter.numel() for parameter in unet.parameters())}
    for name, step in (("reconstruct", reconstruct), ("train", train)):
        step()
        point[f"{name}, ms"] = 1e3 * median(seconds(step) for _ in range(repeats))
        point[f"{name}, MB"] = memory("VmHWM") - before
    return point


def plot(path: Path, groups: dict[str, dict[float, Point]]) -> None:
    """Draw times above and memory below, and dotted lines in proportion beside what grows."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    axes = figure.subplots(2, len(groups), squeeze=False)
    for column, (title, points) in enumerate(groups.items()):
        for row, is_row in enumerate((lambda name: name.endswith("s"), lambda name: name.endswith("MB"))):
            panel, xs = axes[row, column], list(points)
            for name in filter(is_row, next(iter(points.values()))):
                scale = 1e3 if name.endswith(", s") else 1
                ys = [max(scale * point[name], 1e-2) for point in points.values()]
                (line,) = panel.loglog(xs, ys, "o-", label=name.rpartition(",")[0])
                if ys[-1] / ys[0] > (xs[-1] / xs[0]) ** 0.5:
                    panel.loglog(xs, [ys[-1] * x / xs[-1] for x in xs], ":", color=line.get_color(), linewidth=1)
            panel.set(xlabel=title, ylabel="MB" if row else "ms")
            panel.grid(alpha=0.3)
            if panel.lines:
                panel.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _print(title: str, points: dict[float, Point]) -> None:
    names = list(next(iter(points.values())))
    print(f"| {title} | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
    for x, point in points.items():
        print(f"| {x:g} | {' | '.join(f'{point[name]:,.4g}' for name in names)} |")
    print()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and draw the plot."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--volumes", type=int, nargs="+", default=VOLUMES, help="of files (default 10 100 1000)")
    parser.add_argument("--slices", type=int, default=16, help="in each (default %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rows and columns (default 64 128 256 512)")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="of the first level (default 4 8 16 32)")
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of a network (default %(default)s)")
    parser.add_argument("--out", type=Path, help="PNG file to draw to")
    arguments = parser.parse_args(argv)
    if min(*arguments.volumes, *arguments.widths, arguments.slices, arguments.repeats) < 1:
        raise InputError("--volumes, --slices, --widths and --repeats must be at least 1")
    if any(size % 2 ** (LEVELS - 1) or size < 1 for size in arguments.sizes):
        raise InputError(f"--sizes must be multiples of {2 ** (LEVELS - 1)}")
    if not Path("/proc/self/status").exists():
        raise InputError("memory is read from /proc/self/status, which this system does not have: run it on Linux")
    groups = measure(arguments.volumes, arguments.slices, arguments.sizes, arguments.widths, arguments.repeats)
    for title, points in groups.items():
        _print(title, points)
    if arguments.out is not None:
        plot(arguments.out, groups)


def measure(
    volumes: Sequence[int], n_slices: int, sizes: Sequence[int], widths: Sequence[int], repeats: int
) -> dict[str, dict[float, Point]]:
    """All points of all groups, by what grows in each."""

    def points(values: Iterable[int], point: Callable[[int], Callable[[], Point]]) -> dict[float, Point]:
        return {x: alone(point(x)) for x in tqdm(list(values), disable=None, leave=False)}

    by_volumes = points(volumes, lambda n: partial(data_set, n, n_slices, 200, (640, 368)))
    by_pixels = {
        float(size**2): alone(partial(data_set, 2, n_slices, 50, (2 * size, size)))
        | {key: value for key, value in alone(partial(network, 16, size, repeats)).items() if key != "parameters"}
        for size in sizes
    }
    shown = ("slice to input, ms", "reading takes, MB", "reconstruct, ms", "reconstruct, MB", "train, ms", "train, MB")
    by_pixels = {x: {key: point[key] for key in shown} for x, point in by_pixels.items()}
    by_width = points(widths, lambda width: partial(network, width, 128, repeats))
    by_parameters = {point.pop("parameters"): point for point in by_width.values()}
    return {"volumes": by_volumes, "pixels of an image": by_pixels, "parameters of the network": by_parameters}


if __name__ == "__main__":
    raise SystemExit(main())
