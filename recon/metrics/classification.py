"""Classifiers under shifts: whether the predicted class stays, and how far the logits move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recon.metrics.collect import FigureRows, first_of_each


def predicted_class(logits: Tensor) -> Tensor:
    """The class with the largest logit, argmax_k f(x)_k; the first of equal ones.

    Args:
        logits: f(x), ``(batch, n_classes)``.

    Returns:
        int64 ``(batch,)``; -1, which is no class, where a logit is nan.

    Example:
        >>> predicted_class(torch.tensor([[0.5, 2.0, 1.0], [0.5, torch.nan, 1.0]]))
        tensor([ 1, -1])
    """
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1)


def same_class(preds: Tensor, target: Tensor) -> Tensor:
    """Whether two shifts of an image are given the same class: argmax_k f(T_a x)_k = argmax_k f(T_b x)_k.

    The mean over images and pairs of shifts is the consistency.

    Args:
        preds: the logits f(T_a x), ``(batch, n_classes)``.
        target: the logits f(T_b x) of the same images, shape of ``preds``.

    Returns:
        bool ``(batch,)``; False where a logit is nan.

    Example:
        >>> before, after = torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([[1.0, 2.0], [0.0, 9.0]])
        >>> same_class(before, after)
        tensor([False,  True])

    Source: Zhang, arXiv 1904.11486, section 4.1; Chaman and Dokmanic, arXiv 2011.14214, section 5.
    """
    predicted = predicted_class(preds)
    return (predicted == predicted_class(target)) & (predicted >= 0)


def logit_change(preds: Tensor, target: Tensor) -> Tensor:
    """The relative change of the logits under a shift T: max_k |f(T x)_k - f(x)_k| / max_k |f(x)_k|.

    Args:
        preds: the logits f(T x), ``(batch, n_classes)``.
        target: the logits f(x), shape of ``preds``.

    Returns:
        float64 ``(batch,)``; 0 where both are equal, inf where only f(x) is zero for every class.

    Example:
        >>> logit_change(torch.tensor([[1.0, 4.0]]), torch.tensor([[2.0, 4.0]]))  # |1 - 2| / 4
        tensor([0.2500], dtype=torch.float64)
    """
    change = (preds.double() - target.double()).abs().amax(1)
    return torch.where(change == 0, 0.0, change / target.double().abs().amax(1))


class ShiftConsistency(FigureRows):
    """Accuracy, mean loss and consistency of a classifier over images, each of which counts once.

    Consistency is the mean of :func:`same_class` for x and one shift T x of each image.

    Args:
        kwargs: of ``torchmetrics.Metric``.

    Example:
        >>> metric, logits = ShiftConsistency(), torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> shifted = torch.tensor([[2.0, 0.0], [2.0, 0.0]])  # the second image is given another class
        >>> metric.update(logits, shifted, target=torch.tensor([0, 1]), losses=torch.ones(2), case=torch.arange(2))
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'accuracy': 1.0, 'loss': 1.0, 'consistency': 0.5}
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(n_columns=4, **kwargs)

    def update(self, preds: Tensor, shifted: Tensor, target: Tensor, losses: Tensor, case: Tensor) -> None:
        """Collect a batch.

        Args:
            preds: the logits f(x), ``(batch, n_classes)``.
            shifted: the logits f(T x), shape of ``preds``.
            target: the true classes, int64 ``(batch,)``.
            losses: the loss of each f(x), ``(batch,)``.
            case: each image's number, integers ``(batch,)``; of rows with one number the first counts.
        """
        self._append(case, predicted_class(preds) == target, losses, same_class(preds, shifted))

    def compute(self) -> dict[str, Tensor]:
        """The means ``accuracy``, ``loss`` and ``consistency``, float64 ``()`` each; nan where no image was seen."""
        accuracy, loss, consistency = first_of_each(self._table(), 1)[:, 1:].mean(0).unbind()
        return {"accuracy": accuracy, "loss": loss, "consistency": consistency}
