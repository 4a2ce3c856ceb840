"""recon-export: each format computes what the run does, moves along with the object, and needs nothing of ours."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pipelines.commands.export import main, open_with_data
from pipelines.exporting import elsewhere
from pipelines.exporting.formats import FORMATS
from pipelines.exporting.proof import TOLERANCE, prove
from pipelines.runs.checkpoints import build_task
from pipelines.runs.config import parse, settings_of
from pipelines.runtime.run_folder import write_config
from pipelines.tasks import TASKS, open_dataset
from recon.errors import InputError
from tests.data_prep.ct_files import write_ct
from tests.data_prep.vision_files import write_cifar
from tests.pipelines.test_bad_input import refuse
from tests.properties import random_shifts

ROOT = Path(__file__).parents[2]
UNET = ("--task=mri", "--network=unet", "--network.widths=[4,6]", "--network.norm=instance", "--evaluation.split=val")
KSPACE = ("--task=mri", "--network.widths=[4,6]", "--evaluation.split=val")
RUNS = {
    "aps": UNET,
    "stride": (*UNET, "--network.sampling=stride"),
    "complex_unet": (*KSPACE, "--network=complex_unet"),
    "varnet": (*KSPACE, "--network=varnet", "--network.n_cascades=2"),
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fresh_run(data, tmp_path_factory) -> Callable[[str], Path]:
    """A run folder as a training begins with, by its name in RUNS; made once."""
    made: dict[str, Path] = {}

    def make(name: str, *flags: str) -> Path:
        if name not in made:
            folder = made[name] = tmp_path_factory.mktemp(name) / name
            config = parse([*(flags or (*RUNS[name], f"--data={data}"))])
            kind = TASKS[config.task].kind
            kind.fit_to_data(config, open_dataset(config, config.evaluation.split))
            torch.manual_seed(0)
            (folder / "checkpoints").mkdir(parents=True)
            torch.save({"state_dict": build_task(config).state_dict()}, folder / "checkpoints" / "best.ckpt")
            write_config(folder, settings_of(config))
        return made[name]

    return make


@pytest.fixture(scope="module")
def classifier(fresh_run, tmp_path_factory) -> Path:
    cifar = write_cifar(tmp_path_factory.mktemp("cifar"), n_train=20, n_test=5)
    return fresh_run("classifier", "--task=cifar10", f"--data={cifar}", "--network.architecture=resnet20")


@pytest.fixture(scope="module")
def exported(fresh_run, classifier, tmp_path_factory) -> Callable[[str, str], Path]:
    """The folder of a run in a format; made once."""
    made: dict[tuple[str, str], Path] = {}

    def export(name: str, format_name: str) -> Path:
        if (name, format_name) not in made:
            out = made[name, format_name] = tmp_path_factory.mktemp("exported") / "out"
            run = classifier if name == "classifier" else fresh_run(name)
            assert main([str(run), "--format", format_name, "--out", str(out)]) == 0
        return made[name, format_name]

    return export


def proof(folder: Path) -> dict:
    assert not list(folder.parent.glob(".*"))
    return json.loads((folder / "export.json").read_text())["proof"]


CASES = [
    ("aps", "onnx"),
    pytest.param("aps", "torch-export", marks=pytest.mark.process),
    ("classifier", "onnx"),
    ("complex_unet", "monai-bundle"),
    pytest.param("varnet", "torch-export", marks=pytest.mark.process),
]


@pytest.mark.parametrize(("name", "format_name"), CASES)
def test_the_exported_form_computes_the_same_and_moves_along(name, format_name, exported):
    found = proof(exported(name, format_name))
    assert len(found["slices"]) == 3
    assert found["shifts_of_each"] == 50
    assert found["difference_from_the_run"] < TOLERANCE
    assert found["shift_error_max"] < TOLERANCE
    assert found["shift_equivariant"]
    assert "It is shift equivariant" in (exported(name, format_name) / "README.md").read_text()


def test_stride_is_exported_and_its_error_told(exported):
    """The control."""
    found = proof(exported("stride", "onnx"))
    assert found["difference_from_the_run"] < TOLERANCE
    assert found["shift_error_max"] > 1e-2
    assert not found["shift_equivariant"]
    assert "It is **not** shift equivariant" in (exported("stride", "onnx") / "README.md").read_text()


def test_onnx_takes_any_batch_and_size_and_chooses_in_float64(exported):
    path = exported("aps", "onnx") / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = torch.rand(3, 1, 36, 26)
    run = lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0])  # noqa: E731
    before = run(images)
    for shifts in random_shifts(3, (36, 26), 5):
        moved = [
            torch.stack([x.roll(tuple(s), (1, 2)) for x, s in zip(y, shifts, strict=True)]) for y in (images, before)
        ]
        assert (run(moved[0]) - moved[1]).abs().max() < TOLERANCE * before.abs().max()
    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    scores = [types[node.input[0]] for node in graph.node if node.op_type == "ArgMax"]
    assert scores
    assert set(scores) == {onnx.TensorProto.DOUBLE}
    assert {node.domain for node in graph.node} == {""}  # operators of ours have none


@pytest.mark.process
def test_the_fresh_process_has_torch_and_not_this_project(exported, tmp_path):
    path = exported("varnet", "torch-export") / "model.pt2"
    code = f"""
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert "torch" in sys.modules
for name in {elsewhere.ABSENT}:
    try:
        __import__(name)
    except ModuleNotFoundError:
        print("no", name)
"""
    command = [sys.executable, "-I", "-c", code, elsewhere.__file__, str(path), "1"]
    ended = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [word for name in elsewhere.ABSENT for word in ("no", name)]
    packages = {folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()}
    assert packages - {"benchmarks", "tests"} == {*elsewhere.ABSENT}


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")  # MONAI's
def test_monais_runner_runs_the_bundle_on_files(exported, fresh_run):
    from monai.bundle import run, verify_metadata

    folder = exported("complex_unet", "monai-bundle")
    opened = open_with_data(fresh_run("complex_unet"))
    with torch.no_grad():
        real = opened.kind.portable(opened.task, opened.dataset).slices[1]
    kspace, mask = (given.numpy() for given in real.inputs)
    (folder / "input").mkdir()
    np.savez(folder / "input" / "slice.npz", image=kspace, mask=mask)
    files = {key: str(folder / "configs" / f"{key}.json") for key in ("metadata", "inference")}
    with torch.enable_grad():
        run(run_id="run", meta_file=files["metadata"], config_file=files["inference"], bundle_root=str(folder))
    output = torch.from_numpy(np.load(folder / "output" / "slice.npy"))
    assert (output - real.output).abs().max() < TOLERANCE * real.output.abs().max()
    # what the specification asks for; the schema itself is on the internet
    needed = ["version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors"]
    schema = folder / "schema.json"
    schema.write_text(json.dumps({"type": "object", "required": [*needed, "copyright", "network_data_format"]}))
    verify_metadata(meta_file=files["metadata"], filepath=str(schema))
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert sum(weight.numel() for weight in weights.values()) > 100


def test_other_outputs_are_no_proof(fresh_run):
    run = open_with_data(fresh_run("aps"))
    with torch.no_grad():
        portable = run.kind.portable(run.task, run.dataset)
    assert prove(portable, portable.network).exact
    with pytest.raises(InputError, match=r"differ from the run's by 1\.0e-04"):
        prove(portable, lambda image: portable.network(image) * (1 + 1e-4))


def test_bad_input_is_one_sentence(fresh_run, classifier, data, tmp_path, capsys):
    def refused(run: Path, *flags: str, out: str = "out") -> str:
        sentence = refuse(capsys, main, run, *flags, "--out", tmp_path / out)
        assert not (tmp_path / "out").exists()
        return sentence

    run = fresh_run("aps")
    (tmp_path / "there").mkdir()
    assert "no run folder" in refused(tmp_path / "nowhere", "--format=onnx")
    assert "not a run folder" in refused(data, "--format=onnx")
    assert "onnx" in refused(run, "--format=onx")
    assert "is there already" in refused(run, "--format=onnx", out="there")
    assert "--format" in refused(run)
    assert "torch-export or monai-bundle" in refused(fresh_run("complex_unet"), "--format=onnx")
    ct = write_ct(tmp_path / "ct", {"train": 1, "val": 1, "test": 1})
    flags = ("--task=ct", "--network=unrolled", f"--data={ct}", "--network.widths=[4,6]", "--network.n_cascades=1")
    assert "sinogram" in refused(fresh_run("unrolled", *flags, "--dataset.image_size=[32,32]"), "--format=torch-export")


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    lacking = FORMATS["onnx"]._replace(packages=("onnx", "there_is_no_such_package"))
    with pytest.raises(InputError, match=r"^there_is_no_such_package .*\[export\]"):
        lacking.check_packages()
