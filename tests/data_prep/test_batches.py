from __future__ import annotations

import itertools
import math

import pytest

from data_prep import ShapeBatchSampler
from recon.errors import InputError

SHAPES = {
    "one shape": [(8, 8, True)] * 7,
    "three shapes": [(8, 8, True), (8, 6, True), (8, 8, False)] * 5 + [(8, 6, True)] * 3,
    "all differ": [(n, n, True) for n in range(5)],
    "single": [(8, 8, True)],
    "empty": [],
}
CASES = [
    pytest.param(shapes, batch_size, shuffle, id=f"{name}-{batch_size}-{shuffle}")
    for (name, shapes), batch_size, shuffle in itertools.product(SHAPES.items(), (1, 4, 100), (True, False))
]


@pytest.mark.parametrize(("shapes", "batch_size", "shuffle"), CASES)
def test_epoch_is_a_partition_into_equal_shapes(shapes, batch_size, shuffle):
    sampler = ShapeBatchSampler(shapes, batch_size, shuffle, seed=3)
    for epoch in (0, 5):
        sampler.set_position(epoch)
        batches = list(sampler)
        assert sorted(key for batch in batches for key in batch) == [(epoch, i) for i in range(len(shapes))]
        assert all(len({shapes[i] for _, i in batch}) == 1 for batch in batches)
        assert all(1 <= len(batch) <= batch_size for batch in batches)
        assert len(batches) == len(sampler) == sum(math.ceil(shapes.count(s) / batch_size) for s in set(shapes))


@pytest.mark.parametrize(("shapes", "batch_size", "shuffle"), CASES)
@pytest.mark.parametrize("n_ranks", [2, 3])
def test_ranks_share_the_epoch_evenly(shapes, batch_size, shuffle, n_ranks):
    whole = list(ShapeBatchSampler(shapes, batch_size, shuffle, seed=1))
    parts = [list(ShapeBatchSampler(shapes, batch_size, shuffle, 1, rank, n_ranks)) for rank in range(n_ranks)]
    assert len({len(part) for part in parts}) == 1
    assert len(parts[0]) == math.ceil(len(whole) / n_ranks)
    dealt = [batch for step in zip(*parts, strict=True) for batch in step]
    assert dealt[: len(whole)] == whole
    assert dealt[len(whole) :] == (whole * n_ranks)[: len(dealt) - len(whole)]


def test_resuming_yields_the_tail_on_every_rank():
    for rank in range(2):
        first = ShapeBatchSampler(SHAPES["three shapes"], 2, True, seed=5, rank=rank, n_ranks=2)
        first.set_position(4)
        whole = list(first)
        for start in range(len(whole) + 1):
            resumed = ShapeBatchSampler(SHAPES["three shapes"], 2, True, seed=5, rank=rank, n_ranks=2)
            resumed.set_position(4, start)
            assert list(resumed) == whole[start:]
            assert list(resumed) == whole[start:], "iterating does not move the position"
            assert len(resumed) == len(whole)


def test_order_is_a_function_of_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = ShapeBatchSampler(SHAPES["three shapes"], 2, True, seed)
        sampler.set_position(epoch)
        return [[index for _, index in batch] for batch in sampler]

    orders = {key: order(*key) for key in itertools.product((0, 1), (0, 1))}
    assert all(order(*key) == value for key, value in orders.items())
    assert len({str(value) for value in orders.values()}) == 4


def test_without_shuffle_the_order_is_the_datasets():
    sampler = ShapeBatchSampler(SHAPES["one shape"], 3, False)
    assert [[index for _, index in batch] for batch in sampler] == [[0, 1, 2], [3, 4, 5], [6]]


def test_bad_arguments():
    with pytest.raises(InputError, match="batch_size is 0"):
        ShapeBatchSampler([1], 0, False)
    with pytest.raises(ValueError, match="rank 2"):
        ShapeBatchSampler([1], 1, False, rank=2, n_ranks=2)
    with pytest.raises(ValueError, match="no batch 2 in epoch 0 of 1"):
        ShapeBatchSampler([1], 1, False).set_position(0, 2)
