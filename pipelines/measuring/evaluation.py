"""An evaluation as many small parts, each stored when it is whole: an interruption loses the parts in work alone."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import queue
import shutil
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Literal, NamedTuple, TextIO

import torch
from tqdm import tqdm

from data_prep import replace_file, write_hdf5
from pipelines.measuring.kind import AnyRun, Piece
from pipelines.measuring.rows import Row
from pipelines.measuring.settings import Settings
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.stored import check_regular
from recon.errors import InputError

PARTS = ".parts"  # the folder that holds them while an evaluation is not complete


class _Work(NamedTuple):
    """One piece before one run: its number among all, the run's index, and what is (still) to be measured of it."""

    number: int
    run: int
    piece: Piece
    protocols: list[str]


class Evaluation:
    """Runs protocols on the volumes of runs and keeps each result in a file of its own until all are there.

    The rows of one run, volume and protocol are one part: computed in one go, stored whole or not at all. What is
    stored is never computed again, and the batches inside a part do not depend on where an evaluation stopped, so
    that a resumed one ends with the very same table.

    Args:
        folder: of the evaluation.
        runs: of one kind, with distinct names.
        protocols: names in the kind's protocols.
        settings: how much is measured.
        save: write each volume's reconstruction into reconstructions/RUN/VOLUME.h5 as well.
    """

    def __init__(
        self, folder: Path, runs: Sequence[AnyRun], protocols: Sequence[str], settings: Settings, save: bool = False
    ) -> None:
        self.folder, self.runs, self.settings, self.save = folder, runs, settings, save
        self.kind = runs[0].kind
        self._stored: set[Path] = set()  # known to be whole
        protocols = [name for name in self.kind.protocols if name in protocols]
        found = [
            (index, piece) for index, run in enumerate(runs) for piece in self.kind.pieces_of(run.dataset, protocols)
        ]
        self.works = [_Work(number, index, piece, piece.protocols) for number, (index, piece) in enumerate(found)]

    @property
    def n_parts(self) -> int:
        """How many parts there are."""
        return sum(len(work.protocols) for work in self.works)

    @property
    def n_done(self) -> int:
        """How many parts are stored."""
        return sum(self._is_stored(work, name) for work in self.works for name in work.protocols)

    def run(self, devices: Sequence[torch.device]) -> None:
        """Compute the parts that are missing, on all devices at once.

        Raises:
            InputError: a file that cannot be read any more, or an output that is not finite.
        """
        todo: queue.SimpleQueue[_Work] = queue.SimpleQueue()
        for work in self.works:
            missing = [name for name in work.protocols if not self._is_stored(work, name)]
            if missing or self._reconstruction(work) is not None:
                todo.put(work._replace(protocols=missing))
        stop = threading.Event()
        bar = tqdm(total=self.n_parts, initial=self.n_done, desc="measuring", unit=" part", disable=None, leave=False)
        with bar, exact_arithmetic():
            if len(devices) == 1:
                self._work(devices[0], todo, stop, bar)
                return
            with ThreadPoolExecutor(len(devices)) as pool:
                try:
                    futures = [pool.submit(self._work, device, todo, stop, bar) for device in devices]
                    wait(futures, return_when=FIRST_EXCEPTION)
                finally:
                    stop.set()  # one failed or was interrupted: the others leave what they are at
                for future in futures:
                    future.result()

    def rows(self, run: int) -> Iterator[Row]:
        """The rows of one run, in the order of the volumes and the protocols. Words are shared: rows are millions."""
        for part in self._parts(run):
            with _open(part) as file:
                file.readline()  # the check sum
                for fields in csv.reader(file):
                    protocol, volume, number, y, x, metric, status = map(sys.intern, (*fields[:6], fields[7]))
                    value = float(fields[6]) if fields[6] else ""
                    yield Row(protocol, volume, int(number) if number else "", y, x, metric, value, status)

    def write_table(self, path: Path) -> None:
        """Put all parts together, whole or not at all."""
        with replace_file(path) as temporary, _open(temporary, "w") as file:
            csv.writer(file).writerow(("run", *Row._fields))
            for number, run in enumerate(self.runs):
                name = _as_csv([(run.name,)]).rstrip("\r\n")
                for part in self._parts(number):
                    with _open(part) as lines:
                        lines.readline()  # the check sum
                        file.writelines(f"{name},{line}" for line in lines)

    def clear(self) -> None:
        """Remove the parts, all at once."""
        done = self.folder / f"{PARTS}-done"
        with contextlib.suppress(FileNotFoundError):  # another --resume of the same folder was first
            (self.folder / PARTS).rename(done)
        shutil.rmtree(done, ignore_errors=True)

    def _is_stored(self, work: _Work, protocol: str) -> bool:
        """Whether a part is there and whole: one that is damaged is computed again."""
        path = self._part(work, protocol)
        if path not in self._stored and path.exists():
            check_regular(path)
            first, end, content = path.read_bytes().partition(b"\n")
            if first + end == _check_sum(content):
                self._stored.add(path)
        return path in self._stored

    def _parts(self, run: int) -> Iterator[Path]:
        return (self._part(work, name) for work in self.works if work.run == run for name in work.protocols)

    def _part(self, work: _Work, protocol: str) -> Path:
        return self.folder / PARTS / protocol / f"{work.number:06d}.csv"

    def _reconstruction(self, work: _Work) -> Path | None:
        """Where the volume's reconstruction is still to be written."""
        path = self.folder / "reconstructions" / self.runs[work.run].name / f"{work.piece.name}.h5"
        return path if self.save and work.piece.number is not None and not path.exists() else None

    @torch.inference_mode()
    def _work(self, device: torch.device, todo: queue.SimpleQueue[_Work], stop: threading.Event, bar: tqdm) -> None:
        """Compute pieces on one device until there are no more."""
        current, task, dataset = -1, self.runs[0].task, self.runs[0].dataset
        while not stop.is_set():
            try:
                work = todo.get_nowait()
            except queue.Empty:
                return
            if work.run != current:
                current, run = work.run, self.runs[work.run]
                task, dataset = copy.deepcopy(run.task).to(device).eval(), copy.deepcopy(run.dataset)
            subject = self.kind.subject(task, dataset, work.piece, self.settings.seed)
            bar.set_postfix_str(f"{self.runs[current].name}: {work.piece.name}")
            for protocol in work.protocols:
                rows = []
                try:
                    for row in self.kind.protocols[protocol](subject, self.settings):
                        rows.append(row)
                        if stop.is_set():
                            return
                except torch.OutOfMemoryError:
                    raise InputError(
                        f"{device} has too little memory for {work.piece.name} ({protocol}): start again with a "
                        "smaller --batch-size"
                    ) from None
                self._store(self._part(work, protocol), rows)
                bar.update()
            path = self._reconstruction(work)
            if path is not None:
                make_folder(path.parent)
                write_hdf5(path, {"reconstruction": self.kind.images(subject).numpy()})

    def _store(self, path: Path, rows: Sequence[Row]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = _as_csv(rows).encode("utf-8", "surrogateescape")
        with replace_file(path) as temporary:
            temporary.write_bytes(_check_sum(content) + content)
        self._stored.add(path)


def _open(path: Path, mode: Literal["r", "w"] = "r") -> TextIO:
    """A table; names that are not UTF-8 keep their bytes."""
    return path.open(mode, newline="", encoding="utf-8", errors="surrogateescape")


def _check_sum(content: bytes) -> bytes:
    """The first line of a part."""
    return f"{zlib.crc32(content):08x}\n".encode()


def _as_csv(rows: Sequence[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def check_same(before: Mapping[str, object], now: Mapping[str, object]) -> None:
    """Refuse to go on with an evaluation whose runs or data changed since.

    Raises:
        InputError: names the first that did.
    """
    for name in before.keys() | now.keys():
        if before.get(name) != now.get(name):
            raise InputError(f"{name} changed since this evaluation started: start another with a new --out")
