"""Networks of torchvision, timm, MONAI, fastMRI and deepinv, made exactly equivariant with their own weights."""

import copy
import io
from functools import partial

import deepinv
import pytest
import timm
import torch
from fastmri.models import Unet
from monai.networks.nets import AttentionUnet, BasicUNet, DynUNet, SegResNet
from monai.networks.nets import UNet as MonaiUNet
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.densenet import DenseNet
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet
from torchvision.models.vgg import VGG, make_layers

from recon import InputError, make_equivariant
from recon.layers import FixedPhase, circular_shift
from tests.properties import random_shifts


def vgg():
    with torch.device("meta"):  # not its 100 million weights
        network = VGG(nn.Identity(), init_weights=False)
    network.features = make_layers([8, "M", 8], batch_norm=True)
    network.classifier = nn.Linear(8 * 7 * 7, 5)
    return network


def convnext():
    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, 16, 1), CNBlockConfig(16, None, 1)]
    return ConvNeXt(blocks, layer_scale=1.0, num_classes=5)


def narrow_timm(name, **settings):
    return timm.create_model(name, num_classes=5, **settings)


DYNUNET = partial(DynUNet, filters=[4, 6, 8])
NETWORKS = {
    "torchvision ResNet, basic blocks": (
        partial(TorchvisionResNet, BasicBlock, [1, 1, 1, 1], num_classes=5),
        (3, 32, 64),
    ),
    "torchvision ResNeXt": (
        partial(TorchvisionResNet, Bottleneck, [1, 1, 1, 1], num_classes=5, groups=4, width_per_group=4),
        (3, 32, 32),
    ),
    "torchvision VGG, whose 7 x 7 map becomes a vector": (vgg, (3, 14, 14)),
    "torchvision MobileNetV3": (partial(models.mobilenet_v3_small, num_classes=5), (3, 32, 32)),
    "torchvision ConvNeXt": (convnext, (3, 32, 32)),
    "torchvision DenseNet": (partial(DenseNet, 4, (2, 2, 2), 8, num_classes=5), (3, 32, 32)),
    "timm resnet18": (partial(narrow_timm, "resnet18", channels=(8, 8, 16, 16)), (3, 32, 32)),
    "timm resnetblur18": (partial(narrow_timm, "resnetblur18", channels=(8, 8, 16, 16)), (3, 32, 32)),
    "timm convnext_atto": (
        partial(narrow_timm, "convnext_atto", dims=(8, 8, 16, 16), depths=(1, 1, 1, 1)),
        (3, 32, 32),
    ),
    "timm regnetx_002": (partial(narrow_timm, "regnetx_002"), (3, 32, 32)),
    "MONAI UNet": (partial(MonaiUNet, 2, 1, 2, (4, 6, 8), (2, 2), num_res_units=2), (1, 16, 32)),
    "MONAI UNet in 3-D": (partial(MonaiUNet, 3, 1, 2, (4, 6, 8), (2, 2), num_res_units=1), (1, 8, 8, 16)),
    "MONAI BasicUNet": (partial(BasicUNet, 2, 1, 2, (4, 4, 6, 6, 8, 4)), (1, 32, 32)),
    "MONAI BasicUNet, pixel shuffle": (
        partial(BasicUNet, 2, 1, 2, (4, 4, 6, 6, 8, 4), upsample="pixelshuffle"),
        (1, 32, 32),
    ),
    "MONAI SegResNet": (partial(SegResNet, 2, 8, 1, 2, blocks_down=(1, 1, 1), blocks_up=(1, 1)), (1, 16, 32)),
    "MONAI DynUNet": (partial(DYNUNET, 2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2]), (1, 16, 32)),
    "MONAI DynUNet in 3-D, not cubic": (
        partial(DYNUNET, 3, 1, 2, [3, (1, 3, 3), 3], [1, (1, 2, 2), 2], [(1, 2, 2), 2], res_block=True),
        (1, 4, 8, 16),
    ),
    "MONAI AttentionUnet": (partial(AttentionUnet, 2, 1, 2, (4, 6, 8), (2, 2)), (1, 16, 16)),
    "fastMRI Unet": (partial(Unet, 1, 1, 4, 3), (1, 16, 32)),
    "deepinv UNet": (partial(deepinv.models.UNet, 1, 1, scales=2), (1, 16, 16)),
    "deepinv DnCNN": (partial(deepinv.models.DnCNN, 1, 1, depth=4, nf=8, pretrained=None), (1, 16, 16)),
}


def built(make, shape):
    torch.manual_seed(0)
    network = make().eval()
    for module in network.modules():  # as after a training
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d | nn.InstanceNorm2d) and module.weight is not None:
            nn.init.normal_(module.weight, 1, 0.2)
    return network.double(), torch.randn(2, *shape, dtype=torch.float64)


@torch.no_grad()
def error(network, x, n=3):
    """The largest |f(T x) - T f(x)| / |f(x)|, where T does not move a vector."""
    y, worst = network(x), 0.0
    for shifts in random_shifts(2, x.shape[2:], n):
        expected = circular_shift(y, shifts) if y.dim() == x.dim() else y
        difference = (network(circular_shift(x, shifts)) - expected).flatten(1).norm(dim=1)
        worst = max(worst, float((difference / expected.flatten(1).norm(dim=1)).max()))
    return worst


@pytest.mark.parametrize(("make", "shape"), NETWORKS.values(), ids=NETWORKS)
def test_exact_with_the_same_weights(make, shape):
    network, x = built(make, shape)
    before = copy.deepcopy(network.state_dict())
    converted = make_equivariant(network, x)
    assert error(network, x) > 1e-3
    assert error(converted, x) < 1e-10
    assert isinstance(converted, type(network))
    assert list(converted.state_dict()) == list(before)
    for state in (network.state_dict(), converted.state_dict()):
        assert all(torch.equal(state[key], value) for key, value in before.items())
    assert converted.conversion.error_before > 1e-3 > 1e-10 > converted.conversion.error_after
    converted.float()
    assert error(converted, x.float()) < 1e-5


@pytest.mark.parametrize("name", ["torchvision ResNet, basic blocks", "MONAI UNet"])
def test_it_trains_and_copies_and_pickles(name):
    network, x = built(*NETWORKS[name])
    converted = make_equivariant(network, x)
    file = io.BytesIO()
    torch.save(converted, file)
    file.seek(0)
    copies = [copy.deepcopy(converted), torch.load(file, weights_only=False)]
    for other in copies:
        assert type(other) is type(converted)
        assert torch.equal(other(x), converted(x))
    optimiser = torch.optim.SGD(converted.train().parameters(), 0.1)
    converted(x).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in converted.parameters())
    optimiser.step()
    assert error(converted.eval(), x) < 1e-10
    assert not torch.equal(copies[0](x), converted(x))  # copies are apart, and the original is as it was
    assert torch.equal(next(network.parameters()), next(copies[1].parameters()))
    network.load_state_dict(converted.state_dict())


def test_its_gradient_is_that_of_the_function():
    network, x = built(*NETWORKS["MONAI UNet"])
    converted = make_equivariant(network, x)
    x = x[:1, :, :8, :8].clone().requires_grad_()
    assert torch.autograd.gradcheck(converted, (x,), fast_mode=True)


def test_periodic_padding_alone_is_a_control():
    network, x = built(*NETWORKS["fastMRI Unet"])
    padded = make_equivariant(network, x, FixedPhase())
    assert error(padded, x) > 1e-3
    assert padded.conversion.error_after > 1e-3


@torch.no_grad()
def test_what_lies_far_from_the_border_comes_out_as_it_did():
    network, _ = built(*NETWORKS["deepinv DnCNN"])
    x = torch.zeros(2, 1, 40, 40, dtype=torch.float64)
    x[:, :, 16:24, 16:24] = torch.rand(2, 1, 8, 8)
    ours, theirs = make_equivariant(network, x)(x), network(x)
    torch.testing.assert_close(ours[..., 8:-8, 8:-8], theirs[..., 8:-8, 8:-8])
    assert (ours - theirs).abs().max() > 1e-6  # its biases meet the border


def test_several_arguments_and_several_outputs():
    torch.manual_seed(0)
    denoiser = deepinv.models.DRUNet(1, 1, nc=(4, 4, 6, 6), nb=1, pretrained=None).eval()
    x = torch.rand(2, 1, 32, 32)
    for noise in (0.1, torch.rand(2, 1, 32, 32)):
        converted = make_equivariant(denoiser, (x, noise))
        assert converted(x, sigma=noise).shape == x.shape
        assert converted.conversion.error_after < 1e-5 < 1e-3 < converted.conversion.error_before
    features = timm.create_model("resnet18", features_only=True, channels=(8, 8, 16, 16))
    report = make_equivariant(features.double(), torch.rand(2, 3, 32, 32, dtype=torch.float64)).conversion
    assert report.error_after < 1e-10 < 1e-3 < report.error_before


def test_deep_supervision_in_training():
    torch.manual_seed(0)
    network = DYNUNET(2, 1, 2, [3, 3, 3], [1, 2, 2], [2, 2], deep_supervision=True, deep_supr_num=1)
    x = torch.randn(2, 1, 16, 16)
    converted = make_equivariant(network.train(), x)
    assert converted.training
    assert converted(x).shape == network(x).shape == (2, 2, 2, 16, 16)


def test_the_report_says_what_runs_otherwise():
    network, x = built(*NETWORKS["torchvision ResNet, basic blocks"])
    report = make_equivariant(network, x).conversion
    changes = {change.module: change.how for change in report.changes}
    assert changes["layer1.0.conv1 (Conv2d)"] == "periodic padding"
    assert changes["layer2.0.downsample.0 (Conv2d)"] == "stride 2 on the grid that the content chooses"
    assert report.total_stride == (32, 32)
    assert "maxpool (MaxPool2d)" in str(report)
    assert "multiples of 32 x 32" in str(report)


def test_a_size_that_does_not_fit_is_refused_with_the_multiple():
    network, x = built(*NETWORKS["torchvision ResNet, basic blocks"])
    with pytest.raises(InputError, match="height 40 is not a multiple of the total stride 32: crop it to 32 or pad it"):
        make_equivariant(network, torch.randn(1, 3, 40, 64).double())
    converted = make_equivariant(network, x)
    with pytest.raises(InputError, match="width 48 is not a multiple of the total stride 32"):
        converted(torch.randn(1, 3, 32, 48).double())


def test_what_cannot_be_followed_is_refused():
    network, x = built(*NETWORKS["fastMRI Unet"])
    with pytest.raises(InputError, match="is converted already"):
        make_equivariant(nn.Sequential(make_equivariant(network, x)), x)
    with pytest.raises(InputError, match="needs an image"):
        make_equivariant(network, torch.randn(2, 3))
    dense = DenseNet(4, (2, 2), 8, num_classes=5, memory_efficient=True)
    converted = make_equivariant(dense, torch.randn(2, 3, 32, 32))
    with pytest.raises(InputError, match=r"activation checkpointing.*switch it off"):
        converted.train()(torch.randn(2, 3, 32, 32, requires_grad=True))
