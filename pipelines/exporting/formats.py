"""The formats of an export: how each is written, and how it is made to run for its proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from torch.export import ExportedProgram

from pipelines.exporting.bundle import bundle_running, bundle_usage, write_bundle
from pipelines.exporting.onnx_file import onnx_running, onnx_usage, write_onnx
from pipelines.exporting.program_file import program_running, program_usage, write_program
from pipelines.exporting.proof import Exported
from pipelines.measuring.portable import Portable
from recon.errors import InputError


class Format(NamedTuple):
    """One value of ``--format``.

    Attributes:
        model: the file, within the export's folder.
        write: writes it, ``write(program, portable, path, title)``.
        running: gives what runs it, ``running(path, portable)``.
        usage: Python code that runs it, of the inputs' names.
        run_by: what ran it for the proof, in words.
        packages: of the extra "export", that it needs.
    """

    model: str
    write: Callable[[ExportedProgram, Portable, Path, str], None]
    running: Callable[[Path, Portable], AbstractContextManager[Exported]]
    usage: Callable[[Sequence[str]], str]
    run_by: str
    packages: tuple[str, ...] = ()

    def check_packages(self) -> None:
        """Refuse to start without what is needed.

        Raises:
            InputError: a package is missing.
        """
        missing = [name for name in self.packages if find_spec(name) is None]
        if missing:
            raise InputError(
                f"{', '.join(missing)} cannot be imported: pip install 'shift-equivariant-recon[export]' installs it"
            )


FORMATS = {
    "onnx": Format(
        "model.onnx", write_onnx, onnx_running, onnx_usage, "onnxruntime", ("onnx", "onnxscript", "onnxruntime")
    ),
    "torch-export": Format(
        "model.pt2", write_program, program_running, program_usage, "torch in a fresh process without this project"
    ),
    "monai-bundle": Format(
        "models/model.pt2", write_bundle, bundle_running, bundle_usage, "MONAI's parser of the bundle"
    ),
}
