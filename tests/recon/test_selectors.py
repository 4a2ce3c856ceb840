"""The selector law, the score's precision, and the margin."""

import pytest
import torch
from torch import Tensor

from recon.errors import InputError
from recon.layers import FixedPhase, MaxNorm, merge_phases, phase_margin, split_phases
from recon.layers.selectors import CRITERIA

SIZES = [((8,), 2), ((6, 8), 2), ((6, 9), 3), ((4, 4, 8), 2)]


def obeys_selector_law(selector, x: Tensor, stride: int) -> bool:
    """Equivariant to permuting the phases, invariant to circular shifts inside a phase."""
    components = split_phases(x, stride)
    n_phases, d = components.shape[1], x.dim() - 2
    phase = selector(x, stride)
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        order = torch.randperm(n_phases, generator=generator)
        moved = torch.stack(
            [
                component.roll(torch.randint(0, 9, (d,), generator=generator).tolist(), tuple(range(2, 2 + d)))
                for component in components.unbind(1)
            ],
            dim=1,
        )
        new = selector(merge_phases(moved[:, order], stride), stride)
        if new is None or not torch.equal(
            order[new], torch.zeros(len(x), dtype=order.dtype) if phase is None else phase
        ):
            return False
    return True


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("size", "stride"), SIZES)
def test_max_norm_obeys_the_selector_law(criterion, size, stride):
    x = torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(0))
    assert obeys_selector_law(MaxNorm(criterion), x, stride)


def test_the_fixed_phase_does_not():
    assert not obeys_selector_law(FixedPhase(), torch.randn(3, 4, 8, 8), 2)
    assert not obeys_selector_law(lambda x, stride: torch.zeros(len(x), dtype=torch.int64), torch.randn(3, 4, 8, 8), 2)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_against_a_loop_over_phases(criterion):
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    norm = {"l1": 1, "l2": 2, "linf": float("inf")}[criterion.removesuffix("_min")]
    for sample, phase in zip(x, MaxNorm(criterion)(x, 2).tolist(), strict=True):
        norms = [float(sample[:, i::2, j::2].flatten().norm(norm)) for i in range(2) for j in range(2)]
        best = min(norms) if criterion.endswith("_min") else max(norms)
        assert norms[phase] == best


def test_the_score_is_float64_also_under_autocast_and_for_low_precision():
    x = torch.randn(1, 8, 64, 64)
    exact = MaxNorm().score(x.double(), 2)
    with torch.autocast("cpu", torch.bfloat16):
        score = MaxNorm().score(x, 2)
    assert score.dtype == torch.float64
    torch.testing.assert_close(score, exact, rtol=1e-14, atol=0)
    assert MaxNorm().score(x.bfloat16(), 2).dtype == torch.float64


def test_a_float32_sum_loses_what_tells_near_phases_apart():
    """The control of the float64 score: one pixel is a little brighter, by less than a float32 sum can hold."""
    component = torch.ones(1, 1, 1, 64, 64)
    brighter = component.clone()
    brighter[..., 3, 5] += 1e-5
    x = merge_phases(torch.cat([component, component, component, brighter], dim=1), 2)
    assert MaxNorm()(x, 2).item() == 3
    in_float32 = split_phases(x, 2).square().flatten(2).sum(-1)
    assert in_float32.tolist() == [[4096.0] * 4]


def test_margin():
    scores = torch.tensor(
        [[4.0, 3.0, 1.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -5.0], [0.0, -3.0, -4.0]], dtype=torch.float64
    )
    assert phase_margin(scores).tolist() == [0.25, 0.0, 0.0, 0.5, 1.0]


def test_a_blank_and_a_striped_image_are_ties():
    stripes = torch.tensor([1.0, 2.0]).repeat(4).expand(1, 1, 8, 8)
    for x in (torch.zeros(1, 1, 8, 8), stripes):
        assert phase_margin(MaxNorm().score(x, 2)).item() == 0


def test_unknown_words_name_the_nearest():
    with pytest.raises(InputError, match="did you mean 'l2_min'"):
        MaxNorm("l2min")
    with pytest.raises(InputError, match="output, input"):
        MaxNorm(score_on="middle")
