"""How much faster PSNR, NMSE and SSIM are than a loop over scikit-image's, at equal values.

    python -m benchmarks.metrics --slices 36 --size 320

The loop calls peak_signal_noise_ratio, normalized_root_mse (squared) and structural_similarity slice by slice. Both run
in turn in one process, on the CPU, on the same random float32 images; compiling is not counted. Prints a table; exit
code 1 if a value differs by more than 1e-6.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from benchmarks.harness import interleave
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError
from recon.metrics import nmse, psnr, ssim

LIMIT = 1e-6
ALL = ("psnr", "nmse", "ssim")

SCIKIT_IMAGE: dict[str, Callable[[np.ndarray, np.ndarray, float], float]] = {
    "psnr": lambda p, g, data_range: peak_signal_noise_ratio(g, p, data_range=data_range),
    "nmse": lambda p, g, data_range: normalized_root_mse(g, p) ** 2,
    "ssim": lambda p, g, data_range: structural_similarity(g, p, data_range=data_range),
}
RECON_METRICS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "psnr": lambda p, g, data_range: psnr(p, g, data_range, per_slice=True),
    "nmse": lambda p, g, data_range: nmse(p, g, per_slice=True),
    "ssim": lambda p, g, data_range: ssim(p, g, data_range, per_slice=True),
}


class Outcome(NamedTuple):
    """What some metrics took, in ms, and how far their values are apart."""

    recon_metrics: float
    scikit_image: float
    difference: float


def draw(n_slices: int, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """A reconstruction and its ground truth, ``(slices, size, size)``: uniform noise, plus a little normal noise."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(n_slices, size, size, generator=generator)
    return target + 0.05 * torch.randn(target.shape, generator=generator), target


def compare(names: Sequence[str], preds: Tensor, target: Tensor, repeats: int) -> Outcome:
    """Measure metrics by recon.metrics and by scikit-image's loop, in turn; the medians over the repeats."""
    data_range, pairs = float(target.max()), list(zip(preds.numpy(), target.numpy(), strict=True))

    def by_recon_metrics() -> np.ndarray:
        return torch.stack([RECON_METRICS[name](preds, target, data_range) for name in names]).numpy()

    def by_scikit_image() -> np.ndarray:
        return np.array([[SCIKIT_IMAGE[name](p, g, data_range) for p, g in pairs] for name in names])

    # The first calls also compile, and bring both into the caches.
    difference = float(np.abs(by_recon_metrics() - by_scikit_image()).max())
    times = 1e3 * np.median(interleave([by_recon_metrics, by_scikit_image], repeats), axis=0)
    return Outcome(float(times[0]), float(times[1]), difference)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its table."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.metrics", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--slices", type=int, default=36, help="in the volume (default %(default)s)")
    parser.add_argument("--size", type=int, default=320, help="rows and columns (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=7, help="timed runs of each (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the images (default %(default)s)")
    arguments = parser.parse_args(argv)
    if min(arguments.slices, arguments.size, arguments.repeats) < 1:
        raise InputError("--slices, --size and --repeats must be at least 1")
    preds, target = draw(arguments.slices, arguments.size, arguments.seed)
    rows: list[tuple[str, ...]] = [*((name,) for name in ALL), ALL]
    outcomes = {names: compare(names, preds, target, arguments.repeats) for names in rows}
    data = f"{arguments.slices} x {arguments.size} x {arguments.size} float32, random, seed {arguments.seed}"
    _print(outcomes, f"{data}; {torch.get_num_threads()} threads; medians of {arguments.repeats} interleaved runs")
    largest = max(outcome.difference for outcome in outcomes.values())
    if not largest <= LIMIT:
        print(f"The values differ by {largest:.1e}, more than {LIMIT:.0e}.", file=sys.stderr)
        raise SystemExit(1)


def _print(outcomes: dict[tuple[str, ...], Outcome], caption: str) -> None:
    table = Table("metric", title="recon.metrics against scikit-image", caption=caption)
    for name in ("ours (ms)", "scikit-image (ms)", "ratio", "largest difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for names, (own, loop, difference) in outcomes.items():
        name = "together" if names == ALL else names[0].upper()
        table.add_row(name, f"{own:.2f}", f"{loop:.2f}", f"{loop / own:.1f}", f"{difference:.1e}")
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
