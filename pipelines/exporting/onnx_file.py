"""ONNX files, and what onnxruntime makes of them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from pipelines.exporting.program import short
from pipelines.exporting.proof import Exported
from pipelines.measuring.portable import Portable
from recon.errors import InputError


def write_onnx(program: ExportedProgram, portable: Portable, path: Path, title: str) -> None:
    """Write a program as an ONNX file of one piece, weights and all.

    Raises:
        InputError: there are complex numbers in it, or an operator has no form in ONNX.
    """
    values = [node.meta.get("val") for node in program.graph.nodes]
    if any(isinstance(value, Tensor) and value.is_complex() for value in values):
        raise InputError(
            "a network with complex numbers inside, as of k-space, cannot be exported as onnx, which has none: give "
            "--format torch-export or monai-bundle"
        )
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), torch.no_grad():
            written = torch.onnx.export(program, dynamo=True, verbose=False, output_names=[portable.output.name])
            assert written is not None
            written.save(path, external_data=False)
    except Exception as error:  # the exporter fails in many ways
        raise InputError(
            f"the network cannot be exported as onnx ({short(error)}): give --format torch-export"
        ) from error


@contextmanager
def onnx_running(path: Path, portable: Portable) -> Iterator[Exported]:
    """Give what runs an ONNX file by onnxruntime, on the CPU."""
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in portable.inputs]

    def run(*inputs: Tensor) -> Tensor:
        (output,) = session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
        return torch.from_numpy(output)

    yield run


def onnx_usage(names: Sequence[str]) -> str:
    """Python code that runs the file, of its inputs' names."""
    given = ", ".join(f'"{name}": {name}' for name in names)
    return f"""\
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
(output,) = session.run(None, {{{given}}})  # NumPy arrays"""
