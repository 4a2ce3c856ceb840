"""The selector law, the score's precision, and the margin."""

import pytest
import torch
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers import (
    FixedPhase,
    LearnedScore,
    MaxNorm,
    Selector,
    StridedOperation,
    merge_phases,
    phase_margin,
    record_margins,
    split_phases,
)
from recon.layers.selectors import CRITERIA
from recon.networks import UNet
from tests.properties import shift_error

SIZES = [((8,), 2), ((6, 8), 2), ((6, 9), 3), ((4, 4, 8), 2)]


class HalfOfTheChannels(MaxNorm):
    """As somebody may write one: the largest norm over some of the channels."""

    def score(self, x, stride):
        return super().score(x[:, : (x.shape[1] + 1) // 2], stride)


class Smoothest(Selector):
    """One that is no MaxNorm: the component that differs least from itself moved by a pixel."""

    def score(self, x, stride):
        components = split_phases(x.double(), stride)
        return -(components - components.roll(1, -1)).square().flatten(2).sum(-1)


class Elsewhere(nn.Module):
    """One of somebody who knows nothing of Selector."""

    score_on = "output"

    def forward(self, x, stride):
        return MaxNorm("l1")(x, stride)


SELECTORS = {
    **{f"MaxNorm {criterion}": lambda d, criterion=criterion: MaxNorm(criterion) for criterion in CRITERIA},
    "MaxNorm of half of the channels": lambda d: HalfOfTheChannels(),
    "smoothest component": lambda d: Smoothest(),
    "learned score": lambda d: LearnedScore(4, d).eval(),
    "of somebody else": lambda d: Elsewhere(),
}
"""Every selector, of images of 4 channels and d spatial dimensions; a new one is a row here."""


def permuted(components, generator):
    """Components in another order, and that order."""
    order = torch.randperm(components.shape[1], generator=generator)
    return components[:, order], order


def shifted(components, generator):
    """Each component circularly shifted by its own vector; the order stays."""
    d = components.dim() - 3
    moves = torch.randint(0, 9, (components.shape[1], d), generator=generator).tolist()
    axes = tuple(range(2, 2 + d))
    moved = [component.roll(move, axes) for component, move in zip(components.unbind(1), moves, strict=True)]
    return torch.stack(moved, dim=1), torch.arange(len(moved))


LAW = {"equivariant to permuting the phases": permuted, "invariant to shifts inside a phase": shifted}


def obeys(change, selector, x: Tensor, stride: int) -> bool:
    """Whether the selector follows the component that it chose, wherever the change brings it."""
    generator, components = torch.Generator().manual_seed(1), split_phases(x, stride)
    phase = selector(x, stride)
    for _ in range(5):
        changed, order = change(components, generator)
        new = selector(merge_phases(changed, stride), stride)
        if phase is None or new is None:
            phase, new = (torch.zeros(len(x), dtype=torch.int64) for _ in range(2))
        if not torch.equal(order[new], phase):
            return False
    return True


def first_pixel(x, stride):
    """The component whose first pixel is the largest: follows a permutation, but no shift."""
    return split_phases(x, stride)[:, :, 0].flatten(2)[..., 0].argmax(1)


def offset_zero(x, stride):
    """As FixedPhase, said as a phase: follows a shift, but no permutation."""
    return torch.zeros(len(x), dtype=torch.int64)


CONTROLS = {
    "fixed phase": (permuted, FixedPhase()),
    "offset 0": (permuted, offset_zero),
    "first pixel": (shifted, first_pixel),
}


def drawn(size):
    return torch.randn(3, 4, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("size", "stride"), SIZES)
@pytest.mark.parametrize("change", LAW.values(), ids=LAW)
@pytest.mark.parametrize("build", SELECTORS.values(), ids=SELECTORS)
def test_the_selector_law(build, change, size, stride):
    assert obeys(change, build(len(size)), drawn(size), stride)


@pytest.mark.parametrize(("size", "stride"), SIZES)
@pytest.mark.parametrize(("change", "selector"), CONTROLS.values(), ids=CONTROLS)
def test_what_is_no_adaptive_selector_fails_the_law(change, selector, size, stride):
    assert not obeys(change, selector, drawn(size), stride)


@pytest.mark.parametrize("build", SELECTORS.values(), ids=SELECTORS)
def test_every_selector_makes_an_exact_network_and_its_margins_are_recorded(build):
    torch.manual_seed(0)
    selector = build(2)
    selector.score_on = "input" if "linf" in str(selector) else "output"
    network = UNet(widths=(4, 4, 8), norm="instance", selector=selector).double().eval()
    x = torch.randn(2, 1, 16, 24, dtype=torch.float64)
    assert shift_error(network, x) < 1e-10
    with record_margins(network) as margins:
        network(x)
    assert [len(margin) for margin in margins] == ([2, 2] if hasattr(selector, "score") else [])
    assert all((margin > 0).all() for margin in margins)


def test_a_fixed_phase_has_no_margin_and_a_selector_without_a_score_says_so():
    network = UNet(widths=(4, 6), norm="instance", sampling="stride")
    with record_margins(network) as margins:
        network(torch.randn(1, 1, 8, 8))
    assert margins == []
    with pytest.raises(NotImplementedError, match="FixedPhase has no score"):
        FixedPhase().score(torch.zeros(1, 1, 4, 4), 2)


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


@pytest.mark.parametrize(
    ("criterion", "operation"),
    [
        ("linf", StridedOperation(2, pool_size=2)),
        ("linf_min", StridedOperation(2, pool_size=3)),
        ("l1", StridedOperation(2, blurred=True)),
    ],
)
def test_a_selector_refuses_an_operation_whose_scores_tie(criterion, operation):
    with pytest.raises(InputError, match="cannot choose a phase"):
        MaxNorm(criterion).check(operation)
    MaxNorm(criterion, "input").check(operation)
    MaxNorm("l2").check(operation)
    MaxNorm(criterion).check(StridedOperation(3))
