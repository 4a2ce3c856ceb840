"""Properties that many things must have, each written once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from recon.layers import circular_shift


def random_shifts(batch: int, size: Sequence[int], n: int, seed: int = 0) -> Iterator[Tensor]:
    """Yield n circular shifts ``(batch, len(size))``, another vector for each sample."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(n):
        yield torch.stack([torch.randint(0, side, (batch,), generator=generator) for side in size], dim=1)


@torch.no_grad()
def shift_error(f: Callable[[Tensor], Tensor], x: Tensor, n: int = 8, seed: int = 0) -> float:
    """The largest |f(T x) - T f(x)| / |f(x)| over n circular shifts T, where f keeps the size."""
    y = f(x)
    worst = 0.0
    for shifts in random_shifts(len(x), x.shape[2:], n, seed):
        difference = (f(circular_shift(x, shifts)) - circular_shift(y, shifts)).flatten(1).norm(dim=1)
        worst = max(worst, float((difference / y.flatten(1).norm(dim=1)).max()))
    return worst


def adjoint_error(
    forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], x: Tensor, y: Tensor
) -> float:
    """|<A x, y> - <x, A* y>| relative to the norms."""
    left, right = (forward(x) * y).sum(), (x * adjoint(y)).sum()
    return float(((left - right).abs() / (x.norm() * y.norm())).detach())
