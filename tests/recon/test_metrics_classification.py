"""Answers under shifts: against counting by hand."""

from __future__ import annotations

import pytest
import torch

from recon.metrics import ShiftConsistency, equals_own_shift, logit_change, same_class

LOGITS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, -4.0], [1.0, 0.0, 5.0], [0.0, 0.0, 0.0]])
MOVED = torch.tensor([[1.0, 2.0, 0.0], [0.0, 3.0, -4.0], [1.0, 0.0, 4.0], [0.0, 0.0, 0.0]])


def test_same_class_and_logit_change_by_hand():
    assert same_class(LOGITS, MOVED).tolist() == [False, True, True, True]
    assert logit_change(MOVED, LOGITS).tolist() == pytest.approx([0.5, 0.0, 0.2, 0.0])


def test_answers_are_counted_once_in_any_order_and_batches():
    labels, losses = torch.tensor([0, 1, 0, 2]), torch.tensor([0.5, 0.25, 2.0, 1.25])
    metric = ShiftConsistency(sync_on_compute=False)
    for some in ([2, 3], [0, 1], [1, 2]):  # a distributed sampler repeats some
        metric.update(LOGITS[some], MOVED[some], labels[some], losses[some], torch.tensor(some))
    found = {name: float(value) for name, value in metric.compute().items()}
    assert found == {"accuracy": 0.5, "loss": 1.0, "consistency": 0.75}
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert ShiftConsistency(sync_on_compute=False).compute()["accuracy"].isnan()


def test_channels_must_repeat_together_to_be_a_tie():
    """Red has period 3 down the rows, green across the columns: the image as a whole has neither."""
    position = torch.arange(12) % 3
    red, green = position[:, None].expand(12, 12).double(), position[None].expand(12, 12).double()
    assert equals_own_shift(torch.stack([red, green])[:, None], 4).tolist() == [True, True]
    together = torch.stack([red + 0.5 * green, red + 0.25 * green.square()])
    assert equals_own_shift(together[None], 4).tolist() == [True]  # both repeat after (3, 3)
    noise = torch.randn(1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert equals_own_shift(torch.cat([red[None], noise])[None], 4).tolist() == [False]


def test_logits_with_nan_are_no_answer():
    """argmax of nan is the place of the first nan: the same one twice, and perhaps the label's."""
    nan = torch.full((2, 3), torch.nan)
    assert not same_class(nan, nan).any()
    answers = ShiftConsistency()
    answers.update(nan, nan, torch.zeros(2, dtype=torch.int64), torch.zeros(2), torch.arange(2))
    assert answers.compute()["accuracy"] == 0
    assert answers.compute()["consistency"] == 0
