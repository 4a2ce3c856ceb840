"""MONAI bundles of an exported program: they need MONAI and torch, and nothing of this project."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from pipelines.exporting.program_file import write_program
from pipelines.exporting.proof import Exported
from pipelines.measuring.portable import Port, Portable
from pipelines.runtime.nested import Tree
from pipelines.runtime.run_folder import write_json

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
VERSION = "0.1.0"
FIRST = "image"  # MONAI's name of a network's input
INFERENCE: Tree = {
    "imports": ["$import numpy", "$import pathlib", "$import torch"],
    "bundle_root": ".",
    "device": "$torch.device('cpu')",
    "network_def": "$torch.export.unflatten(torch.export.load(@bundle_root + '/models/model.pt2'))",
    "network": "$@network_def.to(@device)",
    "predict": f"$lambda given: @network(torch.as_tensor(given['{FIRST}']), "
    f"**{{name: torch.as_tensor(given[name]) for name in given if name != '{FIRST}'}}).numpy()",
    "dataset_dir": "$@bundle_root + '/input'",
    "output_dir": "$@bundle_root + '/output'",
    "files": "$sorted(pathlib.Path(@dataset_dir).glob('*.npz'))",
    "run": [
        "$torch.set_grad_enabled(False)",
        "$pathlib.Path(@output_dir).mkdir(parents=True, exist_ok=True)",
        "$[numpy.save(pathlib.Path(@output_dir) / file.stem, @predict(numpy.load(file))) for file in @files]",
    ],
}


def write_bundle(program: ExportedProgram, portable: Portable, path: Path, title: str) -> None:
    """Write the program, and beside it the weights, metadata and configuration that make a bundle of it.

    Args:
        program: to be exported.
        portable: of what run.
        path: of the program, models/model.pt2 within the bundle.
        title: what it is.
    """
    write_program(program, portable, path, title)
    torch.save(program.state_dict, path.with_suffix(".pt"))  # which the specification asks for
    configs = path.parents[1] / "configs"
    configs.mkdir()
    write_json(configs / "inference.json", INFERENCE)
    write_json(configs / "metadata.json", _metadata(portable, title))


@contextmanager
def bundle_running(path: Path, portable: Portable) -> Iterator[Exported]:
    """Give what runs the network as the bundle's configuration builds it, after MONAI's check of shapes and types."""
    from monai.bundle import ConfigParser, verify_net_in_out

    for name, level in (("monai.bundle.scripts", logging.WARNING), ("torch.export.unflatten", logging.ERROR)):
        logging.getLogger(name).setLevel(level)
    root = path.parents[1]
    files = {key: str(root / "configs" / f"{key}.json") for key in ("metadata", "inference")}
    others = portable.inputs[1:]
    smallest = dict.fromkeys(("rows", "columns"), 2 * portable.multiple)
    names = [FIRST, *(port.name for port in others)]
    with warnings.catch_warnings(action="ignore"):
        verify_net_in_out(
            "network_def",
            meta_file=files["metadata"],
            config_file=files["inference"],
            device="cpu",
            extra_forward_args={
                port.name: torch.ones(port.size(batch=1, **smallest), dtype=port.dtype) for port in others
            },
            bundle_root=str(root),
        )
        parser = ConfigParser()
        parser.read_config(files["inference"])
        parser["bundle_root"] = str(root)
        predict = parser.get_parsed_content("predict")

    def run(*inputs: Tensor) -> Tensor:
        return torch.from_numpy(predict(dict(zip(names, inputs, strict=True))))

    yield run


def bundle_usage(names: Sequence[str]) -> str:
    """Python code that runs a bundle, of its inputs' names."""
    given = ", ".join(f"{FIRST if name == names[0] else name}={name}" for name in names)
    return f"""\
import pathlib

import numpy
from monai.bundle import run

pathlib.Path("input").mkdir(exist_ok=True)  # in the bundle's folder, as the other files
numpy.savez("input/slice.npz", {given})
run(config_file="configs/inference.json", meta_file="configs/metadata.json", run_id="run")
output = numpy.load("output/slice.npy")"""


def _metadata(portable: Portable, title: str) -> Tree:
    first, *others = portable.inputs
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "changelog": {VERSION: "exported by recon-export"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": str(torch.__version__),
        "numpy_version": metadata.version("numpy"),
        "required_packages_version": {},
        "optional_packages_version": {},
        "name": title.partition(",")[0],
        "task": title,
        "description": "The normalisation is inside. models/model.pt2 is a program of torch.export, which needs no "
        "other package. What was measured of it is in export.json.",
        "authors": "shift-equivariant-recon",
        "copyright": "of who trained it",
        "intended_use": "Research. Not for diagnosis.",
        "network_data_format": {
            "inputs": {FIRST: _format(first, portable)} | {port.name: _format(port, portable) for port in others},
            "outputs": {"pred": _format(portable.output, portable)},
        },
    }


def _format(port: Port, portable: Portable) -> Tree:
    sides = [side for side in port.shape if side in ("rows", "columns")]
    n_channels = port.shape[1] if isinstance(port.shape[1], int) else 1
    return {
        "type": "image" if len(sides) == 2 else "tuples",
        "format": "kspace" if port.name == "kspace" else "magnitude",
        "modality": "n/a",
        "num_channels": n_channels,
        "spatial_shape": [f"{portable.multiple}*(n+1)" for _ in sides],
        "dtype": str(port.dtype).removeprefix("torch."),
        "value_range": [],
        "is_patch_data": False,
        "channel_def": {str(number): port.meaning for number in range(n_channels)},
    }
