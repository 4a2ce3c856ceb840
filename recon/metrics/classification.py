"""Classifiers under shifts: whether the answer stays, and how far the logits move."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recon.metrics.collect import FigureRows, first_of_each


def named_class(logits: Tensor) -> Tensor:
    """The class that logits name, argmax_k f(x)_k; -1, which is no class, where one of them is nan.

    Args:
        logits: ``(batch, n_classes)``.

    Returns:
        int64 ``(batch,)``.
    """
    return logits.argmax(1).masked_fill(logits.isnan().any(1), -1)


def same_answer(preds: Tensor, target: Tensor) -> Tensor:
    """Whether two sets of logits name the same class: argmax f(T_a x) = argmax f(T_b x).

    Args:
        preds: logits ``(batch, n_classes)``.
        target: logits of the same images under another shift, shape of ``preds``.

    Returns:
        bool ``(batch,)``; its mean over images and pairs of shifts is the consistency. Logits that name no class
        (nan among them) agree with none.

    Source: Zhang, arXiv 1904.11486, section 4.1; arXiv 2011.14214, section 5.

    >>> same_answer(torch.tensor([[0.1, 0.9], [0.6, 0.4]]), torch.tensor([[0.2, 0.3], [0.4, 0.6]]))
    tensor([ True, False])
    """
    answers = named_class(preds)
    return (answers == named_class(target)) & (answers >= 0)


def logit_change(preds: Tensor, target: Tensor) -> Tensor:
    """How far logits moved: max_k |f(T x)_k - f(x)_k| / max_k |f(x)_k|.

    Args:
        preds: f(T x), ``(batch, n_classes)``.
        target: f(x), shape of ``preds``.

    Returns:
        float64 ``(batch,)``; 0 where both are equal.

    >>> logit_change(torch.tensor([[1.0, -2.0]]), torch.tensor([[1.5, -2.0]]))  # 0.5 / 2
    tensor([0.2500], dtype=torch.float64)
    """
    change = (preds.double() - target.double()).abs().amax(1)
    return torch.where(change == 0, 0.0, change / target.double().abs().amax(1))


class Answers(FigureRows):
    """Accuracy, mean loss and consistency of a classifier over images, each image once.

    Args:
        kwargs: of ``torchmetrics.Metric``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(n_columns=4, **kwargs)

    def update(self, preds: Tensor, shifted: Tensor, target: Tensor, losses: Tensor, case: Tensor) -> None:
        """Collect a batch.

        Args:
            preds: logits f(x), ``(batch, n_classes)``.
            shifted: logits f(T x), shape of ``preds``.
            target: labels, int64 ``(batch,)``.
            losses: of f(x), ``(batch,)``.
            case: integers ``(batch,)`` that name the images; of equal ones the first counts.
        """
        self._append(case, named_class(preds) == target, losses, same_answer(preds, shifted))

    def compute(self) -> dict[str, Tensor]:
        """The means ``accuracy``, ``loss`` and ``consistency``, float64 ``()`` each; nan over no images."""
        accuracy, loss, consistency = first_of_each(self._table(), 1)[:, 1:].mean(0).unbind()
        return {"accuracy": accuracy, "loss": loss, "consistency": consistency}
