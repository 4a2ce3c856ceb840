"""ResNets on torchvision's: plain, anti-aliased, and truly shift invariant, with torchvision's state dict."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from recon.errors import InputError, check_choice
from recon.layers import (
    PolyphaseMaxPool,
    PolyphaseSampling,
    check_multiples,
    set_padding_mode,
)
from recon.networks.residual import BasicBlock, Bottleneck, StridedBlock
from recon.networks.sampling import VARIANTS, SelectorAndLowpass, Settings, make_selector_and_lowpass, resolve_blur

POOL_SIZES = (3, 2)


torch.fx.wrap("check_multiples")  # torch.fx records a call as one node; see recon.layers.tracing


class Architecture(NamedTuple):
    """What tells the members of the family apart."""

    block: type[BasicBlock] | type[Bottleneck]
    depths: tuple[int, ...]
    widths: tuple[int, ...] = (64, 128, 256, 512)
    groups: int = 1
    width_per_group: int = 64


ARCHITECTURES: dict[str, dict[str, Architecture]] = {
    "imagenet": {
        "resnet18": Architecture(BasicBlock, (2, 2, 2, 2)),
        "resnet34": Architecture(BasicBlock, (3, 4, 6, 3)),
        "resnet50": Architecture(Bottleneck, (3, 4, 6, 3)),
        "resnet101": Architecture(Bottleneck, (3, 4, 23, 3)),
        "resnet152": Architecture(Bottleneck, (3, 8, 36, 3)),
        "resnext50_32x4d": Architecture(Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4),
        "resnext101_32x8d": Architecture(Bottleneck, (3, 4, 23, 3), groups=32, width_per_group=8),
    },
    "cifar": {
        "resnet18": Architecture(BasicBlock, (2, 2, 2, 2)),
        "resnet20": Architecture(BasicBlock, (3, 3, 3), (16, 32, 64)),
        "resnet34": Architecture(BasicBlock, (3, 4, 6, 3)),
        "resnet50": Architecture(Bottleneck, (3, 4, 6, 3)),
        "resnet56": Architecture(BasicBlock, (9, 9, 9), (16, 32, 64)),
    },
}


def resolve_architecture(name: str, sampling: str | None = None, blur: int | None = None) -> tuple[str, str, int]:
    """What a name, with or without the papers' suffix, and the two options mean together.

    ``resnet18_aps3`` is resnet18 with sampling aps and blur 3. A suffix without a number leaves the blur open, and
    what nothing says is the default: sampling aps, and the blur of :func:`resolve_blur`.

    Args:
        name: an architecture, alone or followed by ``_stride``, ``_lpf``, ``_aps`` or ``_lps`` and a blur size.
        sampling: stride, lpf, aps or lps; None if the name says it.
        blur: 1 to 7; None if the name says it.

    Returns:
        The bare architecture, the sampling and the blur.

    Raises:
        InputError: an unknown name; a suffix that contradicts ``sampling`` or ``blur``; see :func:`resolve_blur`.
    """
    suffix = re.fullmatch(rf"(.+)_({'|'.join(VARIANTS)})(\d*)", name)
    base = suffix[1] if suffix else name
    check_choice("architecture", base, dict.fromkeys(known for form in ARCHITECTURES.values() for known in form))
    if suffix:
        named: list[tuple[str, Any, Any]] = [("sampling", suffix[2], sampling)]
        named += [("blur", int(suffix[3]), blur)] if suffix[3] else []
        for setting, said, given in named:
            if given not in (None, said):
                raise InputError(
                    f"architecture {name!r} says {setting} {said}, but {setting} {given} is given: drop one"
                )
        sampling, blur = suffix[2], int(suffix[3]) if suffix[3] else blur
    sampling = sampling or "aps"
    return base, sampling, resolve_blur(sampling, blur)


class ResNet(torchvision.models.ResNet):
    """A residual network whose every strided operation samples the grid that the content chooses.

    These are, in the ImageNet form, the 7x7/2 stem, the 3x3/2 max-pool and the first block of each stage but the
    first; in the CIFAR form, with its 3x3 stem and no max-pool, the blocks alone. A strided convolution is followed by
    norm and ReLU, then by the blur, the choice of the phase and the decimation; a block's shortcut (1x1 convolution)
    is blurred too and takes the same phase. All variants share parameters and torchvision's state-dict keys, so its
    weights load into each of them; with sampling stride and padding zeros it is torchvision's network, output for
    output. lps has the parameters of its score beside those (``*.selector.*``): weights of the others load into it with
    ``strict=False``. With sampling aps or lps, circular padding and eval mode, f(T x) = f(x) for every circular shift.

    Args:
        architecture: ``imagenet``: resnet18, 34, 50, 101, 152, resnext50_32x4d, resnext101_32x8d; ``cifar``: resnet18,
            20, 34, 50, 56. May end in ``_stride``, ``_lpf``, ``_aps`` or ``_lps`` and a blur size: ``resnet18_aps3``.
        form: "imagenet" or "cifar".
        n_classes: how many logits.
        in_channels: channels of the input.
        sampling: "stride" (plain), "lpf" (blurred), "aps" (adaptive polyphase sampling, the default) or "lps" (learned
            polyphase sampling, :class:`recon.layers.LearnedScore`).
        blur: size of the binomial blur: 1, which is none, for stride; 2 to 7 for lpf (by default 3); 1 to 7 for aps
            and lps (by default 1).
        padding: "circular" (needed for exact invariance) or "zeros".
        criterion: what aps maximises: l1, l2, linf or l1_min, l2_min, linf_min. Like ``score_on`` it is for aps
            without a ``selector`` of yours; elsewhere, another one than the default is refused.
        score_on: where aps and lps score: "output" of the dense operation (the paper's choice) or its "input".
        selector: chooses the phases of aps in the place of ``MaxNorm(criterion, score_on)``: any module
            ``selector(x, stride) -> phase`` that obeys the selector law; each operation gets a copy of its own.
        pool_size: side of the ImageNet form's max-pool: 3 as in torchvision, or 2 as in the published networks.
        temperature: of the gradient of lps in training; elsewhere, another one than the default is refused.

    Raises:
        InputError: settings that cannot work together; see :func:`resolve_architecture`,
            :func:`make_selector_and_lowpass`, :class:`PolyphaseSampling` and :class:`PolyphaseMaxPool`.

    Source: arXiv 2011.14214, section 5; Zhang, arXiv 1904.11486, section 4; He et al., arXiv 1512.03385.
    """

    def __init__(
        self,
        architecture: str = "resnet18",
        form: str = "imagenet",
        n_classes: int = 1000,
        in_channels: int = 3,
        sampling: str | None = None,
        blur: int | None = None,
        padding: str = "circular",
        criterion: str = "l2",
        score_on: str = "output",
        selector: nn.Module | None = None,
        pool_size: int = 3,
        temperature: float = 1.0,
    ) -> None:
        nn.Module.__init__(self)  # torchvision's own constructor knows the ImageNet form alone
        check_choice("form", form, ARCHITECTURES)
        self.architecture, self.sampling, self.blur = resolve_architecture(architecture, sampling, blur)
        if self.architecture not in ARCHITECTURES[form]:
            known = ", ".join(ARCHITECTURES[form])
            raise InputError(f"architecture {self.architecture!r} has no form {form}: choose one of {known}")
        if n_classes < 1 or in_channels < 1:
            raise InputError(f"n_classes {n_classes} and in_channels {in_channels} must both be 1 or more")
        layout = ARCHITECTURES[form][self.architecture]
        if pool_size not in POOL_SIZES:
            raise InputError(f"pool_size {pool_size} is no max-pool of a ResNet: choose 3 or 2")
        self.form, self.padding = form, padding

        settings = Settings(criterion, score_on, temperature, selector)
        selector_and_lowpass = partial(make_selector_and_lowpass, self.sampling, self.blur, settings)
        self.total_stride = (4 if form == "imagenet" else 1) * 2 ** (len(layout.widths) - 1)
        self._norm_layer, self.dilation = nn.BatchNorm2d, 1  # these and inplanes are what _make_layer reads
        self.groups, self.base_width, self.inplanes = layout.groups, layout.width_per_group, layout.widths[0]

        self._make_stem(in_channels, self.inplanes, pool_size, selector_and_lowpass)
        for stage in range(4):
            layers: nn.Module = nn.Identity()
            if stage < len(layout.widths):
                layers = self._make_layer(layout.block, layout.widths[stage], layout.depths[stage], 2 if stage else 1)
            self.add_module(f"layer{stage + 1}", layers)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(self.inplanes, n_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, StridedBlock) and module.stride > 1:
                module.sample_by(PolyphaseSampling(2, *selector_and_lowpass(module.sampled_channels)))
        set_padding_mode(self, padding)

    def _make_stem(
        self,
        in_channels: int,
        width: int,
        pool_size: int,
        selector_and_lowpass: Callable[[tuple[int, int]], SelectorAndLowpass],
    ) -> None:
        """The layers before the first stage, in torchvision's order."""
        kernel, stride = 3, 1
        if self.form == "imagenet":
            self.stem_sampling = PolyphaseSampling(2, *selector_and_lowpass((in_channels, width)))
            kernel, stride = 7, 1 if self.stem_sampling.dense else 2
        self.conv1 = nn.Conv2d(in_channels, width, kernel, stride, kernel // 2, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        if self.form == "imagenet":
            selector, lowpass = selector_and_lowpass((width, width))
            self.maxpool = PolyphaseMaxPool(2, 2, pool_size, pool_size // 3, selector, lowpass, self.padding)

    def forward(self, x: Tensor) -> Tensor:
        """Classify.

        Args:
            x: ``(batch, in_channels, height, width)``, each side a multiple of ``total_stride`` unless the sampling
                is stride or lpf and the padding zeros.

        Returns:
            Logits ``(batch, n_classes)``.

        Raises:
            InputError: a side is not a multiple of the total stride; or it is so small that a phase ties for any input.
        """
        if self.sampling not in ("stride", "lpf") or self.padding == "circular":
            check_multiples(x.shape[2:], self.total_stride)
        if self.form == "cifar":
            x = self.relu(self.bn1(self.conv1(x)))
        else:
            x, phase = self.stem_sampling.before(x)
            x, _ = self.stem_sampling.after(self.relu(self.bn1(self.conv1(x))), phase)
            x, _ = self.maxpool(x)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def _named(architecture: str, form: str, n_classes: int) -> Callable[..., ResNet]:
    def build(**settings: Any) -> ResNet:
        return ResNet(architecture, form, **({"n_classes": n_classes} | settings))

    build.__name__ = build.__qualname__ = architecture if form == "imagenet" else f"{form}_{architecture}"
    build.__doc__ = f"The {form} form of {architecture}, {n_classes} classes; settings as in :class:`ResNet`."
    return build


resnet18 = _named("resnet18", "imagenet", 1000)
resnet34 = _named("resnet34", "imagenet", 1000)
resnet50 = _named("resnet50", "imagenet", 1000)
resnet101 = _named("resnet101", "imagenet", 1000)
resnet152 = _named("resnet152", "imagenet", 1000)
resnext50_32x4d = _named("resnext50_32x4d", "imagenet", 1000)
resnext101_32x8d = _named("resnext101_32x8d", "imagenet", 1000)
cifar_resnet18 = _named("resnet18", "cifar", 10)
cifar_resnet20 = _named("resnet20", "cifar", 10)
cifar_resnet34 = _named("resnet34", "cifar", 10)
cifar_resnet50 = _named("resnet50", "cifar", 10)
cifar_resnet56 = _named("resnet56", "cifar", 10)
