"""Max-pooling in the phase of the most energy: a custom operator of torch, with its gradient."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from recon.kernels import reference
from recon.kernels.switches import is_channels_last, must_be_differentiable, new_images


def _kernels(x: Tensor) -> ModuleType:
    if x.is_cuda:
        from recon.kernels import pool_cuda  # imported here: it loads a compiler

        return pool_cuda
    if is_channels_last(x):
        from recon.kernels import pool_rows_cpu

        return pool_rows_cpu
    from recon.kernels import pool_cpu

    return pool_cpu


@torch.library.custom_op("recon::pool", mutates_args=())
def pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """2 x 2 circular max-pooling in each sample's phase of the most energy (l2 of the dense maximum, float64).

    Returns:
        The pooled images ``(batch, channel, rows / 2, columns / 2)``, the phases int64 ``(batch,)``, and which
        pixel of its window each maximum is, uint8: 0 to 3 in row-major order, the first one where there are several.
    """
    found: tuple[Tensor, Tensor, Tensor] = _kernels(x).pool(x)
    return found


@pool.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    pooled = new_images(x, *x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)
    return pooled, x.new_empty(x.shape[0], dtype=torch.int64), torch.empty_like(pooled, dtype=torch.uint8)


@torch.library.custom_op("recon::pool_back", mutates_args=())
def pool_back(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    """The adjoint of :func:`pool` at the same maxima; windows of one phase do not overlap."""
    result: Tensor = _kernels(where).pool_back(grad, phase, where)
    return result


@pool_back.register_fake
def _(grad: Tensor, phase: Tensor, where: Tensor) -> Tensor:
    return new_images(where, *grad.shape[:2], 2 * grad.shape[2], 2 * grad.shape[3], dtype=grad.dtype)


def _pool_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _pool_grad(ctx: Any, grad: Tensor, *_: Any) -> Tensor:
    phase, where = ctx.saved_tensors
    if must_be_differentiable(grad):
        return reference.pool_back(grad, phase, where)
    return pool_back(grad, phase, where)


pool.register_autograd(_pool_grad, setup_context=_pool_setup)
