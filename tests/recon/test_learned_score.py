"""The learned score: what it can see, what it draws while it learns, and what reaches its filters."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import one_hot

from recon.errors import InputError
from recon.layers import (
    BinomialBlur,
    LearnedScore,
    MaxNorm,
    decimate,
    merge_phases,
    phase_margin,
    split_phases,
    use_kernels,
)
from recon.networks import UNet, cifar_resnet20, record_margins

NETWORKS = {
    "UNet": lambda **settings: UNet(widths=(4, 6, 8), norm="instance", sampling="lps", **settings),
    "UNet, blurred": lambda **settings: UNet(widths=(4, 6, 8), norm="instance", sampling="lps", blur=4, **settings),
    "UNet, published": lambda **settings: UNet(
        widths=(4, 6, 8), norm="instance", sampling="lps", up_path="published", **settings
    ),
    "ResNet": lambda **settings: cifar_resnet20(in_channels=1, sampling="lps", **settings),
}
EVERY = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)


def images(*size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0))


@EVERY
@pytest.mark.parametrize("score_on", ["output", "input"])
def test_gradients_reach_every_filter(build, score_on):
    network = build(score_on=score_on)
    network(images(2, 1, 16, 16)).square().sum().backward()
    learned = {name: p.grad for name, p in network.named_parameters() if ".selector." in name}
    assert len(learned) == 3 * 2
    assert all(grad.isfinite().all() and grad.abs().max() > 0 for grad in learned.values())


@EVERY
def test_kernels_and_layers_train_alike(build):
    network, x, found = build().double(), images(2, 1, 16, 16).double(), []
    for use in (True, False):
        with use_kernels(use):
            torch.manual_seed(1)
            network.zero_grad()
            y = network(x)
            y.square().sum().backward()
            found.append([y, *(p.grad for p in network.parameters())])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-8)


def test_draws_are_of_one_component_follow_the_generator_and_prefer_the_best():
    selector, x = LearnedScore(3), images(1, 3, 8, 8).expand(500, -1, -1, -1)
    torch.manual_seed(2)
    weights = selector(x, 2)
    torch.manual_seed(2)
    assert torch.equal(selector(x, 2), weights)
    assert weights.dtype == x.dtype
    torch.testing.assert_close(weights.detach(), one_hot(weights.argmax(1), 4).to(x.dtype))
    often = weights.detach().sum(0)
    assert often.argmax() == selector.eval()(x[:1], 2).item()
    assert (often > 10).all()  # all are tried


def test_it_learns_which_component_is_wanted():
    """The one of the finest texture, which is not the one of the largest norm."""
    torch.manual_seed(0)
    selector = LearnedScore(1)
    wanted = torch.arange(64) % 4
    fine = torch.tensor([1.0, -1.0]).repeat(4).expand(8, 8) * torch.tensor([1.0, -1.0]).repeat(4)[:, None]
    coarse = 1.5 * fine.repeat_interleave(2, 0).repeat_interleave(2, 1)[:8, :8]
    is_wanted = one_hot(wanted, 4).bool().view(64, 4, 1, 1, 1)
    x = merge_phases(torch.where(is_wanted, fine, coarse), 2)
    assert not torch.equal(MaxNorm()(x, 2), wanted)
    optimizer = torch.optim.Adam(selector.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        (-decimate(x, selector(x, 2), 2).diff(dim=2).square().mean()).backward()
        optimizer.step()
    assert torch.equal(selector.eval()(x, 2), wanted)


def test_it_sees_a_difference_where_every_filter_is_of_one_sign():
    """Of blurred positive images, whose components have equal sums."""
    x = BinomialBlur(3)(images(4, 6, 16, 16).double().abs() + 1)
    for seed in range(20):
        torch.manual_seed(seed)
        assert phase_margin(LearnedScore(6).score(x, 2)).min() > 1e-8
    sums = split_phases(x, 2).flatten(2).sum(2)
    assert phase_margin(sums).max() < 1e-12  # the control: what a linear score would have


def test_the_score_is_float64_also_under_autocast_and_a_blank_image_ties():
    x, selector = images(2, 8, 16, 16), LearnedScore(8).eval()
    with torch.autocast("cpu", torch.bfloat16):
        score, phase = selector.score(x, 2), selector(x, 2)
    assert score.dtype == torch.float64
    torch.testing.assert_close(score, selector.double().score(x.double(), 2), rtol=1e-12, atol=0)
    assert torch.equal(phase, score.argmax(1))
    for blank in (torch.zeros(1, 8, 8, 8), torch.full((1, 8, 8, 8), 0.3)):
        assert phase_margin(selector.score(blank, 2)).item() < 1e-12
        selector.zero_grad()
        decimate(blank, selector.train()(blank, 2), 2).square().sum().backward()
        assert all(p.grad.isfinite().all() for p in selector.parameters())


def test_weights_of_the_others_load_beside_the_score():
    learned, aps = NETWORKS["UNet"](), UNet(widths=(4, 6, 8), norm="instance")
    with pytest.raises(RuntimeError, match=r"Missing key.*pools.0.selector.filters"):
        learned.load_state_dict(aps.state_dict())
    missing, unexpected = learned.load_state_dict(aps.state_dict(), strict=False)
    assert {name.split(".")[2] for name in missing} == {"selector"}
    assert unexpected == []
    missing, unexpected = aps.load_state_dict(learned.state_dict(), strict=False)
    assert missing == []


def test_margins_are_recorded_and_sizes_known_on_the_meta_device():
    network, x = NETWORKS["UNet"]().eval(), images(2, 1, 16, 16)
    with record_margins(network) as margins:
        y = network(x)
    assert [len(margin) for margin in margins] == [2, 2]
    assert all((margin > 0).all() for margin in margins)
    for mode in (True, False):
        assert network.to("meta").train(mode)(x.to("meta")).shape == y.shape


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n_channels": 0}, "n_channels 0"),
        ({"n_channels": 1, "n_features": 0}, "n_features 0"),
        ({"n_channels": 1, "temperature": float("nan")}, "give a positive number"),
        ({"n_channels": 1, "score_on": "middle"}, "output, input"),
    ],
)
def test_settings_that_cannot_work(settings, says):
    with pytest.raises(InputError, match=says):
        LearnedScore(**settings)
