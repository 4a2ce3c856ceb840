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
from pipelines.measuring.kind import kind_of
from pipelines.reconstruction.protocols import Settings
from pipelines.reconstruction.qualities import Row
from pipelines.reconstruction.task import denormalise
from pipelines.runs.open import Run
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.run_folder import make_folder
from pipelines.runtime.stored import check_regular
from recon.errors import InputError

PARTS = ".parts"  # the folder that holds them while an evaluation is not complete


class _Piece(NamedTuple):
    """One volume (or set of images) before one run, and what is still to be measured of it."""

    number: int
    run: int
    name: str
    volume: int | None
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
        self, folder: Path, runs: Sequence[Run], protocols: Sequence[str], settings: Settings, save: bool = False
    ) -> None:
        self.folder, self.runs, self.settings, self.save = folder, runs, settings, save
        self.kind = kind_of(runs[0].task)
        self._stored: set[Path] = set()  # known to be whole
        protocols = [name for name in self.kind.protocols if name in protocols]
        found = [
            (number, *subject)
            for number, run in enumerate(runs)
            for subject in self.kind.subjects_of(run.dataset, protocols)
        ]
        self.pieces = [_Piece(number, *piece) for number, piece in enumerate(found)]

    @property
    def n_parts(self) -> int:
        """How many parts there are."""
        return sum(len(piece.protocols) for piece in self.pieces)

    @property
    def n_done(self) -> int:
        """How many parts are stored."""
        return sum(self._is_stored(piece, name) for piece in self.pieces for name in piece.protocols)

    def run(self, devices: Sequence[torch.device]) -> None:
        """Compute the parts that are missing, on all devices at once.

        Raises:
            InputError: a file that cannot be read any more, or an output that is not finite.
        """
        work: queue.SimpleQueue[_Piece] = queue.SimpleQueue()
        for piece in self.pieces:
            missing = [name for name in piece.protocols if not self._is_stored(piece, name)]
            if missing or self._reconstruction(piece) is not None:
                work.put(piece._replace(protocols=missing))
        stop = threading.Event()
        bar = tqdm(total=self.n_parts, initial=self.n_done, desc="measuring", unit=" part", disable=None, leave=False)
        with bar, exact_arithmetic():
            if len(devices) == 1:
                self._work(devices[0], work, stop, bar)
                return
            with ThreadPoolExecutor(len(devices)) as pool:
                try:
                    futures = [pool.submit(self._work, device, work, stop, bar) for device in devices]
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

    def _is_stored(self, piece: _Piece, protocol: str) -> bool:
        """Whether a part is there and whole: one that is damaged is computed again."""
        path = self._part(piece, protocol)
        if path not in self._stored and path.exists():
            check_regular(path)
            first, end, content = path.read_bytes().partition(b"\n")
            if first + end == _check_sum(content):
                self._stored.add(path)
        return path in self._stored

    def _parts(self, run: int) -> Iterator[Path]:
        return (self._part(piece, name) for piece in self.pieces if piece.run == run for name in piece.protocols)

    def _part(self, piece: _Piece, protocol: str) -> Path:
        return self.folder / PARTS / protocol / f"{piece.number:06d}.csv"

    def _reconstruction(self, piece: _Piece) -> Path | None:
        """Where the volume's reconstruction is still to be written."""
        path = self.folder / "reconstructions" / self.runs[piece.run].name / f"{piece.name}.h5"
        return path if self.save and piece.volume is not None and not path.exists() else None

    @torch.inference_mode()
    def _work(self, device: torch.device, work: queue.SimpleQueue[_Piece], stop: threading.Event, bar: tqdm) -> None:
        """Compute pieces on one device until there are no more."""
        current, task, dataset = -1, self.runs[0].task, self.runs[0].dataset
        while not stop.is_set():
            try:
                piece = work.get_nowait()
            except queue.Empty:
                return
            if piece.run != current:
                current, run = piece.run, self.runs[piece.run]
                task, dataset = copy.deepcopy(run.task).to(device).eval(), copy.deepcopy(run.dataset)
            subject = self.kind.subject(task, dataset, piece.name, piece.volume, self.settings.seed)
            bar.set_postfix_str(f"{self.runs[current].name}: {piece.name}")
            for protocol in piece.protocols:
                rows = []
                try:
                    for row in self.kind.protocols[protocol](subject, self.settings):
                        rows.append(row)
                        if stop.is_set():
                            return
                except torch.OutOfMemoryError:
                    raise InputError(
                        f"{device} has too little memory for {piece.name} ({protocol}): start again with a smaller "
                        "--batch-size"
                    ) from None
                self._store(self._part(piece, protocol), rows)
                bar.update()
            path = self._reconstruction(piece)
            if path is not None:
                make_folder(path.parent)
                volume = torch.cat([denormalise(y, sample)[:, 0].cpu() for sample, y, *_ in subject.passed])
                write_hdf5(path, {"reconstruction": volume.numpy()})

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
