"""Files of torch.export, and what a fresh process makes of them that has torch and not this project."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from pipelines.exporting import elsewhere
from pipelines.exporting.proof import Exported
from pipelines.measuring.portable import Portable


def write_program(program: ExportedProgram, portable: Portable, path: Path, title: str) -> None:
    """Write a program as torch.export.load reads it."""
    with warnings.catch_warnings(action="ignore"):
        torch.export.save(program, path)


@contextmanager
def program_running(path: Path, portable: Portable) -> Iterator[Exported]:
    """Give what hands inputs to a fresh process, in an empty folder, and takes its outputs."""
    names = [port.name for port in portable.inputs]
    command = [sys.executable, "-I", str(elsewhere.__file__), str(path.absolute()), str(torch.get_num_threads())]
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
        ) as process,
    ):
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        exchanged = Path(folder, "exchanged.pt")

        def run(*inputs: Tensor) -> Tensor:
            torch.save(dict(zip(names, inputs, strict=True)), exchanged)
            print(exchanged, file=stdin, flush=True)
            if stdout.readline() != "written\n":
                complaints.seek(0)
                raise RuntimeError(f"the exported program failed in a fresh process:\n{complaints.read()}")
            output: Tensor = torch.load(exchanged, weights_only=True)["output"]
            return output

        try:
            yield run
        finally:
            stdin.close()


def program_usage(names: Sequence[str]) -> str:
    """Python code that runs a program, of its inputs' names."""
    first, *others = names
    given = ", ".join([first, *(f"{name}={name}" for name in others)])
    return f"""\
import torch

network = torch.export.load("model.pt2").module()
output = network({given})  # tensors on the CPU"""
