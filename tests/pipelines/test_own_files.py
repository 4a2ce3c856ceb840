"""The program's own files, damaged, and names of every kind: one sentence, or the right result."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_prep import replace_file
from pipelines.commands import evaluate, predict, train
from pipelines.measuring.evaluation import PARTS, Evaluation
from tests import fresh
from tests.conftest import TINY
from tests.pipelines.test_bad_input import refuse

SIXTEEN = "a: 1\n".encode("utf-16")
CONFIGS = {
    "circular": b"&a\n- *a\n",
    "circular mapping": b"network: &a\n  widths: *a\n",
    "5,000 digits": b"task: mri\nseed: " + b"9" * 5000 + b"\n",
    "a null section": b"task: mri\nnetwork: null\n",
    "a list": b"- task\n- mri\n",
    "nothing": b"",
    "UTF-16": SIXTEEN,
    "NUL": b"task: mri\0",
    "binary": bytes(range(128, 256)),
}


@pytest.fixture
def own(run, tmp_path):
    """A finished run, to be damaged."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.mark.parametrize("content", CONFIGS.values(), ids=CONFIGS)
def test_damaged_configurations(capsys, own, tmp_path, content):
    (own / "config.yaml").write_bytes(content)
    for main, *flags in (
        (evaluate.main, own, "--out", tmp_path / "out"),
        (train.main, "--resume", own),
        (predict.main, own, own, "--out", tmp_path / "out"),
    ):
        assert "config.yaml" in refuse(capsys, main, *flags)
    assert not (tmp_path / "out").exists()
    assert (own / "config.yaml").read_bytes() == content


@pytest.mark.parametrize("name", ["config.yaml", "checkpoints/last.ckpt"])
def test_a_pipe_is_not_waited_on_and_a_folder_is_no_file(capsys, own, name):
    (own / name).unlink()
    os.mkfifo(own / name)
    refuse(capsys, train.main, "--resume", own)
    (own / name).unlink()
    (own / name).mkdir()
    assert Path(name).name in refuse(capsys, train.main, "--resume", own)


TABLES = {
    "UTF-16": SIXTEEN,
    "NUL": b"epoch\0",
    "a cut row": b"epoch,train_loss\n0",
    "words": b"epoch,train_loss\n0,low\n",
    "no epochs": b"step,train_loss\n0,1\n",
}
ENVIRONMENTS = {
    "a list": b"[]",
    "UTF-16": SIXTEEN,
    "cut": b'{"command": "recon',
    "resumed is a number": b'{"resumed": 3}',
}


@pytest.mark.parametrize(
    ("name", "content"),
    [("metrics.csv", b) for b in TABLES.values()] + [("environment.json", b) for b in ENVIRONMENTS.values()],
    ids=[*TABLES, *ENVIRONMENTS],
)
def test_what_only_accompanies_a_run_hinders_nothing(capsys, own, tmp_path, name, content):
    """The table's rows are in the checkpoint; of the environment, what is known now is better than nothing."""
    before = (own / "metrics.csv").read_text()
    (own / name).write_bytes(content)
    assert evaluate.main([str(own), "--protocols=plain", "--out", str(tmp_path / "out")]) == 0
    assert train.main(["--resume", str(own), "--trainer.max_epochs=3"]) == 0
    assert "Traceback" not in capsys.readouterr().err
    assert (own / "metrics.csv").read_text().startswith(before)
    assert json.loads((own / "environment.json").read_text())["seed"] == 0


def as_list(checkpoint):
    return [checkpoint]


def nested(checkpoint):
    return checkpoint | {"state_dict": {"network": checkpoint["state_dict"]}}


def bytes_as_keys(checkpoint):
    return checkpoint | {"state_dict": {k.encode(): v for k, v in checkpoint["state_dict"].items()}}


def nan_as_a_key(checkpoint):
    return checkpoint | {"state_dict": {float("nan"): 1}}


def words(checkpoint):
    return checkpoint | {"state_dict": dict.fromkeys(checkpoint["state_dict"], "weights")}


def sparse(checkpoint):
    return checkpoint | {"state_dict": {k: v.to_sparse() for k, v in checkpoint["state_dict"].items()}}


@pytest.mark.parametrize("damage", [as_list, nested, bytes_as_keys, nan_as_a_key, words, sparse])
def test_checkpoints_whose_tree_is_another(capsys, own, tmp_path, damage):
    for name in ("best.ckpt", "last.ckpt"):
        path = own / "checkpoints" / name
        torch.save(damage(torch.load(path, weights_only=True)), path)
    assert "best.ckpt" in refuse(capsys, evaluate.main, own, "--out", tmp_path / "out")
    assert "last.ckpt" in refuse(capsys, train.main, "--resume", own, "--trainer.max_epochs=3")


@pytest.mark.parametrize(
    "key",
    ["optimizer_states", "lr_schedulers", "loops", "epoch", "global_step", "pytorch-lightning_version", "Loaders"],
)
@pytest.mark.parametrize("value", ["words", None, [], {"a": float("nan")}])
def test_the_state_of_a_training_that_is_no_state(capsys, own, key, value):
    path = own / "checkpoints" / "last.ckpt"
    torch.save(torch.load(path, weights_only=True) | {key: value}, path)
    assert "last.ckpt" in refuse(capsys, train.main, "--resume", own, "--trainer.max_epochs=3")


PIECES = {
    "truncated": lambda text: text[: len(text) // 2],
    "binary": lambda text: bytes(range(256)),
    "nan248": lambda text: text.replace(b"ok", b"nan248"),
    "131,000 digits": lambda text: text.replace(b"ok", b"9" * 131000),
}


@pytest.mark.parametrize("damage", [*PIECES.values(), None], ids=[*PIECES, "a folder in its place"])
def test_damaged_parts_of_an_evaluation_are_computed_again(capsys, own, tmp_path, monkeypatch, damage):
    flags = [str(own), "--protocols=plain", "--out", str(tmp_path / "out")]
    reference = [*flags[:-1], str(tmp_path / "reference")]
    assert evaluate.main(reference) == 0
    store, stored = Evaluation._store, []

    def stop_after_two(self, *given):
        if len(stored) == 2:
            raise KeyboardInterrupt
        stored.append(given)
        store(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "_store", stop_after_two)
        assert evaluate.main(flags) == 130
    part = next(path for path in sorted((tmp_path / "out" / PARTS).rglob("*")) if path.is_file())
    content = part.read_bytes()
    part.unlink()
    if damage is None:
        part.mkdir()
        assert part.name in refuse(capsys, evaluate.main, "--resume", tmp_path / "out")
        part.rmdir()
    else:
        part.write_bytes(damage(content))
    assert evaluate.main(["--resume", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out/results.csv").read_bytes() == (tmp_path / "reference/results.csv").read_bytes()


def test_damaged_arguments_of_an_evaluation(capsys, own, tmp_path):
    out = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluation, "_store", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert evaluate.main([str(own), "--protocols=plain", "--out", str(out)]) == 130
    whole = json.loads((out / "evaluation.json").read_text())
    for content in (
        b"[]",
        SIXTEEN,
        b"{}",
        json.dumps(whole | {"arguments": whole["arguments"] | {"runs": 3}}).encode(),
    ):
        (out / "evaluation.json").write_bytes(content)
        assert "evaluation.json" in refuse(capsys, evaluate.main, "--resume", out)


# Names


@pytest.mark.training
def test_commands_to_be_copied_are_quoted(capsys, data, tmp_path, monkeypatch):
    out = tmp_path / "my run; rm *"

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipelines.runs.train.finish", interrupt)
    assert train.main(["--task=mri", f"--data={data}", f"--out={out}", *TINY]) == 130
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert shlex.split(said.partition("with: ")[2]) == ["recon-train", "--resume", str(out)]
    assert shlex.quote(str(out)) in refuse(capsys, train.main, "--task=mri", f"--data={data}", f"--out={out}", *TINY)


@pytest.mark.parametrize("length", [240, 255])
def test_a_name_as_long_as_a_name_can_be(tmp_path, length):
    path = tmp_path / ("n" * length)
    with replace_file(path) as temporary:
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.process
@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_a_terminal_that_cannot_show_a_name(data, own, tmp_path, encoding):
    """At the command line, with a name of Latin-1 bytes, which are no UTF-8, and one in Greek."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in (b"caf\xe9.h5", "\u03b3 [bold].h5".encode()):
        shutil.copy(data / "singlecoil_val" / "file0.h5", os.fsencode(folder) + b"/" + name)
    command = [
        sys.executable,
        "-m",
        "pipelines.commands.predict",
        str(own),
        str(folder),
        "--out",
        str(tmp_path / "out"),
    ]
    done = fresh.run(command, env=os.environ | {"PYTHONIOENCODING": encoding})
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    written = sorted(os.listdir(os.fsencode(tmp_path / "out")))
    assert b"caf\xe9.h5" in written
    assert "\u03b3 [bold].h5".encode() in written


@pytest.mark.training
def test_acquisitions_with_brackets_and_arrays(capsys, data, tmp_path):
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    files = sorted((copy / "singlecoil_val").glob("*.h5"))
    for path, value in zip(files, ("[/red] T2", np.array([1, 2]), "plain"), strict=True):
        with h5py.File(path, "r+") as file:
            file.attrs["acquisition"] = value
    out = tmp_path / "out"
    assert train.main(["--task=mri", f"--data={copy}", f"--out={out}", *TINY, "--trainer.max_epochs=1"]) == 0
    kinds = json.loads((out / "summary.json").read_text())["plain"]["by_acquisition"]
    assert {"[/red] T2", "plain"} < kinds.keys()
    assert evaluate.main([str(out), "--protocols=plain", "--out", str(tmp_path / "evaluation")]) == 0


@pytest.mark.parametrize("name", ["folder", "file.h5"])
def test_a_pipe_in_the_place_of_kspace_is_not_waited_on(capsys, own, tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert name in refuse(capsys, predict.main, own, tmp_path / name, "--out", tmp_path / "out")


def test_nodes_that_nobody_starts_are_not_waited_for(capsys, data, tmp_path, monkeypatch):
    for name in ("MASTER_ADDR", "SLURM_JOB_ID", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    out = tmp_path / "out"
    flags = ["--task=mri", f"--data={data}", f"--out={out}", *TINY, "--trainer.num_nodes=3"]
    assert "MASTER_ADDR" in refuse(capsys, train.main, *flags)
    assert not out.exists()
