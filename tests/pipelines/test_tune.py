"""recon-tune with a real Ray: sweeps, what kills them, and what is left behind."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.commands import train, tune
from pipelines.runtime.cluster import PREFIX, _temporary_folder
from pipelines.tuning.ledger import Ledger
from tests import fresh
from tests.pipelines.test_bad_input import refuse
from tests.pipelines.test_report import CHROMIUM, browser  # noqa: F401
from tests.pipelines.test_train import assert_same_run, command, table

pytestmark = pytest.mark.ray

SPACE = """
optimizer.lr: {loguniform: [1e-4, 1e-1]}
network.sampling: {choice: [stride, lpf, aps]}
network.blur: {choice: [1, 3], when: {network.sampling: aps}}
network: {widths: [4, 6], norm: instance}
dataset: {batch_size: 2, n_workers: 0}
trainer.max_epochs: 3
evaluation.shifts: 1
"""
FAILING = SPACE.replace("{loguniform: [1e-4, 1e-1]}", "{choice: [1e-3, 1e-2, 1e30]}")
MARK = "RECON_TEST_MARK"  # in the environment of all that a test starts
PATIENCE = 600  # seconds; a loaded machine needs some of it


class Started:
    """recon-tune in a process of its own, and whatever it starts."""

    def __init__(self, *arguments: object, module: str = "pipelines.commands.tune") -> None:
        self.mark = uuid.uuid4().hex
        self.process = fresh.Popen(
            [sys.executable, "-m", module, *map(str, arguments)], env=os.environ | {MARK: self.mark}
        )

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for it."""
        deadline = time.monotonic() + PATIENCE
        while not holds():
            if time.monotonic() > deadline:
                self.process.kill()
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.05)

    def ends(self) -> tuple[int, str, str]:
        """Its exit code and what it said; whatever it started has ended as well."""
        out, errors = self.process.communicate()
        assert_nothing_is_left(self.mark)
        return self.process.wait(), out, errors


def assert_nothing_is_left(mark: str) -> None:
    """No process with this mark; Ray's agents on a node wait for a minute after all else was killed."""
    deadline = time.monotonic() + 120
    while marked(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert marked(mark) == {}


def trainings(mark: str, parent: int | None = None) -> list[int]:
    """The processes that train, all or those that one node started."""
    found = [pid for pid, line in marked(mark).items() if line.startswith("ray::") and "Func" in line]
    return [pid for pid in found if parent in (None, parent_of(pid))]


def halt_in_mid_trial(mark: str, sweep: Path, epochs: int, parent: int | None = None) -> list[int]:
    """A process that has done its trial's first epoch and not its last two, stopped there; or none."""
    for pid in trainings(mark, parent):
        os.kill(pid, signal.SIGSTOP)
        number = re.match(r"(\d+)-", Path(f"/proc/{pid}/cwd").resolve().name)
        if number is not None and 0 < len(Ledger(sweep).rows(int(number[1]))) < epochs - 1:
            return [pid]
        os.kill(pid, signal.SIGCONT)
    return []


def parent_of(pid: int) -> int | None:
    """The process that started it; None when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def marked(mark: str) -> dict[int, str]:
    """The processes with this mark in their environment, and their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (path / "environ").read_bytes():
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
    return {pid: line for pid, line in found.items() if line}  # not the zombies


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("space") / "space.yaml"
    path.write_text(SPACE)
    return path


def flags(data: Path, space: Path, out: Path, *more: str) -> list[str]:
    return ["--task=mri", f"--data={data}", f"--space={space}", f"--out={out}", "--reduction=2", *more]


def read_table(path: Path) -> list[dict[str, str]]:
    """results.csv as it was written."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def statuses(sweep: Path) -> dict[int, str]:
    return {trial.number: trial.status for trial in Ledger(sweep)}


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """A folder for Ray's temporary files, with a name short enough for its sockets."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", folder)
        patch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.fixture(scope="module")
def sweep(data, temporary, tmp_path_factory) -> Iterator[Path]:
    """A sweep, in which a trial fails, whose driver was killed after its first trials, and that was resumed."""
    folder = tmp_path_factory.mktemp("sweep")
    space, out = folder / "space.yaml", folder / "sweep"
    space.write_text(FAILING)
    more = ["--samples=5", "--seed=1", "--trainer.gradient_clip_val=null"]  # of these five one fails
    killed = Started(*flags(data, space, out, *more))
    killed.until(lambda: out.exists() and "complete" in statuses(out).values())
    done = [number for number, status in statuses(out).items() if status not in ("running", "waiting")]
    assert len(done) < 5
    written = {path: path.stat().st_mtime_ns for n in done for path in (out / "trials" / f"{n:03d}").rglob("*")}
    killed.process.send_signal(signal.SIGKILL)
    killed.process.wait()
    assert len(list(temporary.glob(f"{PREFIX}*"))) == 1, "the control: a killed sweep cannot clean up"
    code, said, errors = Started("--resume", out).ends()
    assert code == 0, errors
    assert list(temporary.glob(f"{PREFIX}*")) == [], "what the killed one left is still there"
    assert {path: path.stat().st_mtime_ns for path in written} == written, "a finished trial ran again"
    assert all(f"trial {number} " not in said.partition("Best")[0] for number in done)
    yield out
    assert_nothing_is_left(killed.mark)  # last of all: Ray's agents take their time


def test_a_killed_sweep_has_every_trial(sweep):
    rows = read_table(sweep / "results.csv")
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert {row["status"] for row in rows} == {"complete", "pruned", "failed"}
    for row in rows:
        config = yaml.safe_load((sweep / row["folder"] / "config.yaml").read_text())
        assert config["optimizer"]["lr"] == float(row["optimizer.lr"])
        assert config["network"]["sampling"] == row["network.sampling"]
        assert ("pruned by asha" in row["reason"]) == (row["status"] == "pruned")
    for row in (row for row in rows if row["status"] != "failed"):
        epochs = table(sweep / row["folder"])
        assert len(epochs) == int(row["epochs"]) == (3 if row["status"] == "complete" else int(row["epochs"]))
        assert max(float(epoch["val_psnr"]) for epoch in epochs) == float(row["val_psnr"])
    assert not (sweep / "ray").exists()


def test_a_failure_that_would_happen_again_is_recorded_once(sweep):
    rows = read_table(sweep / "results.csv")
    assert {float(row["optimizer.lr"]) for row in rows if row["status"] == "failed"} == {1e30}
    for row in rows:
        assert (float(row["optimizer.lr"]) == 1e30) == (row["status"] == "failed")
        if row["status"] == "failed":
            assert "the loss became nan in epoch 0" in row["reason"]
            assert row["starts"] == "1"


def test_the_best_is_repeated_by_its_configuration(sweep, tmp_path):
    summary = json.loads((sweep / "summary.json").read_text())
    table_of = read_table(sweep / "results.csv")
    rows = {row["trial"]: float(row["val_psnr"]) for row in table_of if row["val_psnr"]}
    best = summary["best"]["trial"]
    assert (
        summary["best"]["figures"]["val_psnr"] == max(rows.values()) == rows[str(best)] > summary["median"]["val_psnr"]
    )
    assert train.main(["--config", str(sweep / "best.yaml"), "--out", str(tmp_path / "again")]) == 0
    assert_same_run(sweep / "trials" / f"{best:03d}", tmp_path / "again")
    trial = json.loads((sweep / "trials" / f"{best:03d}" / "summary.json").read_text())
    assert json.loads((tmp_path / "again" / "summary.json").read_text()) == trial
    evaluated = json.loads((sweep / "evaluation" / "summary.json").read_text())["runs"]  # with other threads
    assert evaluated[f"{best:03d}"]["plain"]["psnr"] == pytest.approx(trial["plain"]["psnr"], rel=1e-6)


def test_a_complete_sweep_is_not_run_again(sweep, capsys):
    before = (sweep / "results.csv").read_text()
    assert tune.main(["--resume", str(sweep)]) == 0
    assert "ray" not in capsys.readouterr().err
    assert (sweep / "results.csv").read_text() == before


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page(sweep, browser, width):  # noqa: F811
    page = sweep / "report.html"
    tab = browser.new_page(viewport={"width": width, "height": 900})
    complaints: list[str] = []
    tab.on("console", lambda message: complaints.append(message.text))
    tab.goto(page.as_uri())
    assert complaints == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        tab.locator("svg").count()
        == 1 + 3 + 1 + any(row["network.blur"] for row in read_table(sweep / "results.csv")) - 1
    )
    rows = {row["trial"]: row for row in read_table(sweep / "results.csv")}
    for cell in tab.locator("data[data-key]").all():
        number, _, metric = cell.get_attribute("data-key").rpartition("/")
        if number in rows:
            assert cell.get_attribute("data-value") == rows[number][metric]
    tab.close()


def test_a_population_and_a_storage_elsewhere(data, tmp_path):
    """Trials that keep their state at an address, change on the way, and come back as run folders with their past."""
    path = tmp_path / "space.yaml"
    content = yaml.safe_load(SPACE)
    for key in ("network.sampling", "network.blur"):
        del content[key]
    path.write_text(yaml.safe_dump({**content, "scheduler.gamma": {"uniform": [0.1, 0.9]}}))
    out, storage = tmp_path / "sweep", (tmp_path / "elsewhere").as_uri()
    more = ["--scheduler=pbt", "--trainer.max_epochs=2", "--samples=2", f"--storage={storage}"]
    more += ["--objective", "val_psnr", "val_ssim"]
    code, _, errors = Started(*flags(data, path, out, *more)).ends()
    assert code == 0, errors
    rows = read_table(out / "results.csv")
    assert [row["status"] for row in rows] == ["complete", "complete"]
    schedules = [json.loads((out / row["folder"] / "schedule.json").read_text()) for row in rows]
    changes = [change for schedule in schedules for change in schedule["changes"]]
    assert {change["epoch"] for change in changes} == {1}
    assert any(change["from_trial"] != schedule["trial"] for schedule in schedules for change in schedule["changes"])
    for row, schedule in zip(rows, schedules, strict=True):
        assert schedule["trial"] == int(row["trial"])
        used = {change["epoch"]: change["set"]["optimizer.lr"] for change in schedule["changes"] if change["set"]}
        rates, rate = [], schedule["start"]["optimizer.lr"]
        for epoch in range(2):
            rate = used.get(epoch, rate)
            rates.append(rate)
        assert [float(epoch["lr"]) for epoch in table(out / row["folder"])] == pytest.approx(rates)
    assert "Changes on the way" in (out / "report.html").read_text()
    assert json.loads((out / "summary.json").read_text())["pareto_front"]


class TwoNodes:
    """A Ray cluster of two nodes on this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
        self.second = self.cluster.add_node(num_cpus=1)
        self.address = self.cluster.address


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    nodes = TwoNodes()
    yield nodes
    del os.environ[MARK]
    nodes.cluster.shutdown()


def test_a_lost_node_and_a_killed_trial(data, space, tmp_path, two_nodes):
    out, epochs = tmp_path / "sweep", 12  # a trial takes some seconds, so that it can be stopped on the way
    mark = os.environ[MARK]
    more = [f"--trainer.max_epochs={epochs}", "--samples=6", f"--address={two_nodes.address}", "--scheduler=none"]
    started = Started(*flags(data, space, out, *more))
    raylet = two_nodes.second.all_processes["raylet"][0].process.pid
    victims: list[int] = []
    started.until(lambda: victims.extend(halt_in_mid_trial(mark, out, epochs, raylet)) or victims != [])
    two_nodes.cluster.remove_node(two_nodes.second, allow_graceful=False)
    os.kill(victims[0], signal.SIGCONT)  # it shall see for itself that its node is gone
    started.until(lambda: any("node was lost" in trial.reason for trial in Ledger(out)))
    started.until(lambda: victims.extend(halt_in_mid_trial(mark, out, epochs)) or len(victims) == 2)
    os.kill(victims[1], signal.SIGKILL)
    code, _, errors = started.ends()
    assert code == 0, errors
    rows = read_table(out / "results.csv")
    assert [row["status"] for row in rows] == ["complete"] * 6
    assert sum(int(row["starts"]) - 1 for row in rows) >= 2
    for row in rows:
        assert [int(epoch["epoch"]) for epoch in table(out / row["folder"])] == list(range(epochs))


def test_folders_of_killed_processes_are_removed_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f"{PREFIX}killed" / "session").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with _temporary_folder() as first:
        assert {path.name for path in tmp_path.iterdir()} == {"other", Path(first).name}
        with _temporary_folder() as second:  # its owner is alive
            assert {path.name for path in tmp_path.iterdir()} == {"other", Path(first).name, Path(second).name}
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_ctrl_c_says_how_to_go_on(data, space, tmp_path):
    out = tmp_path / "sweep"
    more = ["--samples=2", "--concurrent=1", "--searcher=optuna", "--objective", "val_psnr", "val_nmse_eq"]
    started = Started(*flags(data, space, out, *more, "--scheduler=none"))
    started.until(lambda: out.exists() and "complete" in statuses(out).values())
    started.process.send_signal(signal.SIGTERM)
    code, _, errors = started.ends()
    assert code == 130, errors
    assert f"1 of 2 trials have ended; go on with: recon-tune --resume {out}" in errors
    assert "Traceback" not in errors


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


BAD = {
    "unknown key": ("network.samplin: {choice: [aps]}", [], "did you mean network.sampling"),
    "refused value": ("network.sampling: {choice: [aps, apps]}", [], "did you mean 'aps'"),
    "refused mask": ("dataset.mask_type: {choice: [radial]}", [], "radial"),
    "refused bound": ("optimizer.lr: {uniform: [-1, 1]}", [], "optimizer.lr is -1"),
    "refused decay": ("optimizer.betas: {choice: [[2, 3]]}", [], "optimizer"),
    "nothing to vary": ("seed: 1", [], "varies nothing"),
    "unknown setting": (SPACE + "sweep: {sample: 3}", [], "did you mean samples"),
    "more GPUs": (SPACE, ["--gpus-per-trial=1"], "this machine has 0 GPUs"),
    "two GPUs": (SPACE, ["--gpus-per-trial=2"], "one GPU or a share"),
    "more CPUs": (SPACE, ["--cpus-per-trial=4096"], "--cpus-per-trial is 4096"),
    "no trial": (SPACE, ["--samples=0"], "--samples is 0"),
    "mistyped flag": (SPACE, ["--sample=3"], "did you mean --samples"),
    "unknown objective": (SPACE, ["--objective", "val_psnt"], "did you mean 'val_psnr'"),
    "no cluster": (SPACE, [f"--address=127.0.0.1:{closed_port()}"], "no Ray cluster answers"),
    "no address": (SPACE, ["--address=nowhere"], "give auto, or HOST:PORT"),
    "nothing to change on the way": ("network.sampling: {choice: [aps, lpf]}", ["--scheduler=pbt"], "pbt"),
    "no space": (None, [], "cannot read the space"),
}


@pytest.fixture
def no_process_is_left(monkeypatch) -> Iterator[None]:
    """Of all that the test started; its own environment was read when it began."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    yield
    assert_nothing_is_left(mark)


@pytest.mark.usefixtures("no_process_is_left")
@pytest.mark.parametrize(("space", "more", "says"), BAD.values(), ids=BAD)
def test_bad_input(capsys, data, tmp_path, space, more, says):
    path, out = tmp_path / "space.yaml", tmp_path / "out"
    if space is not None:
        path.write_text(space)
    base = ["--network.widths=[4,6]"] if space is None or "widths" not in space else []
    sentence = refuse(
        capsys, tune.main, "--task=mri", f"--data={data}", f"--space={path}", f"--out={out}", *base, *more
    )
    assert says in sentence
    assert not out.exists()


@pytest.mark.usefixtures("no_process_is_left")
def test_a_port_of_something_else(capsys, data, space, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.runtime.cluster.SECONDS", 3)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"--address=127.0.0.1:{other.getsockname()[1]}"
        assert "within 3 s" in refuse(capsys, tune.main, *flags(data, space, tmp_path / "out", address))
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_process_is_left")
def test_where_nothing_can_be_written(capsys, data, space, tmp_path):
    (tmp_path / "file").touch()
    common = ["--task=mri", f"--data={data}", f"--space={space}"]
    assert "cannot write to" in refuse(capsys, tune.main, *common, f"--storage={tmp_path / 'file'}")
    assert "cannot write to" in refuse(capsys, tune.main, *common, f"--out={tmp_path / 'file' / 'sweep'}")
    for address in ("file:///proc/sweeps", "nowhere://bucket/sweeps"):
        sentence = refuse(capsys, tune.main, *common, f"--out={tmp_path / 'out'}", f"--storage={address}")
        assert f"cannot write to --storage {address}" in sentence
        assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_process_is_left")
def test_a_temporary_folder_that_sockets_do_not_fit_into(capsys, data, space, tmp_path, monkeypatch):
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert "set TMPDIR" in refuse(capsys, tune.main, *flags(data, space, tmp_path / "out"))
    assert "set TMPDIR" in refuse(capsys, train.main, *command(data, tmp_path / "out")[3:], "--ray-workers=1")
    assert not (tmp_path / "out").exists()


def test_a_sweep_is_resumed_as_it_is(capsys, sweep, tmp_path):
    assert "no folder of recon-tune" in refuse(capsys, tune.main, "--resume", tmp_path)
    assert "leave out --samples" in refuse(capsys, tune.main, "--resume", sweep, "--samples=9")
    assert "leave out --seed=1" in refuse(capsys, tune.main, "--resume", sweep, "--seed=1")
    assert "is not empty" in refuse(capsys, tune.main, "--task=mri", "--out", sweep)


def test_two_ray_workers_train_as_two_processes_and_outlive_a_kill(data, tmp_path):
    """A worker is killed in mid-training: all go on from the last checkpoint, to the figures of Lightning's DDP."""
    epochs = ["--trainer.max_epochs=3", "--sampling=stride"]
    arguments = [*command(data, tmp_path / "ray", *epochs)[3:], "--ray-workers=2"]
    started = Started(*arguments, module="pipelines.commands.train")
    started.until(lambda: (tmp_path / "ray/metrics.csv").exists() and len(table(tmp_path / "ray")) >= 1)
    workers = [pid for pid, line in marked(started.mark).items() if line.startswith("ray::") and "TrainWorker" in line]
    os.kill(workers[-1], signal.SIGKILL)
    code, said, errors = started.ends()
    assert code == 0, errors
    assert "Quality" in said
    devices = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    ddp = fresh.run(command(data, tmp_path / "ddp", *epochs, *devices))
    assert ddp.returncode == 0, ddp.stderr
    assert len(json.loads((tmp_path / "ray/environment.json").read_text())["resumed"]) == 1
    for ours, theirs in zip(table(tmp_path / "ray"), table(tmp_path / "ddp"), strict=True):
        for key, value in theirs.items():
            assert float(ours[key]) == pytest.approx(float(value), abs=1e-6), key
    assert float(table(tmp_path / "ddp")[0]["val_nmse_eq"]) > 1e-4


@pytest.mark.usefixtures("no_process_is_left")
def test_more_ray_workers_than_there_is_room_for(capsys, data, tmp_path):
    arguments = [*command(data, tmp_path / "run")[3:], "--ray-workers=999"]
    assert "--ray-workers is 999, of 1 CPUs each" in refuse(capsys, train.main, *arguments)
    assert not (tmp_path / "run").exists()
