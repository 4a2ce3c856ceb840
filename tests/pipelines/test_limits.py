"""Numbers that nobody has, settings that fail in a step, YAML that says a thing twice, machines with too little."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from pipelines.commands import evaluate, predict, prepare, train, tune
from pipelines.runtime.failures import sentence_of
from tests.conftest import TINY
from tests.pipelines.test_bad_input import refuse, train_on

NUMBERS = {
    "seed": ("--seed=4294967296", "seed is 4294967296: give at most 4294967295"),
    "threads": ("--threads=4096", "threads is 4096"),
    "threads of no machine": (f"--threads={(os.cpu_count() or 1) + 1}", "but this machine has"),
    "stride": ("--network.stride=2147483648", "network.stride is 2147483648: give at most 32"),
    "widths": ("--network.widths=[100000,100000]", "network.widths is 100000"),
    "memory": ("--network.widths=[60000,60000,60000]", "parameters, and training them takes at least"),
    "clamp": ("--clamp=1e308", r"clamp is 1e\+308"),
    "clamp without an end": ("--clamp=.inf", "clamp is inf"),
    "batch size": ("--dataset.batch_size=9223372036854775808", "dataset.batch_size is 9223372036854775808"),
    "devices": ("--trainer.devices=2147483648", "trainer.devices is"),
    "accumulated": ("--trainer.accumulate_grad_batches=9223372036854775808", "accumulate_grad_batches"),
    "max_shift": ("--dataset.max_shift=9223372036854775808", "dataset.max_shift"),
    "shifts": ("--evaluation.shifts=2147483648", "evaluation.shifts"),
    "eps": ("--optimizer.eps=1e308", "optimizer.eps"),
    "nan": ("--scheduler.gamma=.nan", "scheduler.gamma is nan: give a number"),
    "many digits": (f"--seed={'9' * 5000}", "seed"),
    "negative clipping": ("--trainer.gradient_clip_val=-1", "gradient_clip_val is -1: give 0 or more"),
    "less than a batch": ("--trainer.limit_val_batches=0.01", "less than one of 5 batches: give 0.2 or more"),
    "less than a batch to train on": ("--trainer.limit_train_batches=0.1", "less than one of 5 batches"),
    "tpu": ("--trainer.accelerator=tpu", "the trainer settings cannot work"),
    "profiler": ("--trainer.profiler=xla", "unknown trainer.profiler 'xla'"),
    "spawned processes": ("--trainer.strategy=ddp_spawn", "unknown trainer.strategy 'ddp_spawn'"),
    "capturable": ("--optimizer.capturable=true", "optimizer or scheduler settings cannot work"),
    "differentiable": ("--optimizer.differentiable=true", "optimizer or scheduler settings cannot work"),
}


@pytest.mark.parametrize(("flag", "says"), NUMBERS.values(), ids=NUMBERS)
def test_settings_of_a_training(capsys, data, tmp_path, flag, says):
    (tmp_path / "data").symlink_to(data)
    sentence = train_on(capsys, tmp_path / "data", flag)
    assert says.replace("\\", "").lower() in sentence.lower()
    assert len(sentence) < 600


@pytest.mark.parametrize("number", ["2147483648", "9223372036854775808", "1e308", "-1", "nan", "9" * 5000])
def test_numeric_flags_of_the_other_commands(capsys, run, tmp_path, number):
    image, out = tmp_path / "image.npy", tmp_path / "out"
    image.touch()
    of_reals = [
        (evaluate.main, [run, "--noise-levels"]),
        (predict.main, [run, tmp_path, "--photons"]),
        (prepare.main, ["simulate", image, "--noise"]),
        (prepare.main, ["simulate", image, "--photons"]),
    ]
    for main, argv in (
        (evaluate.main, [run, "--shifts"]),
        (evaluate.main, [run, "--max-shift"]),
        (evaluate.main, [run, "--batch-size"]),
        (predict.main, [run, tmp_path, "--batch-size"]),
        (prepare.main, ["simulate", image, "--matrix"]),
        (prepare.main, ["simulate", image, "--band-limit"]),
        (prepare.main, ["simulate", image, "--coils"]),
        *(of_reals if number != "2147483648" else []),
    ):
        sentence = refuse(capsys, main, *argv, number, "--out", out)
        assert argv[-1] in sentence
        assert len(sentence) < 300
        assert not out.exists()


def test_a_seed_that_is_none(capsys, run, tmp_path):
    for main, argv in ((evaluate.main, [run]), (prepare.main, ["simulate", tmp_path / "image.npy"])):
        sentence = refuse(capsys, main, *argv, "--seed=4294967296", "--out", tmp_path / "out")
        assert "from 0 to 4294967295" in sentence


@pytest.mark.parametrize("where", ["data", "out", "resume"])
def test_a_path_of_5000_characters(capsys, data, where):
    argv = {"data": data, "out": data.parent / "out", "resume": None} | {where: f"/{'a' * 5000}"}
    flags = [f"--{key}={value}" for key, value in argv.items() if value is not None]
    sentence = refuse(capsys, train.main, *([] if where == "resume" else ["--task=mri", *TINY]), *flags)
    assert "too long" in sentence
    assert len(sentence) < 5500


TWICE = {
    "a mapping": "network:\n  blur: 3\nseed: 1\nnetwork:\n  stride: 2\n",
    "a key": "seed: 1\nseed: 2\n",
    "nested and dotted": "network.blur: 3\nnetwork:\n  blur: 1\n",
}


@pytest.mark.parametrize("content", TWICE.values(), ids=TWICE)
def test_yaml_that_says_a_thing_twice(capsys, data, tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    (tmp_path / "data").symlink_to(data)
    assert "twice" in train_on(capsys, tmp_path / "data", f"--config={path}")
    path.write_text(content + "optimizer.lr: {loguniform: [1e-4, 1e-2]}\n")
    flags = ["--task=mri", f"--data={data}", *TINY, f"--space={path}", f"--out={tmp_path / 'sweep'}"]
    assert "twice" in refuse(capsys, tune.main, *flags)
    path.write_text("widths: [4, 8]\nblur: 1\nwidths: [4, 4]\n")
    assert "twice" in train_on(capsys, tmp_path / "data", f"--network={path}")


@pytest.mark.parametrize("content", ["a: &a [*a]\n", "a: &a {b: *a}\n", f"seed: {'9' * 5000}\n", "seed: 2020-13-45\n"])
def test_yaml_that_is_none(capsys, data, tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    (tmp_path / "data").symlink_to(data)
    assert len(train_on(capsys, tmp_path / "data", f"--config={path}")) < 600


def test_a_configuration_that_is_a_pipe_is_not_waited_for(capsys, data, tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "data").symlink_to(data)
    assert "is not a file" in train_on(capsys, tmp_path / "data", f"--config={tmp_path / 'pipe.yaml'}")


def test_a_seed_of_a_space_that_is_too_large(capsys, data, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("seed: {choice: [1, 4294967296]}\n")
    flags = ["--task=mri", f"--data={data}", *TINY, f"--space={path}", f"--out={tmp_path / 'sweep'}"]
    assert "4294967296: give at most 4294967295" in refuse(capsys, tune.main, *flags)


@pytest.mark.process
def test_a_foreign_drawing_backend():
    environment = os.environ | {"MPLBACKEND": "nonsense"}
    command = [
        sys.executable,
        "-c",
        "from pipelines.reconstruction import picture; print(picture.matplotlib.get_backend().lower())",
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "agg", done.stderr


@pytest.mark.process
def test_a_loading_process_that_is_killed(capsys, data, tmp_path, monkeypatch):
    from data_prep import FastMRIDataset

    main_process = os.getpid()

    def killed(self, key):
        assert os.getpid() != main_process
        os.kill(os.getpid(), signal.SIGBUS)

    monkeypatch.setattr(FastMRIDataset, "__getitem__", killed)
    flags = [f"--data={data}", f"--out={tmp_path / 'run'}", *TINY, "--dataset.n_workers=1"]
    capsys.readouterr()
    assert train.main(["--task=mri", *flags]) == 2
    said = capsys.readouterr().err
    assert "/dev/shm" in said
    assert "--dataset.n_workers=0" in said
    assert "fault of the program" not in said
    assert "Traceback" not in said


def test_what_is_said_of_a_machine_with_too_little():
    """The very words of torch and numpy."""
    full = "unable to write to file </torch_7_1_0>: No space left on device (28)"
    assert "/dev/shm" in str(sentence_of(RuntimeError(full)))
    caught = f"Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback:\n  ...\nRuntimeError: {full}\n"
    assert "--shm-size" in str(sentence_of(RuntimeError(caught)))
    killed = "DataLoader worker (pid 812) is killed by signal: Killed. "
    assert "pid 812" in str(sentence_of(RuntimeError(killed)))
    assert "memory" in str(sentence_of(MemoryError("Unable to allocate 119. GiB for an array")))
    assert sentence_of(KeyError("ours")) is None
    assert sentence_of(ValueError("Caught ValueError in DataLoader worker process 0.\nValueError: ours")) is None
