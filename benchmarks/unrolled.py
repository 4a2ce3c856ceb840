"""VarNet against fastMRI's: a training step, the inference and their memory; and the memory of MoDL's steps.

    python -m benchmarks.unrolled
    python -m benchmarks.unrolled inference --cascades 4 --repeats 15

Cascades and widths (18 to 288; 8 to 128 for the coil maps, which both estimate) are equal. A training step is forward,
mean squared error of the magnitude, backward and Adam; inference is in eval mode without gradients. k-space is that of
random objects, a quarter of its columns and some calibration lines. fastMRI's U-Nets pad with zeros and pool by means;
ours pad circularly, choose each level's grid (sampling aps), and have a bias and a scale for each channel. MoDL takes a
training step, one cascade with 5 and with 20 steps of conjugate gradients. Prints tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import fastmri.models
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Case, Run, compare, make_parser, read_options, report
from pipelines.runtime.shell import run_command
from recon.errors import InputError, check_choice
from recon.networks import MoDL, VarNet
from recon.physics import mri


class Data(NamedTuple):
    """k-space of ``n_coils`` random images of ``size`` x ``size``, and what is to be trained on it."""

    size: int
    n_coils: int
    n_cascades: int
    seed: int
    device: torch.device

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """k-space ``(1, coil, size, size)``, mask ``(size,)``, target ``(1, size, size)``."""
        generator = torch.Generator().manual_seed(self.seed)
        images = torch.randn(1, self.n_coils, self.size, self.size, dtype=torch.complex64, generator=generator)
        mask, centre, lines = torch.arange(self.size) % 4 == 0, self.size // 2, max(1, self.size // 25)
        mask[centre - lines : centre + lines] = True
        kspace = mri.apply_mask(mri.fft2c(images), mask)
        return kspace.to(self.device), mask.to(self.device), mri.rss(images, 1).to(self.device)


class Theirs(nn.Module):
    """fastMRI's VarNet, called as ours is."""

    def __init__(self, n_cascades: int) -> None:
        super().__init__()
        self.network = fastmri.models.VarNet(num_cascades=n_cascades)

    def forward(self, kspace: Tensor, mask: Tensor) -> Tensor:
        """The magnitude."""
        magnitude: Tensor = self.network(torch.view_as_real(kspace), mask[None, None, None, :, None])
        return magnitude


def ours(n_cascades: int, form: str = "kspace", save_memory: bool = False) -> nn.Module:
    """Our VarNet; the magnitude of its complex image is taken by who runs it."""
    return VarNet(n_cascades=n_cascades, form=form, save_memory=save_memory, sampling="aps")


VARNETS: dict[str, Callable[[int], nn.Module]] = {
    "fastMRI's VarNet": Theirs,
    "ours, aps, k-space form": ours,
    "ours, aps, image form": partial(ours, form="image"),
}
SAVING = "ours, aps, k-space form, save_memory"
MODLS = {f"MoDL, {n} steps": partial(MoDL, n_cg_steps=n, widths=(16, 32, 64)) for n in (5, 20)}
NETWORKS = VARNETS | {SAVING: partial(ours, save_memory=True)} | MODLS


def training(name: str, data: Data) -> Run:
    """Steps of training; a run gives the loss."""
    kspace, mask, target = data.draw()
    torch.manual_seed(data.seed)
    network = NETWORKS[name](data.n_cascades).to(data.device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def run() -> list[list[Tensor]]:
        optimizer.zero_grad()
        loss = F.mse_loss(network(kspace, mask).abs(), target)
        loss.backward()
        optimizer.step()
        return [[loss.detach()]]

    return run


def inference(name: str, data: Data) -> Run:
    """Reconstruct without gradients."""
    kspace, mask, _ = data.draw()
    torch.manual_seed(data.seed)
    network = NETWORKS[name](data.n_cascades).to(data.device).eval()

    @torch.no_grad()
    def run() -> list[list[Tensor]]:
        return [[network(kspace, mask).abs()]]

    return run


PARTS: dict[str, tuple[str, Callable[[str, Data], Run], Sequence[str]]] = {
    "training": ("Training step", training, [*VARNETS, SAVING]),
    "inference": ("Inference", inference, list(VARNETS)),
    "modl": ("Training step of MoDL", training, list(MODLS)),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = make_parser("unrolled", __doc__, repeats=7)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--size", type=int, default=320, help="rows and columns (default %(default)s)")
    parser.add_argument("--coils", type=int, default=4, help="of k-space (default %(default)s)")
    parser.add_argument("--cascades", type=int, default=2, help="of all networks (default %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.size < 32 or arguments.size % 16:
        raise InputError(f"--size {arguments.size} must be a multiple of 16, and at least 32")
    if min(arguments.coils, arguments.cascades) < 1:
        raise InputError("--coils and --cascades must be at least 1")
    for part in arguments.parts:
        check_choice("part", part, PARTS)
    options = read_options(arguments)
    data = Data(arguments.size, arguments.coils, arguments.cascades, options.seed, options.device)
    tables = {}
    for part in arguments.parts or PARTS:
        title, prepare, names = PARTS[part]
        cases = [Case(name, partial(prepare, name, data)) for name in names]
        title = f"{title}, {data.n_cascades} cascades, {data.n_coils}x{data.size}x{data.size}"
        tables[title] = compare(cases, options.repeats, options.device)
    report(tables, options)


if __name__ == "__main__":
    raise SystemExit(main())
