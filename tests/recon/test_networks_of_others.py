"""Weights of other programs' networks: MONAI's BasicUNet, and what the published APS networks do otherwise."""

import pytest
import torch
import torchvision
from monai.networks.nets import BasicUNet
from torch import nn

from recon.errors import InputError
from recon.layers import BinomialBlur, use_kernels
from recon.networks import ResNet, UNet, from_basic_unet, transposed_weight
from tests.properties import shift_error

FEATURES = {
    "one width twice": (4, 4, 6, 8, 10, 4),
    "MONAI's example, narrow": (4, 8, 12, 16, 20, 8),
    "another last width": (4, 6, 8, 10, 12, 5),
}


def basic_unet(spatial_dims=2, features=(4, 4, 6, 8, 10, 4), **settings):
    torch.manual_seed(0)
    network = BasicUNet(spatial_dims, 2, 3, features, **settings)
    for module in network.modules():  # as after a training
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d | nn.InstanceNorm3d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


@pytest.mark.parametrize("features", FEATURES.values(), ids=FEATURES)
@pytest.mark.parametrize("settings", [{}, {"norm": "batch", "act": "relu"}, {"act": "gelu", "dropout": 0.2}])
@torch.no_grad()
def test_a_basic_unet_output_for_output_and_then_equivariant(features, settings):
    theirs = basic_unet(features=features, **settings)
    x = torch.randn(2, 2, 32, 48)
    plain = from_basic_unet(theirs, sampling="stride", padding="zeros")
    torch.testing.assert_close(plain(x), theirs(x), rtol=1e-4, atol=1e-5)
    with use_kernels(False):
        assert torch.equal(plain(x), theirs(x))
    exact = from_basic_unet(theirs).double()
    assert not exact.training
    assert shift_error(exact, x.double(), n=4) < 1e-10
    assert shift_error(plain.double(), x.double(), n=4) > 1e-3
    before = theirs(x)
    nn.init.zeros_(exact.head.weight)  # copies: the BasicUNet stays as it was
    assert torch.equal(theirs(x), before)


@torch.no_grad()
def test_a_basic_unet_in_3d():
    theirs = basic_unet(3)
    x = torch.randn(1, 2, 16, 32, 16)
    plain = from_basic_unet(theirs, sampling="stride", padding="zeros")
    assert torch.equal(plain(x), theirs(x))
    assert from_basic_unet(theirs, blur=3, score_on="input")(x).shape == theirs(x).shape


def test_its_weights_train_on():
    theirs = basic_unet().train()
    ours = from_basic_unet(theirs)
    assert ours.training
    ours(torch.randn(1, 2, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in ours.parameters())


def test_what_is_no_such_network_is_refused():
    with pytest.raises(InputError, match='upsample="deconv"'):
        from_basic_unet(basic_unet(upsample="nontrainable"))
    with pytest.raises(InputError, match="norm is what the BasicUNet has"):
        from_basic_unet(basic_unet(), norm="batch")
    with pytest.raises(InputError, match="UNet is no BasicUNet"):
        from_basic_unet(UNet(widths=(4, 8)))


class PublishedUNet(nn.Module):
    """As the papers put it: dense pool, blur, the component of the largest norm; zeros between, blur, convolution.

    The convolutions of the way up are ordinary ones, 2 x 2, padded behind; other layers are ours.
    """

    def __init__(self, ours, convolutions, blur):
        super().__init__()
        self.ours, self.convolutions, self.blur = ours, convolutions, blur

    def level(self, level, x):
        fine = self.ours.encoders[level](x)
        if level == self.ours.n_levels:
            return fine
        dense = self.blur(nn.functional.max_pool2d(nn.functional.pad(fine, (0, 1, 0, 1), mode="circular"), 2, 1))
        components = [(i, j, dense[:, :, i::2, j::2]) for i in (0, 1) for j in (0, 1)]
        row, column, coarse = max(components, key=lambda one: float(one[2].norm()))
        coarse = self.level(level + 1, coarse)
        zeros = coarse.new_zeros(*coarse.shape[:2], *fine.shape[2:])
        zeros[:, :, row::2, column::2] = coarse
        convolution = self.convolutions[level]
        up = convolution(nn.functional.pad(zeros, (0, 1, 0, 1), mode="circular"))
        return self.ours.decoders[level](torch.cat([fine, self.blur(up)], 1))

    def forward(self, x):
        return self.ours.head(self.level(0, x))


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("blur", [1, 2, 3, 4])
@torch.no_grad()
def test_the_published_unet_with_its_own_kernels(blur, kernels):
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(6, 4, 2).double(), nn.Conv2d(8, 6, 2).double()]
    network = UNet(widths=(4, 6, 8), blur=blur, norm="instance", up_path="published").double().eval()
    for up, convolution in zip(network.ups, convolutions, strict=True):
        up.deconv.load_state_dict({"weight": transposed_weight(convolution.weight), "bias": convolution.bias})
    published = PublishedUNet(network, convolutions, BinomialBlur(blur))
    x = torch.randn(1, 1, 16, 24, dtype=torch.float64)
    aligned = UNet(widths=(4, 6, 8), blur=blur, norm="instance").double().eval()
    aligned.load_state_dict(network.state_dict())
    with use_kernels(kernels):
        torch.testing.assert_close(network(x), published(x), rtol=1e-10, atol=1e-12)
        assert shift_error(network, x) < 1e-10
        assert not torch.allclose(aligned(x), published(x))


@torch.no_grad()
def test_the_published_way_up_without_a_phase():
    torch.manual_seed(0)
    network, other = (UNet(widths=(4, 6), sampling="stride", up_path=way).eval() for way in ("published", "aligned"))
    other.load_state_dict(network.state_dict())
    x = torch.randn(2, 1, 8, 8)
    assert not torch.allclose(network(x), other(x))
    with pytest.raises(InputError, match="aligned, published"):
        UNet(widths=(4, 6), up_path="paper")


@torch.no_grad()
def test_the_pool_of_two_pixels_is_as_exact_and_another_network():
    images, logits = torch.randn(2, 3, 64, 64, dtype=torch.float64), []
    for pool_size in (3, 2):
        torch.manual_seed(0)
        network = ResNet("resnet18_aps", pool_size=pool_size).double().eval()
        logits.append(network(images))
        torch.testing.assert_close(network(images.roll((3, -5), (2, 3))), logits[-1], rtol=1e-9, atol=1e-11)
    assert not torch.allclose(*logits)
    torch.manual_seed(0)
    plain = ResNet("resnet18", sampling="stride", padding="zeros", pool_size=2).eval()
    theirs = torchvision.models.resnet18()
    theirs.maxpool = nn.MaxPool2d(2, 2)
    theirs.load_state_dict(plain.state_dict())
    torch.testing.assert_close(plain(images.float()), theirs.eval()(images.float()), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="choose 3 or 2"):
        ResNet(pool_size=4)


def test_selectors_that_cannot_be_used_are_refused():
    with pytest.raises(InputError, match="write sampling aps"):
        UNet(widths=(4, 8), sampling="stride", selector=nn.Identity())
    with pytest.raises(InputError, match="Identity does not say what it scores"):
        UNet(widths=(4, 8), selector=nn.Identity())
