"""Pooling, circular padding and up-sampling: ours against PyTorch's plain operation and against the published form.

    python -m benchmarks.layers

The published form of APS-D pools with stride 1 after PyTorch's circular pad, splits the result into its four polyphase
components, and keeps the one with the largest norm; that of APS-U puts zeros around the values of the kept component
and convolves with PyTorch's circular pad. Ours are the max-pool that picks its phase, and a transposed convolution that
is moved back. Each forward, and forward with backward. Prints tables; exit code 1 if results differ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Case, Outcome, Run, compare, make_parser, read_options, report
from pipelines.runtime.shell import run_command
from recon.errors import InputError
from recon.layers import MaxNorm, PolyphaseMaxPool, circular_pad, restore, use_kernels

LIMIT = 1e-6
CHANNELS = 32


def published_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """2 x 2 max-pool and APS-D as the papers put it: dense, split, compare the l2 norms, pick.

    Returns:
        ``(batch, channel, rows / 2, columns / 2)`` and the phase ``(batch,)``.

    Source: arXiv 2011.14214, section 4.
    """
    dense = F.max_pool2d(F.pad(x, (0, 1, 0, 1), mode="circular"), 2, stride=1)
    components = torch.stack([dense[:, :, row::2, column::2] for row in (0, 1) for column in (0, 1)], 1)
    phase = torch.linalg.vector_norm(components, dim=(2, 3, 4)).argmax(1)
    return components[torch.arange(len(x), device=x.device), phase], phase


def published_up(x: Tensor, phase: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """APS-U as the papers put it: zeros around the values of their component, then a circular convolution.

    The kernel is that of the transposed convolution, flipped, and the pad lies before the image, so that the values
    land where ours do; the papers' lies behind, which is the image moved by one pixel.

    Args:
        x: ``(batch, channel, rows, columns)``.
        phase: ``(batch,)``.
        weight: of the transposed convolution, ``(channel, channel_out, 2, 2)``.
        bias: ``(channel_out,)``.

    Returns:
        ``(batch, channel_out, 2 rows, 2 columns)``.

    Source: arXiv 2105.04040, section 3.
    """
    batch, channels, rows, columns = x.shape
    components = x.new_zeros(batch, 4, channels, rows, columns)
    components[torch.arange(batch, device=x.device), phase] = x
    apart = components.view(batch, 2, 2, channels, rows, columns).permute(0, 3, 4, 1, 5, 2)
    fine = apart.reshape(batch, channels, 2 * rows, 2 * columns)
    kernel = weight.transpose(0, 1).flip(2, 3)
    return F.conv2d(F.pad(fine, (1, 0, 1, 0), mode="circular"), kernel, bias)


class Subject(NamedTuple):
    """What is compared.

    Attributes:
        title: with the size, for the table.
        draw: the inputs, of images of so many rows and columns at the finest level.
        operations: by name; the first is the yardstick.
        reference: the operation whose results ours must have.
    """

    title: str
    draw: Callable[[int, torch.Generator], list[Tensor]]
    operations: dict[str, Callable[..., Tensor]]
    reference: str


def _images(batch: int, channels: int, part: int) -> Callable[[int, torch.Generator], list[Tensor]]:
    return lambda size, generator: [torch.randn(batch, channels, size // part, size // part, generator=generator)]


def _coarse(size: int, generator: torch.Generator) -> list[Tensor]:
    (image,) = _images(4, 2 * CHANNELS, 4)(size, generator)
    weight = torch.randn(2 * CHANNELS, CHANNELS, 2, 2, generator=generator) / CHANNELS
    return [image, weight, torch.randint(4, (len(image),), generator=generator)]


def _aps_pool(x: Tensor) -> Tensor:
    return PolyphaseMaxPool(2, selector=MaxNorm())(x)[0]


def _aps_up(x: Tensor, weight: Tensor, phase: Tensor) -> Tensor:
    return restore(F.conv_transpose2d(x, weight, stride=2), phase, 2)


PLAIN = "ours, plain torch"
SUBJECTS = {
    "pool": Subject(
        "APS-D, 2 x 2 max-pool",
        _images(4, CHANNELS, 2),
        {
            "nn.MaxPool2d": nn.MaxPool2d(2),
            "published APS-D": lambda x: published_pool(x)[0],
            "ours": _aps_pool,
            PLAIN: _aps_pool,
        },
        "published APS-D",
    ),
    "pad": Subject(
        "circular pad by 1",
        _images(2, CHANNELS, 1),
        {
            "F.pad": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
            "ours": lambda x: circular_pad(x, [(1, 1), (1, 1)]),
            PLAIN: lambda x: circular_pad(x, [(1, 1), (1, 1)]),
        },
        "F.pad",
    ),
    "up": Subject(
        "APS-U",
        _coarse,
        {
            "transposed convolution": lambda x, weight, phase: F.conv_transpose2d(x, weight, stride=2),
            "published APS-U": lambda x, weight, phase: published_up(x, phase, weight),
            "ours": _aps_up,
            PLAIN: _aps_up,
        },
        "published APS-U",
    ),
}


def prepare(subject: str, name: str, backward: bool, size: int, seed: int, device: torch.device) -> Run:
    """Draw the inputs of a subject and give one operation as a run; its parts are the output and each gradient."""
    operation, generator = SUBJECTS[subject].operations[name], torch.Generator().manual_seed(seed)
    inputs = [x.to(device) for x in SUBJECTS[subject].draw(size, generator)]
    trained = [x.requires_grad_(backward) for x in inputs if x.is_floating_point()]
    grad = torch.randn(operation(*inputs).shape, generator=generator).to(device)

    def run() -> list[list[Tensor]]:
        with use_kernels(name != PLAIN):
            y = operation(*inputs)
            gradients = torch.autograd.grad(y, trained, grad) if backward else ()
        return [[y.detach()], *([gradient] for gradient in gradients)]

    return run


def measure(size: int, repeats: int, seed: int, device: torch.device) -> dict[str, list[Outcome]]:
    """All subjects, forward and with backward, by title."""
    return {title: compare(cases, repeats, device) for title, cases in cases_of(size, seed, device).items()}


def cases_of(size: int, seed: int, device: torch.device) -> dict[str, list[Case]]:
    """What is compared, by title."""
    tables = {}
    for key, subject in SUBJECTS.items():
        shape = "x".join(map(str, subject.draw(size, torch.Generator())[0].shape))
        for backward in (False, True):
            cases = [
                Case(
                    name,
                    partial(prepare, key, name, backward, size, seed, device),
                    *((subject.reference, LIMIT) if name.startswith("ours") else ()),
                )
                for name in subject.operations
            ]
            title = f"{subject.title}, {shape} float32, forward{' + backward' if backward else ''}"
            tables[title] = cases
    return tables


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison and print its tables."""
    return run_command(_main, argv)


def _main(argv: list[str]) -> None:
    parser = make_parser("layers", __doc__, repeats=30)
    parser.add_argument("--size", type=int, default=320, help="rows and columns of the finest level (default 320)")
    arguments = parser.parse_args(argv)
    if arguments.size < 16 or arguments.size % 4:
        raise InputError(f"--size {arguments.size} must be a multiple of 4, and at least 16")
    options = read_options(arguments)
    report(measure(arguments.size, options.repeats, options.seed, options.device), options)


if __name__ == "__main__":
    raise SystemExit(main())
