"""What the commands need of a kind of task, reconstruction or classification; each finishes it in its own room."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor, nn

from pipelines.measuring.portable import Portable
from pipelines.measuring.rows import Row, Summaries, Summary
from pipelines.measuring.settings import Settings
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.runtime.nested import Tree, Value
from pipelines.training.base import TrainedTask
from pipelines.training.loaders import Data

TaskT = TypeVar("TaskT", bound=TrainedTask)
DataT = TypeVar("DataT", bound=Data)
SubjectT = TypeVar("SubjectT")


class Run(NamedTuple, Generic[TaskT, DataT]):
    """A network, ready to be measured, and the data to measure it on; one that is not ours need have no folder."""

    name: str
    folder: Path | None
    checkpoint: Path | None
    config: Namespace
    kind: Kind[TaskT, DataT, Any]
    task: TaskT
    dataset: DataT


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run beside its measurements.

    Attributes:
        name: as in the summaries.
        config: its settings, nested as in config.yaml.
        curves: the rows of its metrics.csv, which may be none.
        data: on what data it was measured.
        environment: of its training, as in environment.json; may be empty.
    """

    name: str
    config: Tree
    curves: Sequence[Mapping[str, str]]
    data: str
    environment: Tree


@dataclass(frozen=True)
class Measured:
    """All that an evaluation found, for its report.

    Attributes:
        facts: of the runs, in the order to show them in.
        summaries: by run, with "data".
        rows: of a run by its index; may be gone through again.
        settings: of the measurement, as they are reported; "protocols" are those that were asked for.
        environment: of the measurement, as environment.json has it.
    """

    facts: Sequence[RunFacts]
    summaries: Summaries
    rows: Callable[[int], Iterator[Row]]
    settings: Tree
    environment: Tree


class Piece(NamedTuple):
    """A part of a data set that is measured in one go.

    Attributes:
        name: as the results call it.
        number: of the volume or the group of images; None for images from outside.
        protocols: what is to be measured of it.
    """

    name: str
    number: int | None
    protocols: list[str]


class Kind(ABC, Generic[TaskT, DataT, SubjectT]):
    """Reconstruction or classification: how it is configured, checked, measured and shown.

    Attributes:
        protocols: by name; functions of a subject and Settings that yield rows.
        at_the_end: the protocols that a training ends with.
        cpu_batch: images at once on a CPU, where nothing is measured.
        saves_images: whether a network's outputs are images that can be written to files.
        figures: the validation figures that a run's table has a column for.
        monitor: the one of them that tells the best checkpoint.
    """

    protocols: ClassVar[Mapping[str, Callable[[Any, Settings], Iterator[Row]]]]
    at_the_end: ClassVar[tuple[str, ...]]
    cpu_batch: ClassVar[int]
    saves_images: ClassVar[bool]
    figures: ClassVar[tuple[str, ...]]
    monitor: ClassVar[str]

    @abstractmethod
    def add_arguments(self, parser: ArgumentParser, network: type[nn.Module], given: set[str]) -> None:
        """Add the keys of the network (but those that are given to it), the loss, the optimizer and the schedule."""

    @abstractmethod
    def resolve(self, config: Namespace) -> None:
        """Write out what the configuration leaves to defaults, such as the size of the blur.

        Raises:
            InputError: settings that contradict each other.
        """

    @abstractmethod
    def check_values(self, config: Namespace) -> None:
        """Refuse numbers that nothing can work with.

        Raises:
            InputError: names the key.
        """

    @abstractmethod
    def build_task(self, config: Namespace, network: NetworkEntry, data: type[DataT]) -> TaskT:
        """The task with fresh weights (seed torch before).

        Raises:
            InputError: settings that cannot work together.
        """

    @abstractmethod
    def fit_to_data(self, config: Namespace, dataset: DataT) -> None:
        """Fill in what the configuration of the network leaves to the data.

        Raises:
            InputError: the configuration says otherwise than the data.
        """

    @abstractmethod
    def check_targets(self, dataset: DataT) -> None:
        """Refuse data that cannot be trained or validated on.

        Raises:
            InputError: names the file.
        """

    @abstractmethod
    def check_data(self, dataset: DataT, task: TaskT) -> None:
        """Refuse data that the network cannot take, before anything runs.

        Raises:
            InputError: names the file or the size, and the remedy.
        """

    @abstractmethod
    def usable_protocols(self, dataset: DataT) -> list[str]:
        """The names of the protocols that can be measured of such data."""

    @abstractmethod
    def pieces_of(self, dataset: DataT, protocols: Sequence[str]) -> list[Piece]:
        """What there is to measure under some protocols."""

    @abstractmethod
    def subject(self, task: TaskT, dataset: DataT, piece: Piece, seed: int) -> SubjectT:
        """What a protocol takes: a piece before a network; seed of images that are drawn."""

    @abstractmethod
    def images(self, subject: SubjectT) -> Tensor:
        """The network's outputs ``(slices, rows, columns)`` in the file's units, on the CPU, where it has images."""

    @abstractmethod
    def summarise(self, rows: Sequence[Row], dataset: DataT) -> Summary:
        """Condense the rows of one run into figures."""

    @abstractmethod
    def print_tables(self, summaries: Summaries, note: str, data: type[DataT]) -> None:
        """Print the figures of some runs on such data, and a note on what the data are."""

    @abstractmethod
    def save_picture(
        self, path: Path, run: Run[TaskT, DataT], rows: Sequence[Row], settings: Settings, note: str
    ) -> None:
        """Draw a run as it was measured."""

    @abstractmethod
    def write_report(
        self,
        path: Path,
        runs: Sequence[Run[TaskT, DataT]],
        measured: Measured,
        settings: Settings,
        device: torch.device,
    ) -> None:
        """Write the page of an evaluation, with examples drawn anew on a device."""

    @abstractmethod
    def portable(self, task: TaskT, dataset: DataT) -> Portable:
        """What recon-export takes out of the project: a network, on the CPU, with real slices of some data.

        Raises:
            InputError: the network cannot leave, or no slice proves anything.
        """

    @torch.inference_mode()
    def measure(self, task: TaskT, dataset: DataT, names: Sequence[str], settings: Settings) -> list[Row]:
        """The rows of some protocols on a whole data set.

        Args:
            task: in eval mode, on the device to use.
            dataset: the split.
            names: of protocols.
            settings: how much is measured.
        """
        rows: list[Row] = []
        with exact_arithmetic():
            for piece in self.pieces_of(dataset, names):
                subject = self.subject(task, dataset, piece, settings.seed)
                rows += [row for name in piece.protocols for row in self.protocols[name](subject, settings)]
        return rows


class NetworkEntry(NamedTuple):
    """A network that a task offers.

    Attributes:
        build: its constructor; the arguments are the keys ``network.*``.
        given: arguments that no user sets.
        input_of: of reconstruction, what the network is handed of a batch, ``network(*input_of(batch, clamp))``; None
            for the normalised image.
        output_of: of reconstruction, what the network's output is as a normalised image, ``output_of(output, batch)``;
            None where it is one.
        measured: samples must hold the measurement, not the image alone.
        alignable: it gets k-space, so that ``network.align`` can bring the object to the centre first.
        older: what keys mean that a run's config.yaml lacks, since its version did not know them.
        fixed: arguments that the network's name says.
    """

    build: type[nn.Module]
    given: frozenset[str]
    input_of: Callable[..., tuple[Any, ...]] | None = None
    output_of: Callable[..., Tensor] | None = None
    measured: bool = False
    alignable: bool = False
    older: Mapping[str, Value] = {}
    fixed: Tree = {}


AnyKind = Kind[Any, Any, Any]
AnyRun = Run[Any, Any]
