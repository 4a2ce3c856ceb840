"""The metrics as torchmetrics classes: collected over batches and processes, one value per volume.

Each slice leaves one row of float64 numbers. The rows of all processes are gathered, so that slices may arrive in
any order, in any batches, on any process, and a slice that a distributed sampler repeated counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from recon.errors import InputError
from recon.metrics.equivariance import EquivarianceError, equivariance
from recon.metrics.quality import Terms, as_slices, nmse_terms, own_range, psnr_terms, ratio, ssim_terms, to_decibel

_OWN_VOLUME = -math.inf  # in the place of a number: the image is a volume by itself


class FigureRows(Metric):
    """A metric whose state is a table of float64 rows.

    The rows are kept flat: torchmetrics lets a process that saw nothing send an empty one-dimensional tensor of the
    metric's dtype, which must fit the others'.
    """

    full_state_update = False
    is_differentiable = False  # the functions are; rows that kept their graph would keep every batch alive

    rows: list[Tensor] | Tensor

    def __init__(self, n_columns: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.n_columns = n_columns
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    @property
    def dtype(self) -> torch.dtype:
        """Always float64, whatever the network's precision is."""
        return torch.float64

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> torch.nn.Module:
        return super()._apply(lambda x: x.to(fn(x.new_empty(0)).device), *args, **kwargs)  # move, never round

    def _append(self, *columns: Tensor) -> None:
        assert isinstance(self.rows, list)
        table = torch.stack([column.detach().to(self.device, torch.float64) for column in columns], dim=1)
        self.rows.append(table.flatten())

    def _table(self) -> Tensor:
        """All rows, ``(n_rows, n_columns)``, on the CPU: they are few, and sums there have a fixed order."""
        rows = dim_zero_cat(self.rows) if len(self.rows) else torch.empty(0, dtype=torch.float64)
        return rows.cpu().view(-1, self.n_columns)


def first_of_each(table: Tensor, n_keys: int) -> Tensor:
    """The rows in ascending order of their first ``n_keys`` numbers; of equal ones, the first."""
    keys, position = table[:, :n_keys].unique(dim=0, return_inverse=True)
    first = torch.zeros(len(keys), dtype=torch.int64)
    return table[first.scatter_reduce(0, position, torch.arange(len(table)), "amin", include_self=False)]


class _VolumeMetric(FigureRows):
    """The ratio of two sums over each volume's slices."""

    has_range = True

    def __init__(self, reduction: str = "mean", data_range: float | None = None, **kwargs: Any) -> None:
        super().__init__(n_columns=4, **kwargs)
        if reduction not in ("mean", "none"):
            raise InputError(f"unknown reduction {reduction!r}: choose mean or none")
        self.reduction, self.data_range = reduction, data_range

    def _terms(self, preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
        raise NotImplementedError

    def update(
        self,
        preds: Tensor,
        target: Tensor,
        data_range: float | Tensor | None = None,
        volume: Tensor | None = None,
        slice: Tensor | None = None,
    ) -> None:
        """Collect a batch of slices.

        Args:
            preds: the reconstructions, ``(batch, rows, columns)`` or ``(batch, 1, rows, columns)``.
            target: the ground truths, shape of ``preds``.
            data_range: R of each slice's volume, ``(batch,)`` or one number, the same for all slices of a volume. None:
                the constructor's; where that is None too, max(g) - min(g) of each image, which must be its own volume.
            volume: which volume each slice belongs to, integers ``(batch,)``. None: each image is one of its own.
            slice: which slice of its volume each is, integers ``(batch,)``. Of equal pairs (volume, slice) the first
                one counts.

        Raises:
            InputError: the images are not two equal stacks; volume without slice, or without any data range; a range
                that is not positive.
        """
        preds, target = as_slices(preds, target)
        data_range = self.data_range if data_range is None else data_range
        if (volume is None) != (slice is None):
            raise InputError("volume and slice name a slice together: give both, or neither")
        if data_range is None and volume is not None and self.has_range:
            raise InputError("the slices of a volume share one data_range: give it, such as the volume's maximum")
        if volume is None or slice is None:
            volume = slice = torch.full((len(target),), _OWN_VOLUME)
        data_range = own_range(target) if data_range is None else data_range
        self._append(volume, slice, *self._terms(preds, target, data_range))

    def compute(self) -> Tensor:
        """The mean over volumes, float64 ``()``; or ``(n_volumes,)``: ascending by number, then those without one."""
        table = self._table()
        alone = table[:, 0] == _OWN_VOLUME
        named = first_of_each(table[~alone], 2)
        volumes, position = named[:, 0].unique(return_inverse=True)
        sums = torch.zeros(len(volumes), 2, dtype=torch.float64).index_add(0, position, named[:, 2:])
        sums = torch.cat([sums, table[alone, 2:]])
        values = self._finish(ratio((sums[:, 0], sums[:, 1]), per_slice=True)).to(self.device)
        return values.mean() if self.reduction == "mean" else values

    def _finish(self, ratios: Tensor) -> Tensor:
        return ratios


class PSNR(_VolumeMetric):
    """Peak signal-to-noise ratio of volumes in dB, :func:`recon.metrics.psnr` collected slice by slice.

    PSNR = 10 log10(R^2 / (sum of squared errors / number of pixels)), both sums over all slices of the volume; inf
    for a volume that is reconstructed without any error.

    Args:
        reduction: "mean" over volumes, or "none" for a value per volume.
        data_range: R of every update that gives none.
        kwargs: of ``torchmetrics.Metric``.

    Raises:
        InputError: an unknown reduction.
    """

    higher_is_better = True

    def _terms(self, preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
        return psnr_terms(preds, target, data_range)

    def _finish(self, ratios: Tensor) -> Tensor:
        return to_decibel(ratios)


class NMSE(_VolumeMetric):
    """Normalised mean squared error of volumes, :func:`recon.metrics.nmse` collected slice by slice.

    NMSE = |g - p|^2 / |g|^2, both norms over all slices of the volume. ``compute`` raises InputError where the
    target is zero in a whole volume.

    Args:
        reduction: "mean" over volumes, or "none" for a value per volume.
        data_range: not needed; taken so that one call builds all three.
        kwargs: of ``torchmetrics.Metric``.

    Raises:
        InputError: an unknown reduction.
    """

    higher_is_better = False
    has_range = False

    def _terms(self, preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
        return nmse_terms(preds, target)


class SSIM(_VolumeMetric):
    """Structural similarity of volumes, :func:`recon.metrics.ssim` collected slice by slice: the mean over slices.

    Args:
        reduction: "mean" over volumes, or "none" for a value per volume.
        data_range: R of every update that gives none.
        kwargs: of ``torchmetrics.Metric``.

    Raises:
        InputError: an unknown reduction.
    """

    higher_is_better = True

    def _terms(self, preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
        return ssim_terms(preds, target, data_range)


class Equivariance(FigureRows):
    """:func:`recon.metrics.equivariance` over all cases (a case is one slice under one shift).

    Args:
        kwargs: of ``torchmetrics.Metric``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(n_columns=1 + len(EquivarianceError._fields), **kwargs)

    def update(
        self, preds: Tensor, target: Tensor, data_range: float | Tensor | None = None, case: Tensor | None = None
    ) -> None:
        """Collect a batch of cases; see :func:`recon.metrics.equivariance`.

        Args:
            preds: f(T x), ``(batch, rows, columns)`` or ``(batch, 1, rows, columns)``.
            target: T f(x), shape of ``preds``.
            data_range: R, one number, ``(batch,)`` or None.
            case: integers from 0 ``(batch,)`` that name the cases; of equal ones the first counts. None: all count.
        """
        names = torch.full((len(preds),), -1) if case is None else case
        self._append(names, *equivariance(preds, target, data_range))

    def compute(self) -> dict[str, Tensor]:
        """The summary, float64 ``()`` each.

        - ``n_cases``, ``n_exact`` (equal in every pixel), ``n_blank`` (T f(x) zero everywhere, f(T x) not, so that
          NMSE is undefined);
        - ``nmse_mean``, ``nmse_max`` over all cases but the blank ones, ``max_abs`` over all;
        - ``psnr_mean``, ``psnr_min``, ``ssim_mean``, ``ssim_min`` over the cases that are not exact.

        No inf enters a mean: a number over no cases is absent from the dictionary.
        """
        rows = self._table()
        named = rows[:, 0] >= 0
        rows = torch.cat([rows[~named], first_of_each(rows[named], 1)]) if named.any() else rows
        table = EquivarianceError(*rows[:, 1:].unbind(1))
        exact, blank = table.equal.bool(), table.nmse.isinf()
        summary = {"n_cases": torch.tensor(len(exact)), "n_exact": exact.sum(), "n_blank": blank.sum()}
        if len(exact):
            summary["max_abs"] = table.max_abs.max()
        if not blank.all():
            summary |= {"nmse_mean": table.nmse[~blank].mean(), "nmse_max": table.nmse[~blank].max()}
        if not exact.all():
            for name, values in (("psnr", table.psnr[~exact]), ("ssim", table.ssim[~exact])):
                summary |= {f"{name}_mean": values.mean(), f"{name}_min": values.min()}
        return {name: value.to(self.device, torch.float64) for name, value in summary.items()}
