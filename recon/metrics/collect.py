"""The metrics as torchmetrics classes: collected over batches and processes, one value per volume.

Each slice leaves one row of float64 numbers, and the rows of all processes are gathered at the end. So slices may come
in any order, in any batches and on any process; a slice that a distributed sampler repeats counts once.
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

    The table is kept as one long row: a process that saw nothing sends an empty one-dimensional tensor, and
    torchmetrics joins only tensors of equal dimensions and dtype.

    Args:
        n_columns: of the table.
        kwargs: of ``torchmetrics.Metric``.
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
    """One row for each key, the first of those that have it, in ascending order of the keys.

    Args:
        table: ``(n_rows, n_columns)``.
        n_keys: how many columns, from the left, are the key.

    Example:
        >>> first_of_each(torch.tensor([[2, 10], [1, 20], [2, 30]]), n_keys=1).tolist()
        [[1, 20], [2, 10]]
    """
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
                that of the constructor. If that is None too, max(g) - min(g) of each image; then ``volume`` must be
                None as well. NMSE needs none.
            volume: the number of each slice's volume, integers ``(batch,)``. None: each image is a volume by itself.
            slice: the number of each slice in its volume, integers ``(batch,)``. Of equal pairs (volume, slice) the
                first one counts.

        Raises:
            InputError: the shapes differ or are not stacks of images; an image is complex; ``volume`` is given without
                ``slice`` or without any data range; R is not positive; for SSIM, a side is below 7.
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
        """The values of the volumes.

        Returns:
            float64 ``()``, the mean over volumes; or, with reduction "none", ``(n_volumes,)``: in the order of the
            volumes' numbers, then the images that are volumes by themselves, in the order of their arrival.

        Raises:
            InputError: for NMSE, the target is zero in a whole volume.
        """
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
    """Peak signal-to-noise ratio of volumes in dB: :func:`recon.metrics.psnr`, collected slice by slice.

    PSNR = 10 log10(R^2 / (sum of squared errors / number of pixels)), where the sum and the number are over all slices
    of the volume; inf for a volume that is reconstructed without any error.

    Args:
        reduction: "mean" over volumes, or "none" for a value per volume.
        data_range: R of every update that gives none.
        kwargs: of ``torchmetrics.Metric``.

    Raises:
        InputError: an unknown reduction.

    Example:
        >>> metric, target = PSNR(data_range=1.0), torch.ones(1, 8, 8)
        >>> for number, error in enumerate((0.1, 0.3)):  # the two slices of volume 7, one at a time
        ...     metric.update(target + error, target, volume=torch.tensor([7]), slice=torch.tensor([number]))
        >>> metric.compute()  # 10 log10(1 / mean of 0.1^2 and 0.3^2) = 10 log10(20)
        tensor(13.0103, dtype=torch.float64)
    """

    higher_is_better = True

    def _terms(self, preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
        return psnr_terms(preds, target, data_range)

    def _finish(self, ratios: Tensor) -> Tensor:
        return to_decibel(ratios)


class NMSE(_VolumeMetric):
    """Normalised mean squared error of volumes: :func:`recon.metrics.nmse`, collected slice by slice.

    NMSE = |g - p|^2 / |g|^2, both norms over all slices of the volume. ``compute`` raises InputError where the
    target is zero in a whole volume.

    Args:
        reduction: "mean" over volumes, or "none" for a value per volume.
        data_range: not used; accepted so that PSNR, NMSE and SSIM are constructed alike.
        kwargs: of ``torchmetrics.Metric``.

    Raises:
        InputError: an unknown reduction.

    Example:
        >>> metric, target = NMSE(), torch.ones(1, 8, 8)
        >>> metric.update(1.1 * target, target)  # each image is a volume by itself: 0.1^2
        >>> metric.update(1.2 * target, target)  # 0.2^2
        >>> metric.compute()  # the mean over volumes
        tensor(0.0250, dtype=torch.float64)
    """

    higher_is_better = False
    has_range = False

    def _terms(self, preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
        return nmse_terms(preds, target)


class SSIM(_VolumeMetric):
    """Structural similarity of volumes: :func:`recon.metrics.ssim`, collected slice by slice.

    A volume's value is the mean over its slices.

    Args:
        reduction: "mean" over volumes, or "none" for a value per volume.
        data_range: R of every update that gives none.
        kwargs: of ``torchmetrics.Metric``.

    Raises:
        InputError: an unknown reduction.

    Example:
        >>> metric, target = SSIM(reduction="none", data_range=1.0), torch.ones(2, 8, 8)
        >>> metric.update(target * torch.tensor([1.0, 1.5])[:, None, None], target)  # one equal, one brighter
        >>> metric.compute()
        tensor([1.0000, 0.9231], dtype=torch.float64)
    """

    higher_is_better = True

    def _terms(self, preds: Tensor, target: Tensor, data_range: float | Tensor) -> Terms:
        return ssim_terms(preds, target, data_range)


class Equivariance(FigureRows):
    """Shift equivariance over all cases: :func:`recon.metrics.equivariance`, summarised.

    A case is one slice under one shift.

    Args:
        kwargs: of ``torchmetrics.Metric``.

    Example:
        >>> metric, output = Equivariance(), torch.eye(8)[None]
        >>> metric.update(output.roll(1, -1), output.roll(1, -1))  # f(T x) equals T f(x)
        >>> metric.update(output, output.roll(1, -1))  # f does not follow the shift
        >>> summary = metric.compute()
        >>> [summary[name].item() for name in ("n_cases", "n_exact", "nmse_max")]
        [2.0, 1.0, 2.0]
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(n_columns=1 + len(EquivarianceError._fields), **kwargs)

    def update(
        self, preds: Tensor, target: Tensor, data_range: float | Tensor | None = None, case: Tensor | None = None
    ) -> None:
        """Collect a batch of cases.

        Args:
            preds: f(T x), ``(batch, rows, columns)`` or ``(batch, 1, rows, columns)``.
            target: T f(x), shape of ``preds``.
            data_range: R of PSNR and SSIM, one number or ``(batch,)``; None: max - min of each T f(x).
            case: each case's number, integers from 0 ``(batch,)``; of cases with one number the first counts. None:
                all count.

        Raises:
            InputError: as :func:`recon.metrics.equivariance`.
        """
        names = torch.full((len(preds),), -1) if case is None else case
        self._append(names, *equivariance(preds, target, data_range))

    def compute(self) -> dict[str, Tensor]:
        """The summary by name, each figure float64 ``()``.

        - ``n_cases``; ``n_exact``, those that are equal in every pixel; ``n_blank``, those where T f(x) is zero
          everywhere and f(T x) is not, so that NMSE is undefined;
        - ``nmse_mean`` and ``nmse_max``, over all cases but the blank ones; ``max_abs``, over all;
        - ``psnr_mean``, ``psnr_min``, ``ssim_mean`` and ``ssim_min``, over the cases that are not exact.

        So no inf enters a mean. A figure for which no case is left is not in the dictionary.
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
