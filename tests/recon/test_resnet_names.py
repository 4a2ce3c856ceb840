"""What the names and the settings of the ResNets mean, and which are refused."""

from __future__ import annotations

import pytest
import torch

from recon import networks
from recon.errors import InputError
from recon.networks import ResNet, resolve_architecture
from recon.networks.resnet import ARCHITECTURES

ALL = [(form, name) for form, known in ARCHITECTURES.items() for name in known]


def on_meta(*args, **settings) -> ResNet:
    with torch.device("meta"):
        return ResNet(*args, **settings).eval()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (("resnet18",), ("resnet18", "aps", 1)),
        (("resnet18_aps3",), ("resnet18", "aps", 3)),
        (("resnet50_aps",), ("resnet50", "aps", 1)),
        (("resnet20_lpf5",), ("resnet20", "lpf", 5)),
        (("resnet18_lpf",), ("resnet18", "lpf", 3)),
        (("resnet18_stride",), ("resnet18", "stride", 1)),
        (("resnext50_32x4d_aps7",), ("resnext50_32x4d", "aps", 7)),
        (("resnet34", "lpf"), ("resnet34", "lpf", 3)),
        (("resnet34", None, 5), ("resnet34", "aps", 5)),
        (("resnet34_aps3", "aps", 3), ("resnet34", "aps", 3)),
        (("resnet34_aps", None, 3), ("resnet34", "aps", 3)),
        (("resnet20_lps3",), ("resnet20", "lps", 3)),
    ],
)
def test_names_and_options_mean(given, meant):
    assert resolve_architecture(*given) == meant
    network = on_meta(given[0], "cifar" if meant[0] == "resnet20" else "imagenet", 5, 1, *given[1:])
    assert (network.architecture, network.sampling, network.blur) == meant


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"architecture": "resnet19"}, "did you mean 'resnet1"),
        ({"architecture": "resnet18_apps3"}, "unknown architecture 'resnet18_apps3'"),
        ({"architecture": "resnet18_aps3", "sampling": "lpf"}, "says sampling aps, but sampling lpf is given"),
        ({"architecture": "resnet18_aps3", "blur": 5}, "says blur 3, but blur 5 is given"),
        ({"architecture": "resnet18_aps9"}, "choose 1 to 7"),
        ({"architecture": "resnet18_stride", "blur": 3}, "write sampling lpf or aps"),
        ({"architecture": "resnet20"}, "has no form imagenet: choose one of resnet18"),
        ({"architecture": "resnet101", "form": "cifar"}, "has no form cifar"),
        ({"form": "cifer"}, "did you mean 'cifar'"),
        ({"sampling": "apss"}, "did you mean 'aps'"),
        ({"padding": "reflect"}, "circular, zeros"),
        ({"criterion": "l3"}, "unknown criterion"),
        ({"architecture": "resnet18_lpf", "criterion": "l1"}, "criterion l1 has no effect with sampling lpf"),
        ({"criterion": "linf"}, "linf cannot"),
        ({"criterion": "l1", "blur": 3, "form": "cifar"}, "l1 cannot"),
        ({"n_classes": 0}, "1 or more"),
    ],
)
def test_settings_that_cannot_work(settings, says):
    with pytest.raises(InputError, match=says):
        on_meta(**settings)


@pytest.mark.parametrize(("form", "name"), ALL)
def test_each_has_its_function(form, name):
    build = getattr(networks, name if form == "imagenet" else f"cifar_{name}")
    with torch.device("meta"):
        network = build(sampling="lpf", blur=2)
    assert (network.architecture, network.form, network.sampling, network.blur) == (name, form, "lpf", 2)
    assert network.fc.out_features == (1000 if form == "imagenet" else 10)
    assert network.total_stride == (32 if form == "imagenet" else 4 if name in ("resnet20", "resnet56") else 8)
    assert build.__name__ in networks.__all__
