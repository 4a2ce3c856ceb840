"""Polyphase components and the two shifts: identities, in 1-D, 2-D and 3-D."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from recon.errors import InputError
from recon.kernels import reference
from recon.layers import align, circular_shift, decimate, merge_phases, restore, split_phases
from recon.layers.phases import _pick_by_index, _place_by_index, phase_offsets
from tests.properties import random_shifts

SHAPES = [((12,), 2), ((12,), 3), ((8, 12), 2), ((6, 9), 3), ((4, 8, 6), 2), ((3, 6, 9), 3), ((8, 4), 4)]
shapes = pytest.mark.parametrize(("size", "stride"), SHAPES)


def image(size: tuple[int, ...], batch: int = 3) -> Tensor:
    return torch.randn(batch, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def all_phases(size: tuple[int, ...], stride: int, batch: int = 3) -> list[Tensor]:
    n_phases = stride ** len(size)
    return [(torch.arange(batch) + first) % n_phases for first in range(n_phases)]


@shapes
def test_components_are_strided_slices_in_row_major_order(size, stride):
    x = image(size)
    components = split_phases(x, stride)
    offsets = phase_offsets(torch.arange(stride ** len(size)), stride, len(size)).tolist()
    assert offsets == sorted(offsets)
    for component, offset in zip(components.unbind(1), offsets, strict=True):
        assert torch.equal(component, x[(..., *(slice(r, None, stride) for r in offset))])


@shapes
def test_merge_inverts_split(size, stride):
    x = image(size)
    assert torch.equal(merge_phases(split_phases(x, stride), stride), x)


@shapes
def test_restore_inverts_align(size, stride):
    x = image(size)
    for phase in all_phases(size, stride):
        assert torch.equal(restore(align(x, phase, stride), phase, stride), x)
    assert align(x, None, stride) is x
    assert restore(x, None, stride) is x


@shapes
def test_weights_of_one_component_are_its_phase_and_others_are_sums(size, stride):
    x, n_phases = image(size), stride ** len(size)
    soft = torch.rand(3, n_phases, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
    for move in (align, restore, decimate):
        by_phase = [move(x, torch.full((3,), phase), stride) for phase in range(n_phases)]
        for phase in all_phases(size, stride):
            assert torch.equal(move(x, one_hot(phase, n_phases).to(x.dtype), stride), move(x, phase, stride))
        expected = sum(soft[:, r].view(3, 1, *(1,) * len(size)) * y for r, y in enumerate(by_phase))
        torch.testing.assert_close(move(x, soft, stride), expected, rtol=1e-12, atol=1e-12)


def test_gradients_of_weights_by_finite_differences():
    x, weights = image((4, 6), batch=1).requires_grad_(), torch.rand(1, 4, dtype=torch.float64).requires_grad_()
    for move in (align, restore, decimate):
        assert torch.autograd.gradcheck(lambda x, weights: move(x, weights, 2), (x, weights))  # noqa: B023


@shapes
def test_decimating_at_a_phase_is_plain_striding_of_the_aligned_image(size, stride):
    x = image(size)
    for phase in all_phases(size, stride):
        expected = align(x, phase, stride)[(..., *(slice(None, None, stride),) * len(size))]
        assert torch.equal(decimate(x, phase, stride), expected)


def test_each_sample_moves_by_its_own_vector():
    x = image((5, 7))
    for shifts in random_shifts(3, (5, 7), 5):
        expected = torch.stack([sample.roll(shift, (1, 2)) for sample, shift in zip(x, shifts.tolist(), strict=True)])
        assert torch.equal(circular_shift(x, shifts), expected)


@shapes
def test_the_forms_for_gpus_do_the_same(size, stride):
    """They run on any device: gathers by index instead of one copy per sample."""
    x = image(size)
    for shifts in random_shifts(3, size, 4):
        assert torch.equal(reference.shift(x, shifts), circular_shift(x, shifts))
    for phase in all_phases(size, stride):
        y = decimate(x.requires_grad_(), phase, stride)
        assert torch.equal(_pick_by_index(x, phase, stride), y)
        assert torch.equal(_place_by_index(y, phase, stride), torch.autograd.grad(y, x, y)[0])


@pytest.mark.parametrize("size", [(4,), (4, 6), (2, 4, 4)])
def test_gradients(size):
    x = image(size).requires_grad_()
    phase = torch.tensor([0, 1, 2 ** len(size) - 1])
    for function in (align, restore, decimate):
        assert torch.autograd.gradcheck(lambda x, f=function: f(x, phase, 2), x)


def test_sizes_that_do_not_divide_are_named_with_both_remedies():
    with pytest.raises(InputError, match=r"width 11 .* stride 2: crop it to 10 or pad it to 12"):
        split_phases(image((4, 11)), 2)
    with pytest.raises(InputError, match="height"):
        decimate(image((5, 4)), None, 2)


def test_wrong_shapes_of_shifts_and_components():
    with pytest.raises(ValueError, match="expected"):
        circular_shift(image((4, 4)), torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="3 phases"):
        merge_phases(torch.zeros(1, 3, 1, 2, 2), 2)
