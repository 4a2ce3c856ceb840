"""Layers and whole networks by name, and how far a device's form of one is from plain torch in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.harness import relative_difference
from benchmarks.networks import LIMIT_GRADIENTS
from pipelines.runtime.arithmetic import exact_arithmetic
from recon.layers import (
    BinomialBlur,
    MaxNorm,
    PolyphaseMaxPool,
    align,
    can_fuse,
    circular_pad,
    decimate,
    normalise_activate,
    restore,
    use_kernels,
)
from recon.networks import AliasFreeUNet, ResNet, UNet, record_margins

LIMITS = {torch.float64: 1e-10, torch.float32: 1e-5}
CHANNELS, BATCH = 4, 2
SAFE_MARGIN = 1e-6  # phases closer than this may differ by float32's rounding alone


class Function(nn.Module):
    """A function of an image as a module without parameters."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Call it."""
        return self.function(x)


class Pool(nn.Module):
    """A max-pool without its phase."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.pool = PolyphaseMaxPool(2, **settings)

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        pooled: Tensor = self.pool(x)[0]
        return pooled


class NormActivation(nn.Module):
    """Normalisation, activation and circular pad: one pass where there are kernels, else torch's layers."""

    def __init__(self, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.norm, self.activation = norm, activation

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, activate, and pad by 1."""
        if can_fuse(x, self.norm, self.activation):
            return normalise_activate(x, self.norm, self.activation, 1)
        padded: Tensor = circular_pad(self.activation(self.norm(x)), [(1, 1), (1, 1)])
        return padded


class Up(nn.Module):
    """A transposed convolution whose output is restored: APS-U."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.transposed = nn.ConvTranspose2d(channels, channels // 2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Map to twice the size."""
        return restore(self.transposed(x), _phase(x, 2), 2)


def _phase(x: Tensor, stride: int) -> Tensor:
    return (torch.arange(len(x), device=x.device) + 1) % stride**2


def _unet(sampling: str, **settings: Any) -> UNet:
    fast = {"norm": "instance", "activation": "leakyrelu"}
    return UNet(**({"widths": (8, 8, 16, 32), "sampling": sampling} | fast | settings))


def _alias_free() -> AliasFreeUNet:
    network = AliasFreeUNet(widths=(4, 8, 16))
    nn.init.normal_(network.head.weight)  # it starts from 0, of which nothing is learnt here
    return network


LAYERS: dict[str, Callable[[int], nn.Module]] = {
    "max-pool, stride": lambda n: Pool(),
    "max-pool, aps": lambda n: Pool(selector=MaxNorm()),
    "max-pool, aps, blur 3": lambda n: Pool(selector=MaxNorm(), lowpass=BinomialBlur(3)),
    "max-pool, aps, stride 3": lambda n: Pool(stride=3, selector=MaxNorm("l1")),
    "align, stride 2": lambda n: Function(lambda x: align(x, _phase(x, 2), 2)),
    "restore, stride 3": lambda n: Function(lambda x: restore(x, _phase(x, 3), 3)),
    "decimate, stride 2": lambda n: Function(lambda x: decimate(x, _phase(x, 2), 2)),
    "circular pad": lambda n: Function(lambda x: circular_pad(x, [(1, 1), (1, 1)])),
    "circular pad, uneven": lambda n: Function(lambda x: circular_pad(x, [(0, 3), (5, 2)])),
    "blur 3": lambda n: BinomialBlur(3),
    "blur 6, mirrored": lambda n: BinomialBlur(6, mirrored=True),
    "instance norm, leaky ReLU, pad": lambda n: NormActivation(nn.InstanceNorm2d(n, affine=True), nn.LeakyReLU(0.1)),
    "batch norm, ReLU, pad": lambda n: NormActivation(nn.BatchNorm2d(n), nn.ReLU()),
    "transposed convolution, restored": lambda n: Up(n),
}
"""By name, what makes a layer for images of n channels."""
WITH_KERNELS = (
    "max-pool, aps",
    "align, stride 2",
    "circular pad",
    "instance norm, leaky ReLU, pad",
    "batch norm, ReLU, pad",
    "transposed convolution, restored",
)
UNETS: dict[str, Callable[[], nn.Module]] = {
    "U-Net, stride": partial(_unet, "stride"),
    "U-Net, lpf": partial(_unet, "lpf"),
    "U-Net, aps": partial(_unet, "aps"),
    "U-Net, aps3": partial(_unet, "aps", blur=3),
    "U-Net, aps, of the input": partial(_unet, "aps", score_on="input", criterion="l1"),
    "U-Net, aps, batch norm": partial(_unet, "aps", norm="batch", activation="relu"),
    "U-Net, alias-free": _alias_free,
}
RESNETS: dict[str, Callable[[], nn.Module]] = {
    **{f"CIFAR ResNet-20, {s}": partial(ResNet, "resnet20", "cifar", 10, 1, s) for s in ("stride", "lpf", "aps")},
    **{f"ResNet-18, {s}": partial(ResNet, "resnet18", "imagenet", 10, 1, s) for s in ("stride", "lpf", "aps")},
    "ResNet-50, aps3": partial(ResNet, "resnet50", "imagenet", 10, 1, "aps", 3),
}
NETWORKS = UNETS | RESNETS
"""By name, what makes a network for images of one channel."""


class Example(NamedTuple):
    """A module in eval mode (a layer in training), and images for it, both float64 on the CPU."""

    module: nn.Module
    images: Tensor


def example(name: str, size: int, seed: int) -> Example:
    """Draw weights and float32's images, again until no phase is so close that rounding could choose another."""
    build = partial(LAYERS[name], CHANNELS) if name in LAYERS else NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = build().double().train(name in LAYERS)
        for _ in range(20):
            x = torch.randn(BATCH, CHANNELS if name in LAYERS else 1, size, size).double()
            with torch.no_grad(), use_kernels(False), record_margins(module) as margins:
                module(x)
            if not margins or min(map(float, torch.cat(margins))) > SAFE_MARGIN:
                break
    return Example(module, x)


def compute(given: Example, device: torch.device, dtype: torch.dtype, kernels: bool) -> list[list[Tensor]]:
    """The output, and the gradients for images and weights, in two parts on the CPU."""
    module = given.module.to(device, dtype)
    x = given.images.to(device, dtype).requires_grad_()
    weights = [x, *module.parameters()]
    with exact_arithmetic(), use_kernels(kernels):
        y = module(x)
        draw = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        grads: Sequence[Tensor] = torch.autograd.grad(y, weights, draw.to(y))
    found = [[y.detach().cpu()], [grad.cpu() for grad in grads]]
    given.module.to("cpu", torch.float64)
    return found


def differences(found: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Tensor]]) -> tuple[float, float]:
    """The relative differences of outputs and of gradients."""
    output, gradient = (relative_difference([a], [b]) for a, b in zip(found, expected, strict=True))
    return output, gradient


def limits(name: str, dtype: torch.dtype) -> tuple[float, float]:
    """What the differences of outputs and of gradients must not exceed."""
    if dtype == torch.float32 and name in NETWORKS:
        return LIMITS[dtype], LIMIT_GRADIENTS  # of ReLUs whose signs may differ
    return LIMITS[dtype], LIMITS[dtype]
