"""What every test starts from, which tests take long, and in which order they run."""

from __future__ import annotations

import fcntl
import multiprocessing.process
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.resources import as_file
from pathlib import Path
from typing import Any, NoReturn

import h5py
import pytest
import torch

from data_prep import bundled
from data_prep.storage.packaged import packaged_file
from tests.data_prep.files import write_dataset

TINY = [
    "--network.widths=[4,6,8]",
    "--network.norm=instance",
    "--dataset.batch_size=2",
    "--dataset.n_workers=0",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.devices=1",
    "--trainer.enable_progress_bar=false",
    "--optimizer.lr=0.01",
    "--threads=1",
    "--evaluation.shifts=2",
]

LONG = {"process", "training", "ray", "slow"}  # the marks of what `make quick` leaves out
TRAINING = {"train", "run", "runs", "trained", "ct_run", "stopped"}  # fixtures that train
PROCESS = {  # tests of recon and data_prep that start one
    "test_another_process_keeps_out_until_it_ends",
    "test_a_forked_process_computes_the_same",
    "test_benchmark",
    "test_bits_depend_neither_on_order_nor_on_workers",
    "test_bits_depend_neither_on_order_nor_on_workers_nor_on_threads",
    "test_file_that_turns_bad_in_mid_training_is_named",
    "test_in_the_interpreter",
    "test_kernels_run_in_a_forked_worker",
    "test_killed_and_resumed_it_ends_with_the_same_bytes",
    "test_of_several_processes_one_computes",
    "test_racing_processes_both_end_well",
    "test_stable_seed_is_equal_in_other_processes_and_tells_parts_apart",
    "test_survives_pickle_and_spawn",
    "test_the_compiler_is_loaded_where_it_is_needed",
    "test_two_processes",
    "test_without_a_place_for_the_cache_everything_runs",
    "test_without_numba_everything_runs_and_it_is_said_once",
    "test_workers_change_nothing",
}
SLOW = (  # of recon
    "tests/recon/test_export.py",
    "tests/recon/test_resnet.py::test_every_architecture_untrained_gives_shifted_photographs_the_same_logits",
    "tests/recon/test_resnet.py::test_torchvisions_weights_load_key_for_key_into_every_variant",
)
OURS = {"benchmarks", "data_prep", "pipelines", "recon", "tests"}
SWEEPS, GUIDE = "tests/pipelines/test_tune.py", "tests/test_docs.py"
FIRST = (
    SWEEPS,
    GUIDE,
    "tests/recon/test_export.py",
    "tests/pipelines/test_train.py",
    "tests/test_fuzz.py",
    "tests/test_exactness.py",
    "tests/test_chaos.py",
    "tests/test_benchmarks.py",
    "tests/pipelines/test_tune_space.py",
)
RAY_LOCK = Path(tempfile.gettempdir()) / f"recon-tests-{os.getuid()}-ray.lock"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what trains by the fixtures it asks for; what takes longest comes first."""
    for item in items:
        if TRAINING & set(getattr(item, "fixturenames", ())):
            item.add_marker("training")
        if getattr(item, "originalname", "") in PROCESS:
            item.add_marker("process")
        if item.nodeid.startswith(SLOW):
            item.add_marker("slow")
    place = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(_file(item.nodeid), len(FIRST)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """File by file, so that what a file's tests share is made once; the guide's commands one by one."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            if _file(nodeid) != GUIDE:
                return super()._split_scope(nodeid)
            return SWEEPS if "[ray: " in nodeid else nodeid

    return Scheduling(config, log)


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One test at a time has a Ray, on the whole machine; what is not marked as long neither trains nor starts one."""
    marks = {mark.name for mark in item.iter_markers()}
    with ExitStack() as during:
        if "ray" in marks:
            during.enter_context(_alone())
        if not marks & LONG:
            during.enter_context(_without_processes())
        return (yield)


@contextmanager
def _alone() -> Iterator[None]:
    with RAY_LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _without_processes() -> Iterator[None]:
    popen = subprocess.Popen.__init__

    def refuse(*arguments: object, **settings: object) -> NoReturn:
        raise RuntimeError(f"a quick test must not do this: mark it as one of {', '.join(sorted(LONG))}")

    def refuse_ours(*arguments: object, **settings: object) -> None:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals["__name__"] == "subprocess":
            frame = frame.f_back
        if frame.f_globals["__name__"].partition(".")[0] in OURS:
            refuse()
        popen(*arguments, **settings)  # a library's own affair, such as jsonargparse's, which asks for a path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", refuse_ours)
        patch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
        patch.setattr(os, "fork", refuse)
        if "pytorch_lightning" in sys.modules:
            patch.setattr("pytorch_lightning.Trainer.fit", refuse)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's caches stay untouched; Ray's trials, which give way to all others by default, have their turn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("RAY_worker_niceness", "0")
        yield


@pytest.fixture(autouse=True)
def _same_start_for_every_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeded, one thread, no run folder of another test."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    monkeypatch.delenv("RECON_RUN_FOLDER", raising=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three volumes to train on and three to validate on, 3 slices of 32 x 32 each."""
    return write_dataset(tmp_path_factory.mktemp("data"), {"train": 3, "val": 3})


@pytest.fixture(scope="session")
def train(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Run recon-train in this process on the tiny data; gives the run folder."""

    from pipelines.commands.train import main  # here, so that the tests of recon start without Lightning

    def run(*extra: str, out: Path | None = None) -> Path:
        folder = out or tmp_path_factory.mktemp("run")
        assert main(["--task", "mri", "--data", str(data), "--out", str(folder), *TINY, *extra]) == 0
        return folder

    return run


@pytest.fixture(scope="session")
def run(train: Callable[..., Path]) -> Path:
    """A finished aps run, to be read only."""
    return train()


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the bundled samples have two slices of each person."""
    folder = tmp_path_factory.mktemp("samples")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundled, "packaged_file", partial(_with_two_slices, folder))
        bundled.bundled_mri(folder)
        bundled.bundled_ct(folder)
    return folder


def _with_two_slices(folder: Path, name: str) -> Path:
    path = folder / Path(name).name
    with as_file(packaged_file(name)) as whole, h5py.File(whole) as images, h5py.File(path, "w") as few:
        for person, slices in images.items():
            few.create_dataset(person, data=slices[len(slices) // 2 :][:2]).attrs.update(slices.attrs)
    return path


@pytest.fixture
def few_slices(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever asks for the bundled samples, also in another process, finds those of :func:`samples`."""
    monkeypatch.setenv("RECON_CACHE", str(samples))
