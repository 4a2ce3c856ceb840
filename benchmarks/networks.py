"""U-Nets: a training step and the inference of ours against MONAI's BasicUNet and the published form of the APS U-Net.

    python -m benchmarks.networks
    python -m benchmarks.networks training-precisions inference-precisions --size 96

All have the same convolutions and weights. The yardstick is BasicUNet without the padding of its up path, which the
sizes here do not need; BasicUNet as users have it stands beside it. A training step is forward, mean squared
error, backward and Adam; inference is in eval mode without gradients. The shift error is |f(T x) - T f(x)| / |T f(x)|,
the largest of four random circular shifts T of random images. Prints tables; exit code 1 if networks that must agree do
not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.networks.blocks import UpSample
from monai.networks.nets.basic_unet import BasicUNet, TwoConv, UpCat
from torch import Tensor, nn

from benchmarks.harness import Case, Outcome, Run, compare, make_parser, read_options, relative_difference, report
from benchmarks.layers import published_pool, published_up
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.shell import run_command
from recon.errors import InputError, check_choice
from recon.layers import circular_shift, use_kernels
from recon.metrics import draw_shifts
from recon.networks import UNet

WIDTHS = (32, 32, 64, 128, 256)
FEATURES = (*WIDTHS, WIDTHS[0])
ACTIVATION, NORM = ("leakyrelu", {"negative_slope": 0.1, "inplace": True}), ("instance", {"affine": True})
BATCH = 2
LIMIT_SAME, LIMIT_KERNELS, LIMIT_GRADIENTS = 1e-5, 2e-6, 1e-3  # either form is 1.5e-6 from the same in float64


class PublishedUNet(nn.Module):
    """The APS U-Net as the papers put it, with the parameters of ours under the same names.

    Every convolution pads by PyTorch's circular mode; down by :func:`published_pool`, up by :func:`published_up`.
    """

    def __init__(self) -> None:
        super().__init__()
        pairs = list(pairwise(WIDTHS))
        inputs = [(1, WIDTHS[0]), *pairs]
        self.encoders = nn.ModuleList(TwoConv(2, n_in, n_out, ACTIVATION, NORM, True) for n_in, n_out in inputs)
        self.ups = nn.ModuleList(UpSample(2, coarse, fine, 2) for fine, coarse in pairs)
        self.decoders = nn.ModuleList(TwoConv(2, 2 * fine, fine, ACTIVATION, NORM, True) for fine, _ in pairs)
        self.head = nn.Conv2d(WIDTHS[0], 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.padding_mode = "circular"

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct ``(batch, 1, rows, columns)``."""
        skips, phases = [], []
        for encoder in self.encoders[:-1]:
            skips.append(encoder(x))
            x, phase = published_pool(skips[-1])
            phases.append(phase)
        x = self.encoders[-1](x)
        for level in reversed(range(len(skips))):
            x = published_up(x, phases[level], *self.ups[level].parameters())
            x = self.decoders[level](torch.cat([skips[level], x], dim=1))
        return self.head(x)


def basic_unet(is_pad: bool) -> BasicUNet:
    """MONAI's, with or without the padding of its up path."""
    network = BasicUNet(2, 1, 1, FEATURES, ACTIVATION, NORM)
    for module in network.modules():
        if isinstance(module, UpCat):
            module.is_pad = is_pad
    return network


def ours(sampling: str, padding: str = "circular") -> UNet:
    """Our U-Net with the convolutions of BasicUNet."""
    return UNet(widths=WIDTHS, norm="instance", activation="leakyrelu", sampling=sampling, padding=padding)


class Variant(NamedTuple):
    """A network and how it runs.

    Attributes:
        build: makes it.
        kernels: whether our compiled loops are used.
        bf16: autocast to bfloat16.
        channels_last: memory format of weights and images.
        same_as: the variant whose results it must have.
        limit: of their relative difference; None where it is shown but not judged.
    """

    build: Callable[[], nn.Module]
    kernels: bool = True
    bf16: bool = False
    channels_last: bool = False
    same_as: str | None = None
    limit: float | None = None


BASELINE, APS = "BasicUNet, is_pad=False", "ours, aps"
PLAIN = partial(basic_unet, False)
VARIANTS = {
    BASELINE: Variant(PLAIN),
    "BasicUNet": Variant(partial(basic_unet, True), same_as=BASELINE, limit=LIMIT_SAME),
    "ours, stride, zeros": Variant(partial(ours, "stride", "zeros"), same_as=BASELINE, limit=LIMIT_SAME),
    "ours, stride": Variant(partial(ours, "stride")),
    "ours, lpf": Variant(partial(ours, "lpf")),
    APS: Variant(partial(ours, "aps")),
    "ours, aps, kernels off": Variant(partial(ours, "aps"), kernels=False, same_as=APS, limit=LIMIT_KERNELS),
    "published APS U-Net": Variant(PublishedUNet, same_as=APS, limit=LIMIT_SAME),
    "BasicUNet, channels_last": Variant(PLAIN, channels_last=True, same_as=BASELINE),
    "BasicUNet, bf16": Variant(PLAIN, bf16=True, same_as=BASELINE),
    "ours, aps, channels_last": Variant(partial(ours, "aps"), channels_last=True, same_as=APS),
    "ours, aps, bf16": Variant(partial(ours, "aps"), bf16=True, same_as=APS),
}


class Data(NamedTuple):
    """Where and of what: images of ``size`` x ``size`` normal numbers, drawn from ``seed`` as are the weights."""

    size: int
    seed: int
    device: torch.device
    batch: int = BATCH

    def draw(self) -> Tensor:
        """Images and targets ``(2, batch, 1, size, size)``."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(2, self.batch, 1, self.size, self.size, generator=generator).to(self.device)


def basic_name(name: str) -> str:
    """What BasicUNet calls a parameter of ours."""
    part, _, rest = name.partition(".")
    if part == "head":
        return f"final_conv.{rest}"
    number, _, rest = rest.partition(".")
    level = int(number)
    if part == "encoders":
        return f"conv_0.{rest}" if level == 0 else f"down_{level}.convs.{rest}"
    return f"upcat_{level + 1}.{'upsample' if part == 'ups' else 'convs'}.{rest}"


def parameters(network: nn.Module) -> dict[str, nn.Parameter]:
    """A network's parameters by the names and in the order of ours."""
    own = dict(network.named_parameters())
    names = [name for name, _ in ours("stride").named_parameters()]
    return {name: own.pop(basic_name(name) if isinstance(network, BasicUNet) else name) for name in names}


def build(variant: Variant, data: Data) -> nn.Module:
    """The network with the weights that all of the same seed have, on its device."""
    network = variant.build()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(data.seed)
        weights = dict(ours("stride").named_parameters())
        for name, parameter in parameters(network).items():
            parameter.copy_(weights[name])
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    return network.to(data.device).to(memory_format=layout)


def make_forward(network: Callable[[Tensor], Tensor], variant: Variant) -> Callable[[Tensor], Tensor]:
    """The network as its variant runs it."""

    def forward(images: Tensor) -> Tensor:
        if variant.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=variant.bf16):
            return network(images)

    return forward


def training(name: str, data: Data, compiles: bool = False) -> Run:
    """Steps of training, by torch.compile if asked; a run's parts are the output and the gradient of all parameters."""
    variant, (images, targets) = VARIANTS[name], data.draw()
    network = build(variant, data)
    forward = make_forward(torch.compile(network) if compiles else network, variant)
    weights = list(parameters(network).values())
    optimizer = torch.optim.Adam(weights, lr=1e-3)

    def run() -> list[list[Tensor]]:
        with use_kernels(variant.kernels):
            optimizer.zero_grad()
            output = forward(images)
            F.mse_loss(output.float(), targets).backward()
            optimizer.step()
        return [[output.detach()], [weight.grad for weight in weights if weight.grad is not None]]

    return run


def inference(name: str, data: Data, compiles: bool = False) -> Run:
    """Reconstruct without gradients, by torch.compile if asked."""
    variant, (images, _) = VARIANTS[name], data.draw()
    network = build(variant, data).eval()
    forward = make_forward(torch.compile(network) if compiles else network, variant)

    @torch.no_grad()
    def run() -> list[list[Tensor]]:
        with use_kernels(variant.kernels):
            return [[forward(images)]]

    return run


def shift_error(name: str, data: Data) -> float:
    """The largest |f(T x) - T f(x)| / |T f(x)| over four shifts, up to half the image either way."""
    variant, (images, _) = VARIANTS[name], data.draw()
    with use_kernels(variant.kernels):
        return largest_shift_error(make_forward(build(variant, data).eval(), variant), images, data.seed)


@torch.no_grad()
def largest_shift_error(forward: Callable[[Tensor], Tensor], images: Tensor, seed: int) -> float:
    """The same of a function of images ``(batch, channel, size, size)``, in exact arithmetic unless it undoes it."""
    errors = []
    with exact_arithmetic():
        output = forward(images)
        for shift in draw_shifts(4, images.shape[-1] // 2, seed).to(images.device):
            moves = shift.expand(len(images), -1)
            errors.append(
                relative_difference([[forward(circular_shift(images, moves))]], [[circular_shift(output, moves)]])
            )
    return max(errors)


PARTS = {
    "training": ("Training step", training, False),
    "inference": ("Inference", inference, False),
    "training-precisions": ("Training step, bfloat16 and channels_last", training, True),
    "inference-precisions": ("Inference, bfloat16 and channels_last", inference, True),
}


def cases_of(part: str, data: Data) -> list[Case]:
    """The networks of one part of the benchmark."""
    _, prepare, precisions = PARTS[part]
    cases = []
    for name, variant in VARIANTS.items():
        if name in (BASELINE, APS) or precisions == (variant.bf16 or variant.channels_last):
            limit = LIMIT_GRADIENTS if variant.limit and prepare is training else variant.limit
            cases.append(Case(name, partial(prepare, name, data), variant.same_as, limit))
    return cases


def measure(part: str, data: Data, repeats: int) -> list[Outcome]:
    """Compare the networks of one part."""
    outcomes = compare(cases_of(part, data), repeats, data.device)
    if PARTS[part][1] is training:
        return outcomes
    return [o._replace(notes={"shift error": f"{shift_error(o.case.name, data):.0e}"}) for o in outcomes]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = make_parser("networks", __doc__, repeats=7)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)} (default: the first two)")
    parser.add_argument("--size", type=int, default=320, help="rows and columns (default %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.size < 32 or arguments.size % 16:
        raise InputError(f"--size {arguments.size} must be a multiple of 16, and at least 32")
    for part in arguments.parts:
        check_choice("part", part, PARTS)
    options = read_options(arguments)
    data = Data(arguments.size, options.seed, options.device)
    size = f"{BATCH}x1x{data.size}x{data.size}"
    tables = {f"{PARTS[p][0]}, {size}": measure(p, data, options.repeats) for p in arguments.parts or list(PARTS)[:2]}
    report(tables, options)


if __name__ == "__main__":
    raise SystemExit(main())
