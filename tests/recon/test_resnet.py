"""The ResNets: exact invariance with a control that fails, torchvision's network and weights, sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from benchmarks.resnets import check, photographs
from recon.errors import InputError
from recon.layers import BinomialBlur, MaxNorm, PolyphaseSampling, circular_shift, set_padding_mode
from recon.networks import ResNet, record_margins
from recon.networks.residual import BasicBlock, Bottleneck
from recon.networks.resnet import ARCHITECTURES, Architecture
from tests.properties import random_shifts

ALL = [(form, name) for form, known in ARCHITECTURES.items() for name in known]
NARROW = {
    "basic": Architecture(BasicBlock, (1, 2, 1, 1), (8, 8, 12, 16)),
    "bottleneck": Architecture(Bottleneck, (1, 1, 1, 1), (4, 4, 6, 8)),
    "grouped": Architecture(Bottleneck, (1, 1, 1, 1), (4, 4, 8, 8), groups=2, width_per_group=32),
}


@pytest.fixture
def narrow(monkeypatch):
    """Build narrow networks of one seed by the names in NARROW."""
    for form in ARCHITECTURES:
        for name, kind in NARROW.items():
            kind = kind if form == "imagenet" else kind._replace(depths=kind.depths[:3], widths=kind.widths[:3])
            monkeypatch.setitem(ARCHITECTURES[form], name, kind)

    def build(name="basic", form="imagenet", dtype=torch.float64, **settings):
        torch.manual_seed(0)
        return ResNet(name, form, **({"n_classes": 7} | settings)).to(dtype).eval()

    return build


def on_meta(*args, **settings) -> ResNet:
    with torch.device("meta"):
        return ResNet(*args, **settings).eval()


@torch.no_grad()
def invariance_error(network, x, n=8):
    """The largest |f(T x) - f(x)| / |f(x)| over n circular shifts T."""
    y = network(x)
    changes = [network(circular_shift(x, shifts)) - y for shifts in random_shifts(len(x), x.shape[2:], n)]
    return max(float((change.norm(dim=1) / y.norm(dim=1)).max()) for change in changes)


@pytest.mark.parametrize(("form", "name"), ALL)
def test_every_architecture_untrained_gives_shifted_photographs_the_same_logits(form, name):
    images = photographs(64 if form == "imagenet" else 32)[:1]
    network = ResNet(f"{name}_aps", form).eval()
    for blur in (1, 3, 5, 7):
        for module in network.modules():  # drawing the weights again for each blur would take longer than the check
            if isinstance(module, PolyphaseSampling):
                module.lowpass = BinomialBlur(blur) if blur > 1 else None
        assert repr(network) == repr(on_meta(f"{name}_aps{blur}", form))
        found = check(network, images, n_shifts=8)
        assert found.largest < 1e-5, f"blur {blur}: {found}"
        assert found.n_same == 8
    control = on_meta(f"{name}_stride", form)
    control.load_state_dict(network.state_dict(), assign=True)
    assert check(control, images, n_shifts=8).largest > 1e-3


CASES = {
    "basic": {},
    "bottleneck": {"name": "bottleneck"},
    "grouped": {"name": "grouped", "blur": 3},
    "cifar": {"form": "cifar"},
    "cifar bottleneck": {"form": "cifar", "name": "bottleneck", "blur": 7},
    "blur 2": {"blur": 2},
    "l1": {"criterion": "l1"},
    "linf": {"form": "cifar", "criterion": "linf"},
    "l2_min": {"criterion": "l2_min", "blur": 5},
    "scored on the input": {"score_on": "input"},
    "scored on the input, blurred": {"score_on": "input", "name": "bottleneck", "blur": 4},
    "learned": {"sampling": "lps"},
    "learned, cifar": {"sampling": "lps", "form": "cifar"},
    "learned, of the input, blurred": {"sampling": "lps", "name": "bottleneck", "score_on": "input", "blur": 3},
    "l1 of the input, blurred": {"score_on": "input", "criterion": "l1", "blur": 3},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_aps_is_invariant_in_float64_and_stride_is_not(narrow, settings):
    x = photographs(64)[:2, :, :, :96].double()
    x = torch.cat([x, x.flip(2)[..., :32]], dim=3)  # 64 x 96
    assert invariance_error(narrow(**settings), x) < 1e-10
    control = {k: v for k, v in settings.items() if k in ("name", "form")}
    assert invariance_error(narrow(**control, sampling="stride"), x) > 1e-3
    assert invariance_error(narrow(**settings, padding="zeros"), x) > 1e-5
    assert invariance_error(narrow(dtype=torch.float32, **settings), x.float()) < 1e-5


def test_all_phases_of_a_small_network(narrow):
    x = photographs(8)[:1].double()
    network = narrow(form="cifar")
    shifts = torch.cartesian_prod(torch.arange(8), torch.arange(8))
    with torch.no_grad():
        logits = network(circular_shift(x.expand(64, -1, -1, -1), shifts))
    torch.testing.assert_close(logits, logits[:1].expand_as(logits), rtol=1e-10, atol=1e-10)


def test_lpf_is_better_than_stride_but_not_exact(narrow):
    x = photographs(64).double()
    plain, blurred = (invariance_error(narrow(sampling=sampling), x) for sampling in ("stride", "lpf"))
    assert 1e-3 < blurred < plain


def with_statistics(network):
    """Give each norm weights, biases and running statistics that are not the initial ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    return network


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_stride_with_zeros_is_torchvisions_network_output_for_output(name):
    theirs = with_statistics(torchvision.models.get_model(name))
    ours = on_meta(name, sampling="stride", padding="zeros")
    ours.load_state_dict({key: value.clone() for key, value in theirs.state_dict().items()}, assign=True)
    for size in ((64, 96), (53, 70)):
        x = torch.randn(2, 3, *size)
        for mode in (True, False):
            assert torch.equal(ours.train(mode)(x), theirs.train(mode)(x))
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    circular = on_meta(name, sampling="stride")
    circular.load_state_dict(theirs.state_dict(), assign=True)
    x = torch.randn(2, 3, 64, 96)
    assert not torch.equal(ours(x), circular(x))


@pytest.mark.parametrize("name", ARCHITECTURES["imagenet"])
def test_torchvisions_weights_load_key_for_key_into_every_variant(name):
    with torch.device("meta"):
        expected = torchvision.models.get_model(name)
    for suffix in ("stride", "lpf2", "lpf7", "aps", "aps3", "aps7"):
        for score_on in ("output", "input") if suffix.startswith("aps") else ("output",):
            found = on_meta(f"{name}_{suffix}", score_on=score_on)
            shapes = [[(key, value.shape) for key, value in m.state_dict().items()] for m in (found, expected)]
            assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("name", "n"),
    {
        "resnet20": 272_474,
        "resnet56": 855_770,
        "resnet18": 11_173_962,
        "resnet34": 21_282_122,
        "resnet50": 23_520_842,
    }.items(),
)
def test_cifar_networks_have_their_sizes(name, n):
    assert sum(parameter.numel() for parameter in on_meta(name, "cifar", 10).parameters()) == n


@torch.no_grad()
@pytest.mark.parametrize("kind", [BasicBlock, Bottleneck])
def test_a_block_is_the_strided_one_of_the_input_moved_by_the_phase(kind):
    """Scored on its dense map by hand: relu(norm(conv)) with a 2x2 grid's largest sum of squares."""
    reference = getattr(torchvision.models.resnet, kind.__name__)
    width = 3 * kind.expansion
    shortcut = nn.Sequential(nn.Conv2d(width, width, 1, 2, bias=False), nn.BatchNorm2d(width))
    plain = set_padding_mode(with_statistics(reference(width, 3, 2, shortcut)), "circular").double().eval()
    block = kind(width, 3, 2, nn.Sequential(nn.Conv2d(width, width, 1, 2, bias=False), nn.BatchNorm2d(width)))
    block.load_state_dict(plain.state_dict())
    block.sample_by(PolyphaseSampling(2, MaxNorm()))
    set_padding_mode(block, "circular").double().eval()
    x = torch.randn(6, width, 8, 12, dtype=torch.float64)

    def dense(x):
        if kind is BasicBlock:
            conv, norm = plain.conv1, plain.bn1
        else:
            x, conv, norm = plain.bn1(plain.conv1(x)).relu(), plain.conv2, plain.bn2
        return norm(F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), conv.weight)).relu()

    met = set()
    for sample, found in zip(x, block(x), strict=True):
        y = dense(sample[None])
        energies = {(i, j): float(y[..., i::2, j::2].square().sum()) for i in (0, 1) for j in (0, 1)}
        i, j = max(energies, key=lambda offset: energies[offset])
        met.add((i, j))
        torch.testing.assert_close(plain(sample[None].roll((-i, -j), (2, 3)))[0], found)
    assert len(met) > 1


def test_lpf_blurs_after_the_dense_convolution_and_before_the_shortcuts(narrow):
    """Zhang's order, written out for the whole network."""
    network = narrow(sampling="lpf", blur=3)
    x = photographs(64).double()

    def blur(x):
        kernel = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype) / 4
        weight = (kernel[:, None] * kernel).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight, stride=2, groups=x.shape[1])

    def conv(module, x):
        k = module.kernel_size[0] // 2
        return F.conv2d(F.pad(x, (k, k, k, k), mode="circular") if k else x, module.weight)

    y = blur(network.bn1(conv(network.conv1, x)).relu())
    y = blur(F.max_pool2d(F.pad(y, (1, 1, 1, 1), mode="circular"), 3, 1))
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in layer:
            inner = block.bn1(conv(block.conv1, y)).relu()
            inner = block.bn2(conv(block.conv2, blur(inner) if block.stride == 2 else inner))
            if block.downsample is not None:
                y = block.downsample[1](conv(block.downsample[0], blur(y) if block.stride == 2 else y))
            y = (inner + y).relu()
    torch.testing.assert_close(network(x), network.fc(y.mean((2, 3))))


@pytest.mark.parametrize("settings", [{"blur": 3}, {"name": "bottleneck"}, {"score_on": "input"}])
def test_gradients_flow_and_training_steps_agree_across_shifts(narrow, settings):
    network = narrow(**settings).train()
    x, target = photographs(64).double(), torch.arange(4)
    grads = []
    for shift in (0, 13):
        network.zero_grad()
        shifts = torch.tensor([[0, 0], [1, 2], [3, 5], [20, 9]]) * (shift > 0)
        loss = F.cross_entropy(network(circular_shift(x, shifts)), target)
        loss.backward()
        grads.append([loss.detach()] + [parameter.grad.clone() for parameter in network.parameters()])
    for first, second in zip(*grads, strict=True):
        assert first.abs().max() > 0
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-12)


def test_margins_are_recorded_for_every_strided_operation(narrow):
    x = torch.cat([photographs(64)[:1], torch.zeros(1, 3, 64, 64)]).double()
    for form, n_operations in (("imagenet", 5), ("cifar", 2)):
        for score_on in ("output", "input"):
            with record_margins(narrow(form=form, score_on=score_on)) as margins:
                narrow(form=form)(x)
            assert not margins
            network = narrow(form=form, score_on=score_on)
            with record_margins(network) as margins, torch.no_grad():
                network(x)
            assert [len(margin) for margin in margins] == [2] * n_operations
            assert all(margin[0] > 0 and margin[1] == 0 for margin in margins)  # a blank image is a tie


def test_sizes_that_cannot_work(narrow):
    for settings in ({"sampling": "aps"}, {"sampling": "stride"}, {"sampling": "aps", "padding": "zeros"}):
        with pytest.raises(InputError, match="height 100 is not a multiple of the total stride 32: crop it to 96"):
            narrow(**settings)(torch.zeros(1, 3, 100, 100).double())
    with pytest.raises(InputError, match="width 30 is not a multiple of the total stride 4"):
        narrow(form="cifar")(torch.zeros(1, 3, 32, 30).double())
    for sampling in ("stride", "lpf"):
        assert narrow(sampling=sampling, padding="zeros")(torch.zeros(1, 3, 101, 75).double()).shape == (1, 7)
    x = photographs(32).double()
    with pytest.raises(InputError, match="constant once it is blurred"):
        narrow(blur=3)(x)
    for settings in ({}, {"blur": 3, "score_on": "input"}):
        assert invariance_error(narrow(**settings), x) < 1e-10
