"""Layers and networks under what torch does with functions: jvp, vmap, second derivatives, checkpoints, copies.

The truth is finite differences, and plain torch in float64 one sample after the other.
"""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.utils.checkpoint import checkpoint

from recon.kernels.join import shift_join_pad
from recon.kernels.normalise import normalise
from recon.layers import (
    BinomialBlur,
    MaxNorm,
    PolyphaseMaxPool,
    align,
    circular_pad,
    circular_shift,
    decimate,
    set_padding_mode,
    use_kernels,
)
from recon.networks import ResNet, UNet

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, in forward mode
SHIFTS, PHASE = torch.tensor([[1, -3], [0, 5]]), torch.tensor([1, 2])
CONVOLUTIONS = {
    "convolution": nn.Conv2d(2, 3, 3, padding=1),
    "transposed convolution": nn.ConvTranspose2d(2, 3, 2, 2),
}


def convolve(name):
    return set_padding_mode(copy.deepcopy(CONVOLUTIONS[name]).double(), "circular")


def pool(blur=1, **settings):
    selector = MaxNorm(**settings)
    return PolyphaseMaxPool(2, selector=selector, lowpass=BinomialBlur(blur) if blur > 1 else None)


LAYERS = {
    "pad": lambda x: circular_pad(x, [(1, 2), (2, 1)]),
    "pad by more than a period": lambda x: circular_pad(x, [(5, 0), (0, 7)]),
    "shift": lambda x: circular_shift(x, SHIFTS[: x.shape[0]]),
    "align": lambda x: align(x, PHASE[: x.shape[0]], 2),
    "decimate": lambda x: decimate(x, PHASE[: x.shape[0]], 2),
    "pool": lambda x: pool()(x)[0],
    "pool, scores of the input": lambda x: pool(score_on="input")(x)[0],
    "blurred pool": lambda x: pool(3)(x)[0],
    "convolution": convolve("convolution"),
    "transposed convolution": convolve("transposed convolution"),
}
layers = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())
kernels = pytest.mark.parametrize("use", [True, False], ids=["kernels", "plain"])


def image(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(x, y):
    torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)


@layers
@kernels
def test_derivatives_of_layers_by_finite_differences(layer, use):
    """Backwards and forwards, of first and of second order, and mapped over several cotangents."""
    x = image(1, 2, 4, 4).requires_grad_()
    with use_kernels(use):
        assert torch.autograd.gradcheck(layer, x, check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(
            lambda x: layer(x).pow(3), x, check_fwd_over_rev=True, check_batched_grad=True
        )


@pytest.mark.parametrize("over", ["plane", "batch", "given"])
def test_second_derivatives_of_normalisation(over):
    given = image(2, 2, seed=4).abs() + 0.5
    x = image(2, 2, 2, 4).requires_grad_()

    def f(x, weight, bias):
        y, _ = normalise(x, weight, bias, None if over != "given" else given, over, 1e-5, 0.1, 1)
        return y

    weight, bias = image(2, seed=2).requires_grad_(), image(2, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(f, (x, weight, bias), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, (x, weight, bias))


def test_second_derivatives_of_the_way_up():
    x, up = image(2, 1, 4, 6).requires_grad_(), image(2, 4, 2, 3, seed=1).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x, up: shift_join_pad([x], up, SHIFTS, (1, 1, 2, 0)) ** 2, (x, up))


@layers
@kernels
def test_torch_func_on_layers(layer, use):
    x, tangent = image(2, 2, 4, 6), image(2, 2, 4, 6, seed=1)
    samples = image(3, 2, 2, 4, 6, seed=2)
    with use_kernels(False):
        expected = torch.stack([layer(sample) for sample in samples])
        jacobian = torch.autograd.functional.jacobian(layer, x)
    with use_kernels(use):
        y, along = jvp(layer, (x,), (tangent,))
        close(y, layer(x))
        close(along, torch.tensordot(jacobian, tangent, 4))
        assert along.abs().max() > 0.1
        close(vjp(layer, x)[1](y)[0], torch.tensordot(y, jacobian, 4))
        close(vmap(layer)(samples), expected)
        close(vmap(layer, in_dims=2, out_dims=1)(samples.movedim(0, 2)), expected.movedim(0, 1))
        close(jacrev(layer)(x), jacobian)
        close(jacfwd(layer)(x), jacobian)
        first = vmap(grad(lambda x: layer(x).pow(3).sum()))(samples)
        second = hessian(lambda x: layer(x).pow(3).sum())(x[:1, :1].repeat(1, 2, 1, 1))
    for gradient, sample in zip(first, samples, strict=True):
        sample = sample.requires_grad_()
        close(gradient, torch.autograd.grad(layer(sample).pow(3).sum(), sample)[0])
    assert torch.isfinite(second).all()
    assert second.abs().max() > 0.1


NETWORKS = {
    "unet stride": lambda: UNet(widths=(4, 6), norm="instance", sampling="stride"),
    "unet lpf": lambda: UNet(widths=(4, 6), norm="instance", sampling="lpf"),
    "unet aps": lambda: UNet(widths=(4, 6), norm="instance", activation="leakyrelu"),
    "unet aps, batch norm": lambda: UNet(widths=(4, 6)),
    "unet aps3": lambda: UNet(widths=(4, 6), norm="instance", blur=3),
    "unet aps, zeros": lambda: UNet(widths=(4, 6), norm="instance", padding="zeros"),
    "unet aps, l1": lambda: UNet(widths=(4, 6), norm="instance", criterion="l1"),
    "resnet stride": lambda: ResNet("resnet20_stride", "cifar", 5, 1),
    "resnet lpf": lambda: ResNet("resnet20_lpf", "cifar", 5, 1),
    "resnet aps": lambda: ResNet("resnet20_aps", "cifar", 5, 1),
    "resnet18 aps3": lambda: ResNet("resnet18_aps3", "imagenet", 5, 1),
}
networks = pytest.mark.parametrize("name", NETWORKS)


def build(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().double().eval()
    side = 64 if "resnet18" in name else 8
    return network, image(2, 1, side, side)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "resnet18" not in name])
def test_derivatives_of_networks(name):
    """With kernels, against plain torch's backward and the difference quotient of plain torch."""
    network, x = build(name)
    tangent, parameters = image(*x.shape, seed=1), {k: p.detach() for k, p in network.named_parameters()}

    def loss(parameters, sample):
        return functional_call(network, parameters, (sample[None],)).square().sum()

    def loss_backward(sample):
        return torch.autograd.grad(network(sample[None]).square().sum(), list(network.parameters()))

    y, along = jvp(network, (x,), (tangent,))
    gradients = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    moved = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(network(moved).square().sum(), moved, create_graph=True)
    (curvature,) = torch.autograd.grad((slope * tangent).sum(), moved)
    with use_kernels(False):
        step = 1e-7
        quotient = (network(x + step * tangent) - network(x - step * tangent)).detach() / (2 * step)
        torch.testing.assert_close(along, quotient, rtol=1e-4, atol=1e-5 * float(quotient.abs().max()))
        torch.testing.assert_close(y, network(x), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(vmap(network)(x[:, None])[:, 0], y, rtol=1e-9, atol=1e-9)
        for i, sample in enumerate(x):
            for ours, plain in zip((g[i] for g in gradients.values()), loss_backward(sample), strict=True):
                torch.testing.assert_close(ours, plain, rtol=1e-8, atol=1e-8 * float(1 + plain.abs().max()))
        expected = jvp(grad(lambda x: network(x).square().sum()), (x,), (tangent,))[1].detach()
        torch.testing.assert_close(curvature, expected, rtol=1e-7, atol=1e-7 * float(expected.abs().max()))


@networks
@kernels
def test_a_checkpoint_computes_again(name, use):
    network, x = build(name)
    with use_kernels(use):
        found = []
        for run in (network, lambda x: checkpoint(network, x, use_reentrant=False)):
            inputs = x.clone().requires_grad_()
            found.append(torch.autograd.grad(run(inputs).square().sum(), [inputs, *network.parameters()]))
    for ours, plain in zip(*found, strict=True):
        assert torch.equal(ours, plain)


@networks
def test_networks_are_pickled_copied_and_saved_whole(name):
    """As another process that is spawned, torch.save of a module, and whoever keeps an average of weights do."""
    network, x = build(name)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    copies = [pickle.loads(pickle.dumps(network)), copy.deepcopy(network), torch.load(file, weights_only=False)]
    for other in copies:
        assert torch.equal(other(x), network(x))


@pytest.mark.parametrize("d", [1, 2, 3])
def test_circular_convolutions_are_pickled(d):
    for kind in ((nn.Conv1d, nn.Conv2d, nn.Conv3d), (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        layer = set_padding_mode(kind[d - 1](1, 1, 2, 2), "circular")
        assert type(pickle.loads(pickle.dumps(layer))) is type(layer)
