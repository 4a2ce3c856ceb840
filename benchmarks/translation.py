"""Networks that commute with any translation: alias-free ones against the aps U-Net, a centred one against its own.

    python -m benchmarks.translation
    python -m benchmarks.translation --size 96

U-Nets have equal widths. A training step is forward, mean squared error, backward and Adam; inference is in eval mode
without gradients. The centred network is a U-Net on complex zero-filled images of one coil, in :class:`recon.Centred`.
The error is |f(T x) - T f(x)| / |T f(x)| of random band-limited images moved by (0.5, 0.5) pixels. Prints tables; exit
code 1 if the fast form of the alias-free network and the plain one do not agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Case, Outcome, Run, compare, make_parser, read_options, relative_difference, report
from benchmarks.networks import BATCH, WIDTHS, Data, ours
from pipelines.runtime.shell import run_command
from recon.errors import InputError
from recon.layers import use_kernels
from recon.layers.spectrum import resample
from recon.networks import AliasFreeUNet, Centred, ZeroFilledUNet
from recon.physics.movement import move_image, move_kspace
from recon.physics.mri import apply_mask, fft2c

APS, ALIAS_FREE, PLAIN = "aps", "alias_free", "alias_free, kernels off"
UNETS: dict[str, Callable[[], nn.Module]] = {
    APS: partial(ours, "aps"),
    ALIAS_FREE: partial(AliasFreeUNet, widths=WIDTHS),
    PLAIN: partial(AliasFreeUNet, widths=WIDTHS),
}
LIMIT, LIMIT_GRADIENTS = 1e-5, 1e-3
ALONE, CENTRED = "complex U-Net, stride", "the same, centred"
HALF = torch.tensor([[0.5, 0.5]])


def unet(name: str, data: Data) -> nn.Module:
    """With weights of the seed, as after some training: the last layer not 0."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(data.seed)
        network = UNETS[name]()
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    return network.to(data.device)


def training(name: str, data: Data) -> Run:
    """Steps of training; a run's parts are the output and the gradient of all parameters."""
    network, (images, targets) = unet(name, data), data.draw()
    weights = list(network.parameters())
    optimizer = torch.optim.Adam(weights, lr=1e-3)

    def run() -> list[list[Tensor]]:
        with use_kernels(name != PLAIN):
            optimizer.zero_grad()
            output = network(images)
            F.mse_loss(output, targets).backward()
            optimizer.step()
        return [[output.detach()], [weight.grad for weight in weights if weight.grad is not None]]

    return run


def inference(name: str, data: Data) -> Run:
    """Reconstruct without gradients."""
    network, (images, _) = unet(name, data).eval(), data.draw()

    @torch.no_grad()
    def run() -> list[list[Tensor]]:
        with use_kernels(name != PLAIN):
            return [[network(images)]]

    return run


def acquisition(data: Data) -> tuple[Tensor, Tensor]:
    """k-space ``(batch, 1, size, size)`` of random objects in a field of view, masked, and the mask."""
    axis = torch.linspace(-1, 1, data.size, device=data.device)
    images = torch.complex(*data.draw()) * torch.exp(-8 * (axis[:, None] ** 2 + axis**2))
    columns = torch.arange(data.size, device=data.device)
    mask = (columns % 4 == 0) | ((columns - data.size // 2).abs() < data.size // 25)
    return apply_mask(fft2c(images), mask), mask


def complex_unet(name: str, data: Data) -> nn.Module:
    """With or without the alignment around it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        network = ZeroFilledUNet(WIDTHS, None, sampling="stride").eval().to(data.device)
    return Centred(network) if name == CENTRED else network


def from_kspace(name: str, data: Data) -> Run:
    """Reconstruct k-space without gradients."""
    network, measured = complex_unet(name, data), acquisition(data)

    @torch.no_grad()
    def run() -> list[list[Tensor]]:
        return [[torch.view_as_real(network(*measured))]]

    return run


@torch.no_grad()
def error(name: str, data: Data) -> float:
    """|f(T x) - T f(x)| / |T f(x)| of movements by half a pixel along both axes."""
    shifts = HALF.to(data.device).expand(data.batch, 2)
    if name in (ALONE, CENTRED):
        network, (kspace, mask) = complex_unet(name, data), acquisition(data)
        found, expected = network(move_kspace(kspace, shifts), mask), move_image(network(kspace, mask), shifts)
        return relative_difference([[torch.view_as_real(found)]], [[torch.view_as_real(expected)]])
    network, images = unet(name, data).eval(), resample(data.draw()[0], (data.size, data.size))
    found, expected = network(move_image(images[:, 0], shifts)[:, None])[:, 0], network(images)[:, 0]
    return relative_difference([[found]], [[move_image(expected, shifts)]])


def measure(cases: Sequence[Case], data: Data, repeats: int) -> list[Outcome]:
    """Compare some networks, and how far each is from commuting with half a pixel."""
    outcomes = compare(cases, repeats, data.device)
    return [o._replace(notes={"error, half a pixel": f"{error(o.case.name, data):.0e}"}) for o in outcomes]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = make_parser("translation", __doc__, repeats=7)
    parser.add_argument("--size", type=int, default=320, help="rows and columns (default %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.size < 32 or arguments.size % 16:
        raise InputError(f"--size {arguments.size} must be a multiple of 16, and at least 32")
    options = read_options(arguments)
    data = Data(arguments.size, options.seed, options.device)
    tables = {}
    for title, prepare, limit in (("Training step", training, LIMIT_GRADIENTS), ("Inference", inference, LIMIT)):
        cases = [Case(name, partial(prepare, name, data)) for name in (APS, ALIAS_FREE)]
        cases.append(Case(PLAIN, partial(prepare, PLAIN, data), ALIAS_FREE, limit))
        tables[f"{title}, {BATCH}x1x{data.size}x{data.size}"] = measure(cases, data, options.repeats)
    cases = [Case(name, partial(from_kspace, name, data)) for name in (ALONE, CENTRED)]
    tables[f"Inference from k-space, {BATCH}x1x{data.size}x{data.size}"] = measure(cases, data, options.repeats)
    report(tables, options)


if __name__ == "__main__":
    raise SystemExit(main())
