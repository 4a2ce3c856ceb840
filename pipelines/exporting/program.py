"""A run as one graph of torch's own operators, for any batch and any size that fits."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from pipelines.measuring.portable import Port, Portable
from recon.errors import InputError
from recon.layers import use_kernels


def export_program(portable: Portable) -> ExportedProgram:
    """Record the network: the first input by its place, the others by their names.

    Sides are free, as multiples of the total stride (twice it at least); where the network looks at them, they are
    those of the run's data.

    Raises:
        InputError: it cannot be recorded.
    """
    free = {"batch": Dim("batch")}
    free |= {side: portable.multiple * Dim(side, min=2) for side in ("rows", "columns")}
    rows, columns = portable.slices[0].size
    complaint = ""
    for sides in (
        {"rows": 3 * portable.multiple, "columns": 4 * portable.multiple},  # other ones than each other's
        {"rows": rows, "columns": columns},
    ):
        if complaint:
            del free["rows"], free["columns"]
        examples = {port.name: _example(port, {"batch": 2, **sides}) for port in portable.inputs}
        dynamic = {
            port.name: {axis: free[side] for axis, side in enumerate(port.shape) if side in free}
            for port in portable.inputs
        }
        first = portable.inputs[0].name
        others = {name: example for name, example in examples.items() if name != first}
        try:
            with warnings.catch_warnings(action="ignore"), torch.no_grad(), use_kernels(False):
                return torch.export.export(portable.network, (examples[first],), others, dynamic_shapes=dynamic)
        except Exception as error:  # torch.export fails in many ways
            complaint = complaint or short(error)
    raise InputError(f"the network cannot be exported ({complaint}): export another network's run")


def has_fixed_size(program: ExportedProgram) -> bool:
    """Whether the sides are those of the run's data, and no others."""
    first = next(node for node in program.graph.nodes if node.name == program.graph_signature.user_inputs[0])
    return isinstance(first.meta["val"].shape[-1], int)


def short(error: BaseException) -> str:
    """What an exporter says, in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def _example(port: Port, free: dict[str, int]) -> Tensor:
    size = port.size(**free)
    return torch.ones(size, dtype=port.dtype) if port.dtype == torch.bool else torch.rand(size, dtype=port.dtype)
