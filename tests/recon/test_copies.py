"""Networks as objects: copied, pickled, saved whole, called with other weights, also after they have run."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from torch.func import functional_call

from recon.layers import use_kernels
from recon.networks import (
    AliasFreeUNet,
    Centred,
    MoDL,
    PrimalDual,
    UNet,
    UnrolledCT,
    VarNet,
    ZeroFilledUNet,
    cifar_resnet20,
    resnet18,
)
from recon.physics.ct import ParallelBeam

WIDTHS = (4, 6, 8)
OF_KSPACE = {"widths": WIDTHS, "maps_widths": (4, 6)}
SCAN = ParallelBeam(16, 16, (0.2, 0.2), n_angles=12, n_detectors=25, detector_extent=0.3)


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))


IMAGE = (drawn(2, 1, 16, 24),)
MASK = torch.zeros(24, dtype=torch.bool)
MASK[[1, 4, 6, 10, 11, 12, 13, 17, 20, 23]] = True
KSPACE = (drawn(2, 3, 16, 24, dtype=torch.complex64) * MASK, MASK)
SINOGRAM = (drawn(2, 12, 25), SCAN, drawn(2, 1, 16, 16))
NETWORKS = {
    "UNet aps": (lambda: UNet(widths=WIDTHS), IMAGE),
    "UNet lps": (lambda: UNet(widths=WIDTHS, norm="instance", sampling="lps"), IMAGE),
    "UNet lpf, zeros": (lambda: UNet(widths=WIDTHS, sampling="lpf", padding="zeros"), IMAGE),
    "AliasFreeUNet": (lambda: AliasFreeUNet(widths=WIDTHS), IMAGE),
    "ResNet of CIFAR": (lambda: cifar_resnet20(in_channels=1, blur=3), IMAGE),
    "ResNet of CIFAR, lps": (lambda: cifar_resnet20(in_channels=1, sampling="lps"), IMAGE),
    "ResNet of ImageNet": (lambda: resnet18(in_channels=1, n_classes=5), (drawn(1, 1, 64, 64),)),
    "VarNet": (lambda: VarNet(n_cascades=2, **OF_KSPACE), KSPACE),
    "VarNet alias_free": (lambda: VarNet(n_cascades=2, sampling="alias_free", **OF_KSPACE), KSPACE),
    "MoDL": (lambda: MoDL(n_cascades=2, n_cg_steps=3, **OF_KSPACE), KSPACE),
    "ZeroFilledUNet": (lambda: ZeroFilledUNet(**OF_KSPACE), KSPACE),
    "Centred": (lambda: Centred(VarNet(n_cascades=2, maps="espirit", **OF_KSPACE)), KSPACE),
    "UnrolledCT": (lambda: UnrolledCT(n_cascades=2, widths=WIDTHS), SINOGRAM),
    "PrimalDual": (lambda: PrimalDual(n_iterations=2, width=4), SINOGRAM),
}
EVERY = pytest.mark.parametrize(("build", "given"), NETWORKS.values(), ids=NETWORKS)


def saved(network: torch.nn.Module) -> torch.nn.Module:
    """Through torch.save and torch.load, whole."""
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda network: pickle.loads(pickle.dumps(network)), "torch.save": saved}


def network_of(build):
    torch.manual_seed(0)
    return build()


def perturbed(network):
    """Other values of all its parameters."""
    generator = torch.Generator().manual_seed(2)
    return {k: p.detach() + 0.05 * torch.randn(p.shape, generator=generator) for k, p in network.named_parameters()}


@EVERY
@pytest.mark.parametrize("kernels", [True, False])
def test_copies_give_the_same_and_share_nothing(build, given, kernels):
    with use_kernels(kernels):
        network = network_of(build)
        network(*given)  # in training mode: running statistics, and whatever a forward pass may leave behind
        y = network.eval()(*given)
        for name, duplicate in COPIES.items():
            other = duplicate(network)
            assert torch.equal(other(*given), y), name
            other.load_state_dict(perturbed(other), strict=False)
            assert not torch.equal(other(*given), y), name
        assert torch.equal(network(*given), y)


@EVERY
def test_a_functional_call_is_the_network_with_these_weights(build, given):
    network = network_of(build).eval()
    y, weights = network(*given), perturbed(network)
    called = functional_call(network, weights, given)
    assert not torch.equal(called, y)
    assert torch.equal(network(*given), y)
    network.load_state_dict(weights, strict=False)
    torch.testing.assert_close(called, network(*given), rtol=1e-5, atol=1e-6)


@EVERY
def test_a_network_moves_to_float64(build, given):
    network = network_of(build).eval()
    y = network(*given)
    wider = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    exact = [x.to(wider.get(x.dtype, x.dtype)) if isinstance(x, torch.Tensor) else x for x in given]
    torch.testing.assert_close(network.to(torch.float64)(*exact).to(y.dtype), y, rtol=1e-3, atol=1e-4)


FRESH = """
import sys, torch
torch.set_num_threads(1)  # as the tests have it: the last bit of a sum may depend on it
for name, (network, given, y) in torch.load(sys.argv[1], weights_only=False).items():
    assert torch.equal(network(*given), y), name
    print(name)
"""


@pytest.mark.process
def test_what_is_saved_whole_loads_in_a_fresh_process(tmp_path):
    file, whole = tmp_path / "networks.pt", {}
    for name, (build, given) in NETWORKS.items():
        network = network_of(build).eval()
        whole[name] = network, given, network(*given).detach()
    torch.save(whole, file)
    done = subprocess.run([sys.executable, "-c", FRESH, str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == list(NETWORKS)
