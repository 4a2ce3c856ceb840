"""What is measured of a trained network, and the rows it gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import MetricCollection
from tqdm import tqdm

from data_prep import FastMRIDataset, Sample, stable_seed
from pipelines.arithmetic import exact_arithmetic
from pipelines.task import ReconstructionTask, denormalise
from recon.layers import circular_shift
from recon.metrics import NMSE, PSNR, SSIM, draw_shifts, equals_own_shift, equivariance, psnr
from recon.networks import record_margins

TIE = 1e-12  # scores are float64 sums; equal ones differ by rounding, 1e-15, and distinct ones by 2e-7 or more


class Row(NamedTuple):
    """One figure of one case; a row of results.csv, without its run."""

    protocol: str
    volume: str
    slice: int | str
    shift_y: int | str
    shift_x: int | str
    metric: str
    value: float | str
    status: str  # ok, exact (outputs equal bit for bit, PSNR_eq is infinite and left out), or tie


@torch.inference_mode()
def measure(
    task: ReconstructionTask,
    dataset: FastMRIDataset,
    n_shifts: int,
    max_shift: int,
    seed: int = 0,
    batch_size: int = 4,
    on_volume: Callable[[int, Tensor], None] | None = None,
) -> list[Row]:
    """Quality of each volume, zero-filled and reconstructed, and equivariance of each slice over drawn shifts.

    The definitions are DESIGN section 6. f(x) is computed once; T f(x) is compared with f(T x) on de-normalised
    images, with the unshifted image's normalisation.

    Args:
        task: in eval mode, on the device to use.
        dataset: the split.
        n_shifts: circular shifts for each slice; 0 measures quality alone.
        max_shift: they are drawn from [-max_shift, max_shift]^2 without (0, 0).
        seed: of the shifts, which depend on (seed, file, slice) alone.
        batch_size: how many shifted images run at once.
        on_volume: called with a volume's index and its reconstruction ``(slices, rows, columns)`` on the CPU.

    Returns:
        The rows of protocols "zero-filled", "plain" and "equivariance".
    """
    qualities = {name: _quality().to(task.device) for name in ("zero-filled", "plain")}
    measured: set[int] = set()
    slices: list[Tensor] = []
    shift_rows: list[Row] = []
    loader = DataLoader(dataset, batch_sampler=[[(0, index)] for index in range(len(dataset))])
    bar = tqdm(total=len(dataset) * (1 + n_shifts), desc="measuring", unit=" image", disable=None, leave=False)
    with bar, exact_arithmetic():
        for batch in loader:
            batch = Sample(*(part.to(task.device) for part in batch))
            volume, number = int(batch.volume), int(batch.slice)
            name = dataset.volumes[volume].name
            with record_margins(task.network) as margins:
                output = task(batch.image)
            reconstruction = denormalise(output, batch)[:, 0]
            if batch.target.numel():
                measured.add(volume)
                target, where = batch.target[:, 0], (batch.data_range, batch.volume, batch.slice)
                qualities["zero-filled"].update(denormalise(batch.image, batch)[:, 0], target, *where)
                qualities["plain"].update(reconstruction, target, *where)
            bar.update()
            if n_shifts:
                margin = float(torch.cat(margins).min()) if margins else None
                tie = bool(equals_own_shift(batch.image[:, 0], task.network.total_stride)) or (
                    margin is not None and margin <= TIE
                )
                shifts = draw_shifts(n_shifts, max_shift, stable_seed("shifts", seed, name, number))
                if margin is not None:
                    shift_rows.append(
                        Row("equivariance", name, number, "", "", "margin", margin, "tie" if tie else "ok")
                    )
                for some in shifts.split(batch_size):
                    shift_rows += _shift_rows(task, batch, output, some, name, tie)
                    bar.update(len(some))
            slices.append(reconstruction.cpu())
            if len(slices) == dataset.volumes[volume].n_slices:
                (on_volume or _nothing)(volume, torch.cat(slices))
                slices.clear()
    names = [dataset.volumes[index].name for index in sorted(measured)]
    return [
        row for protocol, quality in qualities.items() for row in _quality_rows(protocol, quality, names)
    ] + shift_rows


def _nothing(volume: int, reconstruction: Tensor) -> None:
    pass


def _quality_rows(protocol: str, quality: MetricCollection, names: list[str]) -> Iterator[Row]:
    """The rows of each volume; ``names`` are the measured volumes in the order of their numbers."""
    for metric, values in quality.compute().items() if names else ():
        for name, value in zip(names, torch.atleast_1d(values).tolist(), strict=True):
            yield Row(protocol, name, "", "", "", metric, value, "ok")


def _quality() -> MetricCollection:
    kinds = {"psnr": PSNR, "ssim": SSIM, "nmse": NMSE}
    return MetricCollection({name: kind(reduction="none", sync_on_compute=False) for name, kind in kinds.items()})


def _shift_rows(
    task: ReconstructionTask, batch: Sample, output: Tensor, shifts: Tensor, name: str, tie: bool
) -> list[Row]:
    """The rows of some shifts of one slice."""
    n = len(shifts)
    moves = shifts.to(output.device)

    def shifted(image: Tensor) -> Tensor:
        return circular_shift(image.expand(n, *image.shape[1:]), moves)

    preds = denormalise(task(shifted(batch.image)), batch)[:, 0]
    expected = denormalise(shifted(output), batch)[:, 0]
    peak = batch.data_range.expand(n) if batch.target.numel() else None
    error = equivariance(preds, expected, peak)
    columns = {f"{key}_eq": getattr(error, key) for key in ("nmse", "psnr", "ssim")} | {"max_abs": error.max_abs}
    if peak is not None:
        targets = shifted(batch.target)[:, 0]
        before = psnr(expected, targets, peak, per_slice=True)
        columns["dpsnr"] = (before - psnr(preds, targets, peak, per_slice=True)).abs()
    status = "tie" if tie else "ok"
    number = int(batch.slice)
    rows = []
    for i, (equal, (y, x)) in enumerate(zip(error.equal.tolist(), shifts.tolist(), strict=True)):
        for metric, values in columns.items():
            value = "" if metric == "psnr_eq" and equal else float(values[i])
            case = "exact" if equal and status == "ok" else status
            rows.append(Row("equivariance", name, number, y, x, metric, value, case))
    return rows
