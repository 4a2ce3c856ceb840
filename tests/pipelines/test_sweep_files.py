"""A sweep's own files, damaged; spaces that cannot be; and pictures of names that are no text and no formula."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from pipelines.commands import train, tune
from pipelines.tuning.kept import KeptSweep, Request
from pipelines.tuning.request import make_request
from pipelines.tuning.results import find
from recon.errors import InputError
from tests.conftest import TINY
from tests.data_prep.files import write_dataset
from tests.pipelines.test_bad_input import refuse
from tests.pipelines.test_tune_space import NO_FLAGS, sweep_of

RANGE = "optimizer.lr: {loguniform: [1e-4, 1e-2]}\n"
SPACES = {
    "sweep: 3": (RANGE + "sweep: 3\n", "sweep in .* is 3"),
    "a blank sweep": (RANGE + "sweep:\n", "sweep in .* is None"),
    "blank samples": (RANGE + "sweep: {samples: }\n", "--samples is empty"),
    "samples yes": (RANGE + "sweep: {samples: yes}\n", "--samples is True"),
    "more samples than anyone has": (RANGE + "sweep: {samples: 2147483648}\n", "from 1 to 100000"),
    "words for CPUs": (RANGE + "sweep: {cpus_per_trial: two}\n", "--cpus-per-trial is two"),
    "words for GPUs": (RANGE + "sweep: {gpus_per_trial: half}\n", "--gpus-per-trial is half"),
    "a blank value": (RANGE + "network.widths:\n", "network.widths cannot be .None."),
    "a blank range": ("optimizer.lr: {loguniform: }\n", "no value to try"),
    "real numbers for whole ones": ("scheduler.step_size: {uniform: [1, 5]}\n", r"step_size 2\.5.*expected int"),
    "a date": (RANGE + "loss.name: {choice: [2020-01-01]}\n", "give numbers, words"),
    "not a number": (RANGE + "clamp: {choice: [.nan]}\n", "give numbers, words"),
}


@pytest.mark.parametrize(("text", "says"), SPACES.values(), ids=SPACES)
def test_spaces_are_refused_before_any_trial(capsys, here, data, text, says):
    (here / "space.yaml").write_text(text)
    flags = ["--task=mri", f"--data={data}", "--space=space.yaml", "--out=sweep", *TINY[:4]]
    flags += [] if "scheduler" in text else ["--scheduler.step_size=3"]
    flags = [flag for flag in flags if not (flag.startswith("--network.widths") and "widths:" in text)]
    sentence = refuse(capsys, tune.main, *flags, "--trainer.max_epochs=2")
    assert re.search(says, sentence), sentence
    assert not (here / "sweep").exists()


@pytest.fixture(scope="module")
def request_of_two() -> Request:
    """Two trials on the bundled sample."""
    return make_request({**NO_FLAGS, "samples": 2}, ["--task=mri"])


@pytest.fixture
def sweep(request_of_two: Request, tmp_path: Path) -> Path:
    """A sweep with two trials that have ended."""
    sweep_of(tmp_path, {0: ("complete", [(20.0, 0.1)]), 1: ("complete", [(21.0, 0.1)])})
    for number in range(2):
        (tmp_path / "trials" / f"{number:03d}.json").write_text(
            json.dumps({"number": number, "point": {"optimizer.lr": 1e-3}, "status": "complete"})
        )
    tune._store(tmp_path, request_of_two)
    return tmp_path


DAMAGES = {
    "a list": ("trials/000.json", "[]", "000.json is damaged"),
    "another number": ("trials/000.json", '{"number": 1, "point": {}}', "it is of trial 1"),
    "an unknown status": ("trials/001.json", '{"number": 1, "point": {}, "status": "lost"}', "status"),
    "a point that is none": ("trials/001.json", '{"number": 1, "point": [1]}', "point"),
    "a point of another space": ("trials/001.json", '{"number": 1, "point": {"clamp": 2}}', "not of the sweep's space"),
    "a value out of range": ("trials/001.json", '{"number": 1, "point": {"optimizer.lr": "x"}}', "the sweep's space"),
    "cut": ("sweep.json", '{"settings": {', "sweep.json is damaged"),
    "nested": ("sweep.json", "[" * 200_000, "nested too deeply"),
    "a long number": ("sweep.json", '{"settings": ' + "1" * 131_000 + "}", "sweep.json is damaged"),
    "NUL": ("sweep.json", "\0\0\0", "no UTF-8 text"),
    "an epoch's row cut": ("trials/000/metrics.csv", "epoch,val_psnr\n0,20.", "not whole"),
    "a figure that is none": ("trials/000/metrics.csv", "epoch,val_psnr\n0,nan248\n", "nan248"),
    "a schedule that is a list": ("trials/000/schedule.json", "[]", "schedule.json is damaged"),
}


@pytest.mark.process
@pytest.mark.parametrize(("name", "content", "says"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_sweep(capsys, sweep, monkeypatch, name, content, says):
    monkeypatch.setattr(tune, "_run", lambda *_: pytest.fail("trials would start"))
    (sweep / "results.csv").touch()  # of a sweep that has ended
    (sweep / name).write_text(content)
    assert says in refuse(capsys, tune.main, "--resume", sweep)


@pytest.mark.process
def test_a_sweep_s_settings_out_of_their_bounds(capsys, sweep):
    content = json.loads((sweep / "sweep.json").read_text())
    for key, value in (("samples", -1), ("gpus", 2), ("objectives", []), ("cpus", "many"), ("seed", None)):
        changed = {**content, "settings": {**content["settings"], key: value}}
        (sweep / "sweep.json").write_text(json.dumps(changed))
        assert f"settings.{key}" in refuse(capsys, tune.main, "--resume", sweep)


def test_a_pipe_in_the_place_of_a_sweep_is_not_waited_on(capsys, tmp_path):
    os.mkfifo(tmp_path / "sweep.json")
    assert "a pipe or a device" in refuse(capsys, tune.main, "--resume", tmp_path)


@pytest.mark.process
def test_a_whole_sweep_reads_back_as_it_was_written(sweep):
    """The control: nothing that the program writes is refused."""
    from pipelines.runtime.stored import read_json
    from pipelines.tuning.ledger import Ledger
    from pipelines.tuning.request import check_trials, read_request

    request = read_request(sweep / "sweep.json")
    ledger = Ledger(sweep)
    check_trials(ledger, request.space)
    assert find(ledger, request.settings.objectives).best.trial.number == 1
    assert read_json(sweep / "sweep.json", KeptSweep).settings == request.settings
    with pytest.raises(InputError, match="cannot be read"):
        read_request(sweep / "nowhere.json")


@pytest.mark.process
def test_a_section_that_lacks_is_that_of_the_defaults(sweep):
    from pipelines.tuning.request import read_request

    path = sweep / "sweep.json"
    kept = json.loads(path.read_text())
    shifts = kept["config"].pop("evaluation")["shifts"]
    path.write_text(json.dumps(kept))
    assert read_request(path).config["evaluation"]["shifts"] >= 1 <= shifts


@pytest.mark.training
def test_a_training_on_names_that_are_no_text_and_no_formula(capsys, tmp_path):
    """The picture names the middle volume: Latin-1 bytes, and what TeX would take for a broken formula."""
    data = write_dataset(tmp_path / "data", {"train": 1, "val": 3})
    for number, path in enumerate(sorted((data / "singlecoil_val").iterdir())):
        path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9 $\\frac$ %d.h5" % number))
    common = ["--task=mri", f"--data={data}", *TINY, "--trainer.max_epochs=1"]
    assert train.main([*common, f"--out={tmp_path / 'run'}"]) == 0
    assert (tmp_path / "run" / "summary.png").stat().st_size > 10_000
    out = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xfcn"))
    assert "is not UTF-8" in refuse(capsys, train.main, *common, f"--out={out}")
    assert not out.exists()
