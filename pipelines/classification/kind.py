"""Classification, as the commands see it: from labelled images to networks, rows, tables and pictures."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor, nn

from data_prep import LabelledDataset
from pipelines.classification import protocols, summary
from pipelines.classification.collected import CollectedAnswers
from pipelines.classification.examples import draw_answers
from pipelines.classification.picture import save_picture
from pipelines.classification.portable import portable
from pipelines.classification.report import classification_report
from pipelines.classification.subjects import ImageGroup, pieces_of
from pipelines.classification.task import ClassificationTask, learning_rates
from pipelines.measuring.foreign import foreign_in
from pipelines.measuring.kind import Kind, Measured, NetworkEntry, Piece, Run
from pipelines.measuring.portable import Portable
from pipelines.measuring.rows import Row, Summaries, Summary
from pipelines.measuring.settings import Settings
from pipelines.reports import write_report
from recon.errors import InputError
from recon.networks import resolve_architecture

FROM_DATA = {"n_classes": "classes", "in_channels": "channels"}  # of a network, unknown until the data are opened


class Classification(Kind[ClassificationTask, LabelledDataset, ImageGroup]):
    """Networks that name what an image shows."""

    protocols = protocols.PROTOCOLS
    at_the_end = ("plain", "circular-shift", "margins")
    cpu_batch = 50
    saves_images = False
    figures = ClassificationTask.figures
    monitor = ClassificationTask.monitor

    def add_arguments(self, parser: ArgumentParser, network: type[nn.Module], given: set[str]) -> None:
        """See :class:`Kind`."""
        parser.add_class_arguments(network, "network", skip=given | FROM_DATA.keys())
        for key, what in FROM_DATA.items():
            help_text = f"(none: the {what} of the data)"
            parser.add_argument(f"--network.{key}", type=int | None, default=None, help=help_text)
        parser.add_class_arguments(
            nn.CrossEntropyLoss, "loss", skip={"weight", "size_average", "ignore_index", "reduce", "reduction"}
        )
        parser.add_class_arguments(torch.optim.SGD, "optimizer", skip={"params"})
        parser.add_function_arguments(learning_rates, "scheduler", skip={"optimizer", "n_epochs"})

    def resolve(self, config: Namespace) -> None:
        """See :class:`Kind`."""
        network = config.network
        if "architecture" in network:
            named = resolve_architecture(network.architecture, network.sampling, network.blur)
            network.architecture, network.sampling, network.blur = named

    def check_values(self, config: Namespace) -> None:
        """Nothing beside what every task's numbers are bound by."""

    def build_task(self, config: Namespace, network: NetworkEntry, data: type[LabelledDataset]) -> ClassificationTask:
        """See :class:`Kind`."""
        settings = {key: value for key, value in config.network.as_dict().items() if key != "name"}
        return ClassificationTask(
            network.build(**settings | {key: settings[key] or 1 for key in FROM_DATA}, **network.fixed),
            nn.CrossEntropyLoss(**config.loss.as_dict()),
            config.optimizer.as_dict(),
            config.scheduler.as_dict(),
            n_epochs=max(config.trainer.max_epochs or 1, 1),
            seed=config.seed,
            max_shift=config.evaluation.max_shift,
        )

    def fit_to_data(self, config: Namespace, dataset: LabelledDataset) -> None:
        """Fill in how many classes and channels the network has, where the configuration leaves it to the data.

        Raises:
            InputError: the configuration says otherwise than the data.
        """
        for key, found in zip(FROM_DATA, (len(dataset.class_names), dataset.n_channels), strict=True):
            given = config.network[key]
            if given is not None and given != found:
                raise InputError(
                    f"network.{key} is {given}, but the data have {found}: leave it out, or give other data"
                )
            config.network[key] = found

    def check_data(self, dataset: LabelledDataset, task: ClassificationTask) -> None:
        """Refuse images that the network cannot take, before anything runs.

        Raises:
            InputError: names the size and the remedy.
        """
        size = tuple(dataset.image_size)
        foreign = foreign_in(task.network)
        if foreign is not None:
            image = dataset[0].image[None]
            given = f"images {tuple(image.shape)} of {len(dataset.class_names)} classes"
            task.eval()
            foreign.try_out(lambda: foreign(image), given, (1, foreign.n_classes))
            return
        network = copy.deepcopy(task.network).to("meta").eval()
        try:
            network(torch.empty(1, dataset.n_channels, *size, device="meta"))
        except ValueError as error:
            raise InputError(f"images of {size[0]} x {size[1]} do not fit the network: {error}") from None

    def check_targets(self, dataset: LabelledDataset) -> None:
        """Every image has a label."""

    def usable_protocols(self, dataset: LabelledDataset) -> list[str]:
        """All; view-shift where the view can move."""
        return [name for name in self.protocols if name != "view-shift" or dataset.view_reach]

    def pieces_of(self, dataset: LabelledDataset, protocols: Sequence[str]) -> list[Piece]:
        """See :class:`Kind`."""
        return pieces_of(dataset, protocols)

    def subject(self, task: ClassificationTask, dataset: LabelledDataset, piece: Piece, seed: int) -> ImageGroup:
        """See :class:`Kind`."""
        assert piece.number is not None
        return ImageGroup(task, dataset, piece.name, piece.number, seed)

    def images(self, subject: ImageGroup) -> Tensor:
        """There are none: a classifier gives answers."""
        raise NotImplementedError

    def portable(self, task: ClassificationTask, dataset: LabelledDataset) -> Portable:
        """See :class:`Kind`."""
        return portable(task, dataset)

    def summarise(self, rows: Sequence[Row], dataset: LabelledDataset) -> Summary:
        """See :class:`Kind`."""
        return summary.summarise(rows, dataset.class_names)

    def print_tables(self, summaries: Summaries, note: str, data: type[LabelledDataset]) -> None:
        """See :class:`Kind`."""
        summary.print_tables(summaries, note)

    def save_picture(
        self,
        path: Path,
        run: Run[ClassificationTask, LabelledDataset],
        rows: Sequence[Row],
        settings: Settings,
        note: str,
    ) -> None:
        """See :class:`Kind`."""
        save_picture(path, run, rows, settings, note)

    def write_report(
        self,
        path: Path,
        runs: Sequence[Run[ClassificationTask, LabelledDataset]],
        measured: Measured,
        settings: Settings,
        device: torch.device,
    ) -> None:
        """See :class:`Kind`."""
        collected = CollectedAnswers()
        for number, run in enumerate(runs):
            for row in measured.rows(number):
                collected.add(run.name, row)
        examples = draw_answers(runs, collected, settings, device)
        report = classification_report(
            measured.facts, measured.summaries, collected, examples, measured.settings, measured.environment
        )
        write_report(path, report)


CLASSIFICATION = Classification()
