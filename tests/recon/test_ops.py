"""The operators of torch that the layers run in kernels: against torch's own layers, and as torch demands of them."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from recon.errors import InputError
from recon.kernels.join import join_op, shift_join_pad
from recon.kernels.normalise import normalise
from recon.kernels.pool import pool
from recon.layers import can_fuse, circular_pad, circular_shift, normalise_activate, set_padding_mode, use_kernels
from recon.networks import UNet, fused, unet
from recon.networks.fused import upsample_components
from tests.properties import shift_error

NORMS = {
    "instance": nn.InstanceNorm2d(3, affine=True),
    "instance without weights": nn.InstanceNorm2d(3),
    "batch": nn.BatchNorm2d(3),
    "batch with a cumulative average": nn.BatchNorm2d(3, momentum=None),
    "batch without a record": nn.BatchNorm2d(3, track_running_stats=False),
}
ACTIVATIONS = {"relu": nn.ReLU(), "leakyrelu": nn.LeakyReLU(0.1)}
LIMITS = {torch.float32: 2e-6, torch.float64: 1e-13}


def images(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def layer(name, dtype, training):
    norm = copy.deepcopy(NORMS[name]).to(dtype).train(training)
    for i, tensor in enumerate([*norm.parameters(), *norm.buffers()]):
        if tensor.is_floating_point():
            tensor.data.copy_(0.5 + images(3, seed=10 + i).detach().abs())
    return norm


def difference(x, y):
    return float((x - y).detach().norm() / y.detach().norm())


@pytest.mark.parametrize("dtype", LIMITS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
@pytest.mark.parametrize("name", NORMS)
def test_normalise_activate_is_torch_s_layers(name, activation, training, dtype):
    norm, x = layer(name, dtype, training), images(2, 3, 6, 10, dtype=dtype)
    x = (x + 3).detach().requires_grad_()
    plain = copy.deepcopy(norm)
    weight = images(2, 3, 8, 12, dtype=dtype, seed=1).detach()
    assert can_fuse(x, norm, activation)
    y, expected = normalise_activate(x, norm, activation, 1), circular_pad(activation(plain(x)), [(1, 1), (1, 1)])
    assert difference(y, expected) < LIMITS[dtype]
    for ours, theirs in zip(
        torch.autograd.grad((y * weight).sum(), [x, *norm.parameters()]),
        torch.autograd.grad((expected * weight).sum(), [x, *plain.parameters()]),
        strict=True,
    ):
        assert difference(ours, theirs) < 10 * LIMITS[dtype]
    for ours, theirs in zip(norm.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0)


def test_layers_that_are_not_known_are_not_fused():
    x, relu = images(1, 3, 4, 4), nn.ReLU()
    assert not can_fuse(x, nn.GroupNorm(1, 3), relu)
    assert not can_fuse(x, nn.InstanceNorm2d(3, track_running_stats=True), relu)
    assert not can_fuse(x, nn.SyncBatchNorm(3), relu)
    assert not can_fuse(x, nn.BatchNorm2d(3), nn.PReLU())
    assert not can_fuse(x[..., 0], nn.BatchNorm1d(3), relu)
    with use_kernels(False):
        assert not can_fuse(x, nn.BatchNorm2d(3), relu)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not can_fuse(x, nn.BatchNorm2d(3), relu)


def test_statistics_do_not_lose_a_small_deviation_beside_a_large_mean():
    x = images(1, 3, 32, 32, dtype=torch.float32).detach() * 1e-2 + 100
    y = normalise_activate(x, nn.InstanceNorm2d(3), nn.LeakyReLU(1.0))
    expected = nn.InstanceNorm2d(3)(x.double())
    assert difference(y.double(), expected) < 1e-3  # float32 keeps 1e-5 of x, that is 1e-3 of its deviation
    assert torch.isfinite(normalise_activate(torch.full((1, 3, 4, 4), 7.0), nn.InstanceNorm2d(3), nn.ReLU())).all()


@pytest.mark.parametrize("pads", [(0, 0, 0, 0), (1, 1, 1, 1), (2, 0, 5, 3), (9, 9, 13, 13)])
@pytest.mark.parametrize("shifts", [None, torch.tensor([[1, -3], [0, 5]])])
def test_join_is_shift_concatenation_and_pad(shifts, pads):
    x, components = images(2, 3, 4, 6), images(2, 8, 2, 3, seed=1)
    y = shift_join_pad([x], components, shifts, pads)
    up = F.pixel_shuffle(components, 2)
    with use_kernels(False):
        joined = torch.cat([x, up if shifts is None else circular_shift(up, shifts)], dim=1)
        expected = circular_pad(joined, [pads[:2], pads[2:]])
    assert torch.equal(y, expected)
    assert torch.equal(shift_join_pad([x, up], None, shifts, pads), expected)
    weight = images(*y.shape, seed=2).detach()
    for ours, theirs in zip(
        torch.autograd.grad((y * weight).sum(), [x, components]),
        torch.autograd.grad((expected * weight).sum(), [x, components]),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # from within opcheck
def test_torch_accepts_the_operators():
    x, components = images(2, 3, 4, 6), images(2, 8, 2, 3, seed=1)
    shifts, weight, bias = torch.tensor([[1, -3], [0, 5]]), images(3, seed=2), images(3, seed=3)
    torch.library.opcheck(join_op, ([x, x], None, shifts, [1, 1, 1, 1]))
    torch.library.opcheck(join_op, ([x], components, shifts, [1, 0, 2, 1]))
    torch.library.opcheck(pool, (x,))
    for over in ("plane", "batch"):
        torch.library.opcheck(normalise, (x, weight, bias, None, over, 1e-5, 0.1, 1))
    torch.library.opcheck(normalise, (x, weight, bias, torch.ones(3, 2).double(), "given", 1e-5, 0.1, 0))


def test_gradients_by_finite_differences():
    x, components = images(2, 2, 4, 6), images(2, 4, 2, 3, seed=1)
    shifts, weight, bias = torch.tensor([[1, -3], [0, 5]]), images(2, seed=2), images(2, seed=3)
    assert torch.autograd.gradcheck(lambda x, p: shift_join_pad([x], p, shifts, (1, 1, 2, 0)), (x, components))
    assert torch.autograd.gradgradcheck(lambda x, p: shift_join_pad([x], p, shifts, (1, 1, 2, 0)), (x, components))
    for over in ("plane", "batch"):
        assert torch.autograd.gradcheck(
            lambda x, w, b, over=over: normalise(x, w, b, None, over, 1e-5, 0.1, 1)[0], (x, weight, bias)
        )
    given = torch.ones(2, 2).double()
    assert torch.autograd.gradcheck(
        lambda x, w, b: normalise(x, w, b, given, "given", 1e-5, 0.1, 1)[0], (x, weight, bias)
    )


SETTINGS = [
    {"norm": norm, "padding": padding, "sampling": sampling, "activation": activation}
    for norm, activation in (("instance", "leakyrelu"), ("batch", "relu"))
    for padding in ("circular", "zeros")
    for sampling in ("stride", "lpf", "aps")
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(s.values()))
@pytest.mark.parametrize("training", [True, False])
def test_a_network_computes_the_same_with_kernels_and_without(settings, training):
    torch.manual_seed(0)
    network = UNet(widths=(4, 6, 8), **settings).double().train(training)
    x = images(2, 1, 16, 24).detach()
    found = []
    for use in (True, False):
        with use_kernels(use):
            copied = copy.deepcopy(network)
            y = copied(x)
            (y * images(*y.shape, seed=1).detach()).sum().backward()
            found.append((y.detach(), [p.grad for p in copied.parameters()], list(copied.buffers())))
    (y, grads, buffers), (plain, plain_grads, plain_buffers) = found
    assert difference(y, plain) < 1e-12
    scale = max(float(grad.abs().max()) for grad in plain_grads)
    for ours, theirs in zip([*grads, *buffers], [*plain_grads, *plain_buffers], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10 * scale)


@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
def test_kernels_keep_the_network_equivariant(norm, dtype, limit):
    torch.manual_seed(0)
    networks = {s: UNet(widths=(8, 8, 16), norm=norm, sampling=s).to(dtype).eval() for s in ("aps", "stride")}
    x = images(2, 1, 32, 64, dtype=dtype).detach()
    assert shift_error(networks["aps"], x) < limit
    assert shift_error(networks["stride"], x) > 100 * limit  # the control


def test_up_sampling_by_components_is_the_transposed_convolution():
    network = UNet(widths=(4, 6), norm="instance").double()
    x = images(2, 6, 3, 5).detach()
    components = upsample_components(network.ups[0], x)
    torch.testing.assert_close(F.pixel_shuffle(components, 2), network.ups[0](x), rtol=1e-12, atol=1e-12)
    assert upsample_components(UNet(spatial_dims=3, widths=(4, 6)).ups[0], x) is None
    assert upsample_components(UNet(widths=(4, 6), stride=3).ups[0], x) is None


def test_the_fused_level_runs_where_it_can_and_restore_where_it_cannot(monkeypatch):
    network, called = UNet(widths=(4, 6, 8), norm="instance").eval(), []
    for module, name in ((fused, "run"), (unet, "restore")):
        original = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, f=original, name=name: called.append(name) or f(*a))
    x = images(1, 1, 16, 16, dtype=torch.float32).detach()
    network(x)
    assert called == ["run"] * 3
    called.clear()
    with use_kernels(False):
        network(x)
    assert called == ["restore"] * 2


def test_hooks_inside_a_block_are_called():
    network = UNet(widths=(4, 6), norm="instance").eval()
    x, seen = images(1, 1, 8, 8, dtype=torch.float32).detach(), []
    y = network(x)
    for module in (network.encoders[0].conv_0.adn.N, network.ups[0].deconv, network.decoders[0].conv_1.conv):
        module.register_forward_hook(lambda m, args, out: seen.append(type(m).__name__))
    torch.testing.assert_close(network(x), y, rtol=1e-5, atol=1e-6)
    assert seen == ["InstanceNorm2d", "CircularConvTranspose2d", "CircularConv2d"]


def test_hooks_of_all_modules_and_a_block_of_another_class_are_called():
    network, seen = UNet(widths=(4, 6), norm="instance").eval(), []
    x = images(1, 1, 8, 8, dtype=torch.float32).detach()
    y = network(x)
    hook = nn.modules.module.register_module_forward_hook(lambda m, args, out: seen.append(m))
    torch.testing.assert_close(network(x), y, rtol=1e-5, atol=1e-6)
    hook.remove()
    assert network.decoders[0].conv_1.conv in seen

    class Twice(type(network.decoders[0])):
        def forward(self, x):
            return 2 * super().forward(x)

    network.decoders[0].__class__ = Twice
    torch.testing.assert_close(network(x) - network.head.bias, 2 * (y - network.head.bias), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("padding", ["circular", "zeros"])
def test_what_others_make_of_a_layer_is_kept(padding):
    network = UNet(widths=(4, 6), norm="instance", padding=padding).eval()
    x = images(1, 1, 8, 8, dtype=torch.float32).detach()
    nn.utils.parametrizations.weight_norm(network.encoders[0].conv_1.conv)  # a subclass with the same forward
    nn.utils.parametrizations.weight_norm(network.ups[0].deconv)
    with use_kernels(False):
        plain = network(x)
    torch.testing.assert_close(network(x), plain, rtol=1e-5, atol=1e-6)

    class Twice(type(network.decoders[0].conv_0.conv)):
        def forward(self, x):
            return 2 * super().forward(x)

    network.head.weight.data.fill_(1)
    network.decoders[0].conv_1.adn.N.eps = 1.0  # without which the norm would take the factor out
    before = network(x)
    network.decoders[0].conv_1.conv.__class__ = Twice
    with use_kernels(False):
        assert difference(network(x), before) > 1e-3
        plain = network(x)
    torch.testing.assert_close(network(x), plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "padding"), [(5, 2), (1, 0), ((5, 3), (2, 1)), (3, "same")])
def test_a_convolution_s_own_padding_is_kept(kernel, padding):
    network = UNet(widths=(4, 6), norm="instance", padding="zeros").eval()
    for part in (network.encoders[0].conv_0, network.encoders[0].conv_1, network.decoders[0].conv_0):
        part.conv = nn.Conv2d(part.conv.in_channels, part.conv.out_channels, kernel, padding=padding)
    x = images(1, 1, 8, 12, dtype=torch.float32).detach()
    for mode in ("zeros", "circular"):
        if mode == "circular" and padding == "same":
            with pytest.raises(InputError, match="padding='same'"):
                set_padding_mode(network, mode)(x)
            continue
        set_padding_mode(network, mode)
        with use_kernels(False):
            expected = network(x)
        torch.testing.assert_close(network(x), expected, rtol=1e-5, atol=1e-6)


def test_dropout_is_kept():
    network = UNet(widths=(4, 6), norm="instance", dropout=0.5)
    x = images(1, 1, 8, 8, dtype=torch.float32).detach()
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_autocast_runs():
    network = UNet(widths=(4, 6), norm="instance").eval()
    x = images(1, 1, 16, 16, dtype=torch.float32).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network(x)
    assert difference(y.float(), network(x)) < 0.05


def test_compile_sees_one_node_each():
    network = UNet(widths=(4, 6), norm="instance").eval()
    x, called = images(2, 1, 16, 24, dtype=torch.float32).detach(), set()

    def backend(module, inputs):
        called.update(str(node.target) for node in module.graph.nodes if node.op == "call_function")
        return module.forward

    compiled = torch.compile(network, backend=backend, fullgraph=True)
    assert torch.equal(compiled(x), network(x))
    assert {"recon.join.default", "recon.pool.default", "recon.normalise.default"} <= called
