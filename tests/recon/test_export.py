"""torch.export, ONNX and torch.compile: one graph for any batch and size, and the shift equivariance of the network."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch.export import Dim

from recon.layers import circular_shift, use_kernels
from recon.networks import ResNet, UNet
from tests.properties import random_shifts

UNET = {"widths": (4, 6, 8), "norm": "instance"}
NETWORKS = {
    "unet stride": lambda: UNet(sampling="stride", **UNET),
    "unet lpf": lambda: UNet(sampling="lpf", **UNET),
    "unet aps": lambda: UNet(**UNET),
    "unet aps, batch norm": lambda: UNet(widths=(4, 6, 8)),
    "unet aps3": lambda: UNet(blur=3, **UNET),
    "unet aps, l1": lambda: UNet(criterion="l1", **UNET),
    "unet aps, linf of the input": lambda: UNet(criterion="linf", score_on="input", **UNET),
    "unet aps, zeros": lambda: UNet(padding="zeros", **UNET),
    "unet aps, stride 3": lambda: UNet(widths=(4, 6), stride=3, norm="instance"),
    "unet aps, 3-D": lambda: UNet(spatial_dims=3, widths=(4, 6), norm="instance"),
    "resnet aps": lambda: ResNet("resnet20_aps", "cifar", 5, 1),
    "resnet aps3": lambda: ResNet("resnet20_aps3", "cifar", 5, 1),
}
IN_ONNX = ("unet lpf", "unet aps3", "resnet aps")  # the others take as long and convert the same operators
EXACT = [name for name in NETWORKS if "aps" in name and "zeros" not in name]
warns = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


def build(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    dims = 3 if "3-D" in name else 2
    symbols = {0: Dim("batch")} | {2 + i: network.total_stride * Dim(f"side{i}", min=2) for i in range(dims)}
    return network, torch.randn(2, 1, *[3 * network.total_stride] * dims), (symbols,)


def other_image(network, x):
    """Of another batch and size, each side another one."""
    size = [(4 + i) * network.total_stride for i in range(x.dim() - 2)]
    return torch.randn(3, 1, *size, generator=torch.Generator().manual_seed(1))


def check(name, network, exported, z):
    """The same outputs, and shifts that commute where the network's do."""
    y = network(z)
    with use_kernels(False):
        plain = network(z)
    torch.testing.assert_close(exported(z), plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(exported(z), y, rtol=1e-4, atol=1e-5)
    if name in EXACT:
        for shifts in random_shifts(len(z), z.shape[2:], 3):
            expected = circular_shift(y, shifts) if y.dim() == z.dim() else y
            torch.testing.assert_close(exported(circular_shift(z, shifts)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
@warns
@torch.no_grad()
def test_export_keeps_batch_and_size_open_and_needs_torch_alone(name):
    network, x, symbols = build(name)
    program = torch.export.export(network, (x,), dynamic_shapes=symbols)
    assert not [node for node in program.graph.nodes if "recon" in str(node.target)]
    check(name, network, program.module(), other_image(network, x))


@pytest.mark.parametrize("name", IN_ONNX)
@warns
@torch.no_grad()
def test_onnx_runs_elsewhere(name):
    network, x, symbols = build(name)
    program = torch.onnx.export(network, (x,), dynamo=True, dynamic_shapes=symbols, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()

    def run(z):
        return torch.from_numpy(session.run(None, {given.name: z.numpy()})[0])

    check(name, network, run, other_image(network, x))


@pytest.mark.parametrize("use", [True, False], ids=["kernels", "plain"])
@pytest.mark.parametrize("name", ["unet aps", "unet aps3", "resnet aps"])
@warns
def test_training_compiles_without_a_break(name, use):
    network, x, _ = build(name)
    network = network.train()
    torch.compiler.reset()
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    with use_kernels(use):
        found = []
        for run in (compiled, network):
            network.load_state_dict(build(name)[0].state_dict())
            found.append(torch.autograd.grad(run(x).square().sum(), list(network.parameters())))
    for ours, eager in zip(*found, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-4, atol=1e-4 * float(1 + eager.abs().max()))


@warns
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_a_trace_chooses_the_phase_of_each_image():
    network, x, _ = build("unet aps")
    with use_kernels(False):
        traced = torch.jit.trace(network, (x,), check_trace=False)
        z = torch.randn_like(x)
        torch.testing.assert_close(traced(z), network(z), rtol=1e-4, atol=1e-5)
