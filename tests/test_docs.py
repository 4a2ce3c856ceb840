"""Every command and every piece of Python in the README and the guide runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import savemat

from benchmarks import __main__ as benchmarks
from benchmarks import (
    chaos,
    evaluation,
    exactness,
    fuzz,
    gpu,
    loading,
    metrics,
    resnets,
    scale,
    tomography,
    translation,
    tuning,
    vision,
)
from data_prep.labelled import fashion_mnist
from data_prep.labelled.small_images import Part
from pipelines.commands import evaluate, export, predict, prepare, train
from tests.data_prep.ct_files import write_ct
from tests.data_prep.hu_files import body, series, write_nifti, write_series
from tests.data_prep.raw_files import Scan
from tests.data_prep.test_projections import exchange
from tests.data_prep.vision_files import write_cifar, write_imagenet

pytestmark = pytest.mark.usefixtures("few_slices")

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def sweep(argv: list[str]) -> int:
    """Run recon-tune in a process of its own: Ray reads its settings only once in each."""
    return subprocess.run([sys.executable, "-m", "pipelines.commands.tune", *argv], timeout=300).returncode


COMMANDS = {
    "recon-train": train.main,
    "recon-evaluate": evaluate.main,
    "recon-predict": predict.main,
    "recon-prepare": prepare.main,
    "recon-export": export.main,
    "recon-tune": sweep,
    "python -m benchmarks.exactness": exactness.main,
    "python -m benchmarks.chaos": chaos.main,
    "python -m benchmarks.evaluation": evaluation.main,
    "python -m benchmarks.fuzz": fuzz.main,
    "python -m benchmarks.gpu": gpu.main,
    "python -m benchmarks.loading": loading.main,
    "python -m benchmarks.metrics": metrics.main,
    "python -m benchmarks.resnets": resnets.main,
    "python -m benchmarks.scale": scale.main,
    "python -m benchmarks.tomography": tomography.main,
    "python -m benchmarks.translation": translation.main,
    "python -m benchmarks.tuning": tuning.main,
    "python -m benchmarks.vision": vision.main,
    "python -m benchmarks": benchmarks.main,
}
SMALL_CLASSIFIER = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--trainer.enable_progress_bar=false",
    "--evaluation.shifts=1",
    "--dataset.n_workers=0",
    "--dataset.batch_size=4",
    "--threads=1",
]
# what makes a documented command small; it stands last, so that it wins
SMALL = {
    "recon-train": [
        "--network.widths=[4,6]",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.enable_progress_bar=false",
        "--evaluation.shifts=1",
        "--dataset.n_workers=0",
        "--threads=1",
    ],
    "fashion_mnist": SMALL_CLASSIFIER,
    "cifar10": [*SMALL_CLASSIFIER, "--network.architecture=resnet20"],
    "imagenet": [
        *SMALL_CLASSIFIER,
        "--network.architecture=resnet18",
        "--dataset.resize=40",
        "--dataset.image_size=[32,32]",
    ],
    "recon-evaluate": ["--shifts=1"],
    "recon-tune": [
        *("--samples=1", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.limit_val_batches=1"),
    ],
    "python -m benchmarks.chaos": ["--moments=1", "--operations=1"],
    "python -m benchmarks.exactness": ["--pairs=2", "--pairs64=2"],
    "python -m benchmarks.evaluation": ["--slices=1", "--shifts=2", "--repeats=1"],
    "python -m benchmarks.tomography": ["--slices=2", "--theirs=1", "--repeats=1", "--size=64", "--phantoms=1"],
    "python -m benchmarks.resnets": ["--shifts=4", "--size=64", "--architectures", "resnet18", "--blurs", "1"],
    "python -m benchmarks.gpu": ["--device=cpu"],
    "python -m benchmarks.loading": ["--volumes=1", "--slices=1", "--coils=2", "--repeats=1", "--workers", "0", "1"],
    "python -m benchmarks.metrics": ["--slices=2", "--size=32", "--repeats=1"],
    "python -m benchmarks.scale": [
        *("--volumes", "2", "--slices=2", "--sizes", "32", "--widths", "2", "--repeats=1", "--out=scale.png")
    ],
    "python -m benchmarks.tuning": ["--trials=1", "--epochs=1", "--batches=1"],
    "python -m benchmarks.translation": ["--size=32", "--repeats=1"],
    "python -m benchmarks.vision": ["--images=2", "--repeats=1"],
}


# test_benchmarks.py looks at what they say
IN_TEST_BENCHMARKS = tuple(f"python -m benchmarks.{name}" for name in ("layers", "networks", "unrolled"))


def blocks(language: str) -> list[str]:
    return [block for page in PAGES for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)]


def every_fortieth(part: Part) -> Part:
    return part._replace(images=part.images[::40], labels=part.labels[::40])


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("console") for line in block.splitlines()]
    lines = [line for line in lines if line and not line.startswith("make ") and line not in IN_TEST_BENCHMARKS]
    return list(dict.fromkeys(lines))


@pytest.fixture(scope="session")
def validation(data):
    return data / "singlecoil_val"


@pytest.fixture(scope="session")
def lodopab(tmp_path_factory):
    return write_ct(tmp_path_factory.mktemp("lodopab"), {"train": 1, "val": 1, "test": 1}, n_photons=4096)


@pytest.fixture(scope="session")
def ct_run(lodopab, tmp_path_factory):
    out = tmp_path_factory.mktemp("ct_run")
    flags = ["--data", str(lodopab), "--out", str(out), "--dataset.image_size=[32,32]"]
    assert train.main(["--task", "ct", *flags, *SMALL["recon-train"]]) == 0
    return out


@pytest.fixture
def run_config(run):
    return run / "config.yaml"


@pytest.fixture(scope="session")
def kspace_run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("kspace_run")
    flags = ["--network", "complex_unet", "--data", str(data), "--out", str(out)]
    assert train.main(["--task", "mri", *flags, *SMALL["recon-train"]]) == 0
    return out


@pytest.fixture(scope="session")
def cifar(tmp_path_factory):
    return write_cifar(tmp_path_factory.mktemp("cifar"), n_train=20, n_test=5)


@pytest.fixture(scope="session")
def imagenet(tmp_path_factory):
    return write_imagenet(tmp_path_factory.mktemp("imagenet"), n_classes=2, n_per_class=2)


@pytest.fixture(scope="session")
def classifier(cifar, tmp_path_factory):
    out = tmp_path_factory.mktemp("classifier")
    assert train.main(["--task", "cifar10", "--data", str(cifar), "--out", str(out), *SMALL["cifar10"]]) == 0
    return out


@pytest.fixture
def brain(here):
    image = nibabel.Nifti1Image(np.random.default_rng(0).random((40, 30, 2)), np.eye(4))
    nibabel.save(image, here / "brain.nii.gz")
    return here / "brain.nii.gz"


KSPACE = np.pad(np.ones((1, 4, 2, 2), complex), ((0, 0), (0, 0), (15, 15), (15, 15)))  # slices, coils, rows, columns


@pytest.fixture
def ismrmrd_scan(here):
    return Scan([KSPACE]).write(here / "scan.h5")


@pytest.fixture
def cup_phantom(here):
    savemat(here / "cup_phantom.mat", {"ksp": KSPACE[0, 0]})
    return here / "cup_phantom.mat"


@pytest.fixture
def kspace_array(here):
    np.save(here / "kspace.npy", KSPACE)
    return here / "kspace.npy"


@pytest.fixture
def subjects(here):
    with h5py.File(here / "subjects.h5", "w") as file:
        file["7B/FSE"] = KSPACE[:, 0]
    return here / "subjects.h5"


@pytest.fixture
def imported(here):
    for name in ("anna", "bert", "carl"):
        np.save(here / f"{name}.npy", KSPACE[0, 0])
    files = [str(here / f"{name}.npy") for name in ("anna", "bert", "carl")]
    assert prepare.main(["import", *files, "--out", str(here / "measured")]) == 0
    return here / "measured"


@pytest.fixture
def tooth(here):
    return exchange(here / "tooth.h5")


@pytest.fixture
def imported_tooth(tooth, here):
    assert prepare.main(["import", "--task", "ct", str(tooth), "--out", str(here / "imported")]) == 0
    return here / "imported" / "tooth.h5"


@pytest.fixture
def lists(here):
    (here / "split.yaml").write_text("train: [anna]\nval: [bert]\ntest: [carl]\n")
    return here / "split.yaml"


@pytest.fixture
def chest(here):
    return write_nifti(here / "chest.nii.gz", body())


@pytest.fixture
def dicom(here):
    return write_series(here / "series", series(body()))


@pytest.fixture
def my_network(here, monkeypatch):
    """The guide's own network, as the file that the page calls it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (code,) = (block for block in blocks("python") if block.startswith("# my_network.py"))
    (here / "my_network.py").write_text(code)
    return "my_network:Denoiser"


# what stands for a folder or a file in the pages, and the fixture that makes it
NAMES = {
    **dict.fromkeys(("RUN", "RUN_A", "RUN_B"), "run"),
    "RUN/config.yaml": "run_config",
    "RUN_CT": "ct_run",
    "RUN_KSPACE": "kspace_run",
    "RUN_CLASSIFIER": "classifier",
    "/data/fastmri/knee": "data",
    "/data/fastmri/knee/singlecoil_val": "validation",
    "singlecoil_val": "validation",
    "/data/lodopab": "lodopab",
    "/data/cifar": "cifar",
    "/data/imagenet": "imagenet",
    "brain.nii.gz": "brain",
    "chest.nii.gz": "chest",
    "scan.h5": "ismrmrd_scan",
    "cup_phantom.mat": "cup_phantom",
    "kspace.npy": "kspace_array",
    "subjects.h5": "subjects",
    "measured": "imported",
    "split.yaml": "lists",
    "tooth.h5": "tooth",
    "scans/tooth.h5": "imported_tooth",
    "series": "dicom",
    "my_network:Denoiser": "my_network",
}
RUNS = dict.fromkeys(("stride", "lpf3", "aps"), "run")  # of recon-evaluate


def marked(line: str) -> Any:
    with_ray = line.startswith(("recon-tune", "python -m benchmarks.tuning"))
    return pytest.param(line, marks=[pytest.mark.ray] if with_ray else [], id="ray: " * with_ray + line)


@pytest.mark.slow
@pytest.mark.parametrize("line", [marked(line) for line in commands()])
def test_command(line, here, request, monkeypatch):
    whole = fashion_mnist.read_bundled
    monkeypatch.setattr(fashion_mnist, "read_bundled", lambda name: every_fortieth(whole(name)))
    name = next(name for name in COMMANDS if line.startswith(name))
    names = NAMES | (RUNS if name == "recon-evaluate" else {})
    tokens = shlex.split(line.removeprefix(name))
    tokens = [str(request.getfixturevalue(names[token])) if token in names else token for token in tokens]
    if "--resume" in tokens or "--print_config" in tokens:
        monkeypatch.setitem(SMALL, "recon-train", [])
    task = tokens[tokens.index("--task") + 1] if "--task" in tokens else ""
    small = SMALL.get(task if name == "recon-train" and task in SMALL else name, [])
    if {"primal_dual", "--init", "--model"} & set(tokens):  # which have no U-Net of ours, or the widths of the source
        small = [flag for flag in small if "widths" not in flag]
    assert COMMANDS[name]([*tokens, *small]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("code", blocks("python"))
def test_python(code):
    exec(compile(code, "documentation", "exec"), {})


def test_the_pages_have_commands_and_pictures_that_exist():
    assert len(commands()) > 8
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
