"""How much faster the evaluator is than the loop one would write first.

    python -m benchmarks.evaluation runs/mri/RUN --slices 3 --shifts 16

The loop runs f(x) and f(T x) for every shift, shifts with torch.roll, moves both to the CPU and measures with
scikit-image. The evaluator measures the same figures (protocols plain and equivariance). Both run in turn in one
process on the same slices and shifts. Prints a table in Markdown; exit code 1 if a figure differs by more than 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from skimage.metrics import normalized_root_mse, peak_signal_noise_ratio, structural_similarity

from benchmarks.harness import seconds
from pipelines.measuring.devices import fastest_batch, find_device
from pipelines.measuring.kind import AnyRun
from pipelines.measuring.rows import Row
from pipelines.measuring.settings import Settings
from pipelines.reconstruction.task import batch_of
from pipelines.runs.open import open_run
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.shell import Parser, run_command
from recon.errors import InputError

Figures = dict[tuple[str, int, int, int, str], float]
"""By volume, slice, shift and metric."""


def by_loop(run: AnyRun, shifts: Sequence[tuple[str, int, int, int]]) -> Figures:
    """The figures of each (volume, slice, shift_y, shift_x), as one would first write it."""
    task, figures = run.task, {}
    slices = {(run.dataset.volumes[v].name, s): i for i, (v, s) in enumerate(run.dataset.slices)}
    for volume, number, y, x in shifts:
        sample = run.dataset[slices[volume, number]]
        image = sample.image[None].to(task.device)

        def rolled(picture: torch.Tensor, shift: tuple[int, int] = (y, x)) -> torch.Tensor:
            return torch.roll(picture, shift, (-2, -1))

        def pixels(
            output: torch.Tensor, mean: float = float(sample.mean), std: float = float(sample.std)
        ) -> np.ndarray:
            return (output[0, 0].cpu() * std + mean).double().numpy()

        expected, found = pixels(rolled(task(batch_of(image)))), pixels(task(batch_of(rolled(image))))
        target, peak = rolled(sample.target)[0].double().numpy(), float(sample.data_range)
        before, after = (peak_signal_noise_ratio(target, picture, data_range=peak) for picture in (expected, found))
        error = normalized_root_mse(expected, found) ** 2
        for metric, value in (
            ("nmse_eq", error),
            ("psnr_eq", peak_signal_noise_ratio(expected, found, data_range=peak) if error else np.inf),
            ("ssim_eq", structural_similarity(expected, found, data_range=peak)),
            ("max_abs", np.abs(expected - found).max() / peak),
            ("dpsnr", abs(before - after)),
        ):
            figures[volume, number, y, x, metric] = float(value)
        structural_similarity(target, found, data_range=peak)  # the quality of shifted inputs, pooled by the evaluator
        normalized_root_mse(target, found)
    return figures


def compare(run: AnyRun, settings: Settings, repeats: int) -> tuple[float, float, float, int]:
    """Seconds of the loop and of the evaluator (medians), the largest difference of a figure, and how many figures.

    Raises:
        InputError: the data have no targets.
    """
    if not all(volume.has_target for volume in run.dataset.volumes):
        raise InputError("the benchmark compares quality as well: give a run whose data have targets")
    rows = _rows(run, settings)
    shifts = list(dict.fromkeys((r.volume, int(r.slice), int(r.shift_y), int(r.shift_x)) for r in rows))
    peaks = {volume.name: getattr(volume, "maximum", None) or 1.0 for volume in run.dataset.volumes}
    ours: Figures = {
        (r.volume, int(r.slice), int(r.shift_y), int(r.shift_x), r.metric): (
            np.inf if r.value == "" else float(r.value) / (peaks[r.volume] if r.metric == "max_abs" else 1)
        )
        for r in rows
    }
    with torch.inference_mode(), exact_arithmetic():
        theirs = by_loop(run, shifts)
        both = [(ours[key], value) for key, value in theirs.items()]
        difference = max(abs(a - b) for a, b in both if a != b) if any(a != b for a, b in both) else 0.0
        loop, evaluator = [], []
        for _ in range(repeats):
            loop.append(seconds(lambda: by_loop(run, shifts)))
            evaluator.append(seconds(lambda: _rows(run, settings)))
    return median(loop), median(evaluator), difference, len(both)


def _rows(run: AnyRun, settings: Settings) -> list[Row]:
    rows = run.kind.measure(run.task, run.dataset, ("plain", "equivariance"), settings)
    return [row for row in rows if row.protocol == "equivariance"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its table."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = Parser(prog="python -m benchmarks.evaluation", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--slices", type=int, default=3, help="of the run's data (default %(default)s)")
    parser.add_argument("--shifts", type=int, default=16, help="of each slice (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="medians over so many (default %(default)s)")
    parser.add_argument("--device", default="auto", help="(default: a GPU where there is one)")
    arguments = parser.parse_args(argv)
    run, device = open_run(arguments.run), find_device(arguments.device)
    dataset = run.dataset
    dataset.slices, dataset.shapes = dataset.slices[: arguments.slices], dataset.shapes[: arguments.slices]
    dataset.volumes = dataset.volumes[: dataset.slices[-1][0] + 1]
    settings = Settings(arguments.shifts, batch_size=fastest_batch([run], device, 1))
    run.task.to(device)
    loop, evaluator, difference, n_figures = compare(run, settings, arguments.repeats)
    print("| slices | shifts each | loop (s) | evaluator (s) | ratio | figures | largest difference |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {len(run.dataset)} | {arguments.shifts} | {loop:.2f} | {evaluator:.2f} | {loop / evaluator:.2f} "
        f"| {n_figures} | {difference:.1e} |"
    )
    print(
        f"\n{run.name} on {device}, batches of {settings.batch_size}, medians of {arguments.repeats}, seed 0, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads."
    )
    if difference > 1e-6:
        raise SystemExit(1)


if __name__ == "__main__":
    raise SystemExit(main())
