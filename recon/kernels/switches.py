"""What decides for everybody whether compiled loops run or the reference forms in torch: machine, switches, transforms.

A caller asks here first, and then decides what only it knows, such as whether there is a kernel for a pool of its
settings. README.md beside this file lists all callers.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

_this_thread = threading.local()


def has_kernels(x: Tensor) -> bool:
    """Whether there are kernels for images like ``x``, and nobody switched them off; else the reference form must run.

    Args:
        x: there are kernels for ``(batch, channel, rows, columns)`` of float32 or float64 on a CPU; and on CUDA, where
            ``RECON_KERNELS=1`` asks for them: no GPU has run these yet, only Triton's interpreter.
    """
    if x.dim() != 4 or x.dtype not in (torch.float32, torch.float64) or x.numel() == 0:
        return False
    if torch.compiler.is_exporting():  # a program that needs torch's operators alone runs anywhere
        return False
    return _run_on(x.device.type) and (torch.compiler.is_compiling() or not is_transformed(x))


@torch.compiler.assume_constant_result
def _run_on(device: str) -> bool:
    if device == "cuda":
        asked = os.environ.get("RECON_KERNELS") == "1"
        return asked and not switched_off() and importlib.util.find_spec("triton") is not None
    return device == "cpu" and compiles()


def compiles() -> bool:
    """Whether loops are compiled for the CPU: numba is installed, and nobody switched them off."""
    return not switched_off() and os.environ.get("RECON_KERNELS") != "0" and _has_numba()


def switched_off() -> bool:
    """Whether :func:`use_kernels` has switched the kernels off in this thread."""
    return getattr(_this_thread, "switched_off", False)


@contextmanager
def use_kernels(use: bool) -> Iterator[None]:
    """Run the compiled loops or the reference forms, in this thread and until the end of the block.

    Args:
        use: False for the reference forms; True for the loops, where there are any.
    """
    before = switched_off()
    _this_thread.switched_off = not use
    try:
        yield
    finally:
        _this_thread.switched_off = before


def is_channels_last(x: Tensor) -> bool:
    """Whether images ``(batch, channel, rows, columns)`` on a CPU lie pixel by pixel, and loops keep them so."""
    return x.is_cpu and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def prefers_channels_last(x: Tensor) -> bool:
    """Whether convolutions of few channels take less time in channels_last here, with the loops that there are for it.

    oneDNN's do with AVX-512 (with 18 channels half the time); with AVX2 their gradients take more.
    """
    if not x.is_cpu:
        return True
    return has_kernels(x) and (torch.backends.cpu.get_cpu_capability() == "AVX512" or not torch.is_grad_enabled())


def new_images(like: Tensor, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
    """Images of that shape, in the memory format that loops give them for images ``like`` those."""
    layout = torch.channels_last if is_channels_last(like) else torch.contiguous_format
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=layout)


def is_transformed(x: Tensor) -> bool:
    """Whether torch transforms what runs: torch.func (vmap, grad, jvp ...), forward-mode or mapped differentiation.

    A transform follows torch's own operators only: a loop or an operator of ours would give wrong derivatives, in
    some of these cases without an error.
    """
    transforms = torch._C._functorch
    return (
        forward_ad._current_level >= 0
        or transforms.maybe_current_level() is not None
        or transforms.is_legacy_batchedtensor(x)  # by torch.autograd.grad(is_grads_batched=True)
    )


def must_be_differentiable(grad: Tensor) -> bool:
    """Whether a gradient is to be differentiated again (create_graph) or mapped (is_grads_batched, vmap)."""
    return torch.is_grad_enabled() or is_transformed(grad)


def runs_eagerly(x: Tensor) -> bool:
    """Whether torch runs each operation at once, so that the values of a tensor may decide what comes next.

    It does not where :func:`is_transformed`, nor where it records for other inputs: torch.compile, torch.export and
    torch.jit.trace.
    """
    return not (torch.compiler.is_compiling() or torch.jit.is_tracing() or is_transformed(x))


@cache
def _has_numba() -> bool:
    """Whether numba can be imported; says once where it cannot."""
    found = importlib.util.find_spec("numba") is not None
    if found:
        try:
            import numba  # noqa: F401
        except ImportError:
            found = False
    if not found:
        print("numba cannot be imported: plain torch computes the same, more slowly", file=sys.stderr, flush=True)
    return found
