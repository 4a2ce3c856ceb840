"""Reconstruction, as the commands see it: from slices and their targets to networks, rows, tables and pictures."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor, nn

from data_prep import Sample, SliceDataset
from pipelines.measuring.foreign import ForeignNetwork, foreign_in
from pipelines.measuring.kind import Kind, Measured, NetworkEntry, Piece, Run
from pipelines.measuring.portable import Portable
from pipelines.measuring.rows import Row, Summaries, Summary
from pipelines.measuring.settings import Settings
from pipelines.reconstruction import protocols, summary
from pipelines.reconstruction.collected import Collected
from pipelines.reconstruction.examples import draw_examples
from pipelines.reconstruction.picture import save_picture
from pipelines.reconstruction.portable import portable
from pipelines.reconstruction.report import evaluation_report
from pipelines.reconstruction.subjects import Subject, pieces_of
from pipelines.reconstruction.task import (
    ReconstructionLoss,
    ReconstructionTask,
    as_it_is,
    batch_of,
    denormalise,
    image_of,
)
from pipelines.reports import write_report
from recon.errors import InputError, check_choice
from recon.metrics.quality import WINDOW as SSIM_WINDOW
from recon.networks import Centred, resolve_blur

ALIGN = ("none", "centroid")


class Reconstruction(Kind[ReconstructionTask, SliceDataset, Subject]):
    """Networks that map a measured slice to its image; MRI and CT differ in data, not in training."""

    protocols = protocols.PROTOCOLS
    at_the_end = ("plain", "equivariance", "margins")
    cpu_batch = 1
    saves_images = True
    figures = ReconstructionTask.figures
    monitor = ReconstructionTask.monitor

    def add_arguments(self, parser: ArgumentParser, network: type[nn.Module], given: set[str]) -> None:
        """See :class:`Kind`."""
        parser.add_argument(
            "--clamp", type=float, default=6.0, help="normalised input and output are clamped to +-clamp"
        )
        parser.add_class_arguments(network, "network", skip=given)
        parser.add_class_arguments(ReconstructionLoss, "loss")
        parser.add_class_arguments(torch.optim.Adam, "optimizer", skip={"params"})
        parser.add_class_arguments(torch.optim.lr_scheduler.StepLR, "scheduler", skip={"optimizer", "last_epoch"})

    def resolve(self, config: Namespace) -> None:
        """See :class:`Kind`."""
        network = config.network
        of_complex_images = "align" in network  # of which alias_free is one more sampling
        if "blur" in network and not (of_complex_images and network.sampling == "alias_free"):
            network.blur = resolve_blur(network.sampling, network.blur)

    def check_values(self, config: Namespace) -> None:
        """See :class:`Kind`."""
        if not config.clamp > 0:
            raise InputError(f"clamp is {config.clamp}: give a positive number")

    def build_task(self, config: Namespace, network: NetworkEntry, data: type[SliceDataset]) -> ReconstructionTask:
        """See :class:`Kind`."""
        settings = {key: value for key, value in config.network.as_dict().items() if key not in ("name", "align")}
        built = network.build(**settings, **network.fixed)
        align = config.network.get("align", "none")
        check_choice("network.align", align, ALIGN)
        return ReconstructionTask(
            Centred(built) if align == "centroid" else built,
            ReconstructionLoss(**config.loss.as_dict()),
            config.optimizer.as_dict(),
            config.scheduler.as_dict(),
            clamp=config.clamp,
            seed=config.seed,
            max_shift=config.evaluation.max_shift,
            per_image=data.per_image,
            input_of=network.input_of or image_of,
            output_of=network.output_of or as_it_is,
        )

    def fit_to_data(self, config: Namespace, dataset: SliceDataset) -> None:
        """Leave out the network of the coil maps where there is one coil, or where the maps are not learned."""
        one_coil = all(dataset.n_coils(number) == 1 for number in range(len(dataset.volumes)))
        if "maps_widths" in config.network and (one_coil or config.network.get("maps", "learned") != "learned"):
            config.network.maps_widths = None

    def check_data(self, dataset: SliceDataset, task: ReconstructionTask) -> None:
        """Refuse volumes whose images the network cannot take, or which cannot be acquired.

        Raises:
            InputError: names the file, and the side, the multiple and the remedies, or the mask's numbers.
        """
        sizes = {shape[:2]: index for index, shape in reversed(list(enumerate(dataset.shapes)))}
        paths = {size: dataset.volumes[dataset.slices[index][0]].path for size, index in sizes.items()}
        for size, path in paths.items():
            _check_size(size, path, task.total_stride, dataset.fitted_by)
        foreign = foreign_in(task.network)
        if foreign is None:
            _check_network(paths, dataset, task)
        dataset.check()
        if foreign is not None:
            task.eval()
            for index in sizes.values():
                _try_out(foreign, task, Sample(*(part[None] for part in dataset[index])))

    def check_targets(self, dataset: SliceDataset) -> None:
        """See :class:`Kind`."""
        for volume in dataset.volumes:
            if not volume.has_target:
                raise InputError(f"{volume.path} has no {volume.recon_key}: training and validation need targets")

    def usable_protocols(self, dataset: SliceDataset) -> list[str]:
        """All; of the measurement those that change the object, if it can be acquired anew, and those that need it."""
        unusable = set(() if dataset.measured else protocols.OF_KSPACE)
        if dataset.measured and not dataset.acquires:
            unusable.update(protocols.OF_CHANGED_OBJECTS, protocols.OF_KSPACE)
        return [name for name in self.protocols if name not in unusable]

    def pieces_of(self, dataset: SliceDataset, protocols: Sequence[str]) -> list[Piece]:
        """See :class:`Kind`; what cannot be measured of such data is left out."""
        usable = self.usable_protocols(dataset)
        return pieces_of(dataset, [name for name in protocols if name in usable])

    def subject(self, task: ReconstructionTask, dataset: SliceDataset, piece: Piece, seed: int) -> Subject:
        """See :class:`Kind`."""
        return Subject(task, dataset, piece.name, piece.number, seed)

    def images(self, subject: Subject) -> Tensor:
        """See :class:`Kind`."""
        images = torch.cat([denormalise(y, sample)[:, 0].cpu() for sample, y, *_ in subject.inferences])
        if subject.dataset.measured and subject.volume is not None:
            return subject.dataset.without_padding(images, subject.volume).contiguous()
        return images

    def portable(self, task: ReconstructionTask, dataset: SliceDataset) -> Portable:
        """See :class:`Kind`."""
        return portable(task, dataset)

    def summarise(self, rows: Sequence[Row], dataset: SliceDataset) -> Summary:
        """See :class:`Kind`."""
        found = summary.summarise(rows, {volume.name: volume.acquisition for volume in dataset.volumes})
        if "physical-shift" in found:
            found["physical-shift"]["note"] = dataset.what_moves()
        return found

    def print_tables(self, summaries: Summaries, note: str, data: type[SliceDataset]) -> None:
        """See :class:`Kind`."""
        summary.print_tables(summaries, note, data.baselines)

    def save_picture(
        self,
        path: Path,
        run: Run[ReconstructionTask, SliceDataset],
        rows: Sequence[Row],
        settings: Settings,
        note: str,
    ) -> None:
        """See :class:`Kind`."""
        save_picture(path, run, settings, note)

    def write_report(
        self,
        path: Path,
        runs: Sequence[Run[ReconstructionTask, SliceDataset]],
        measured: Measured,
        settings: Settings,
        device: torch.device,
    ) -> None:
        """See :class:`Kind`."""
        collected = Collected((run.name, row) for number, run in enumerate(runs) for row in measured.rows(number))
        examples = draw_examples(runs, collected, settings, device)
        report = evaluation_report(
            measured.facts,
            measured.summaries,
            collected,
            examples,
            measured.settings,
            measured.environment,
            runs[0].dataset.baselines,
            runs[0].dataset.definitions,
        )
        write_report(path, report)


def _check_network(paths: Mapping[tuple[int, ...], Path], dataset: SliceDataset, task: ReconstructionTask) -> None:
    """Refuse images of a size that a network of ours does not take, or coils or angles that it does not."""
    network = copy.deepcopy(task.network).to("meta").eval()  # shapes without numbers: finds out at no cost
    for size, path in paths.items() if not dataset.measured else ():  # else all that can be wrong has been looked at
        try:
            network(*task.input_of(batch_of(torch.empty(1, 1, *size, device="meta")), task.clamp))
        except ValueError as error:
            raise InputError(f"{path}: image {size[0]} x {size[1]} does not fit the network: {error}") from None
    _check_coils(dataset, task.network)
    _check_angles(dataset, task.network)


def _try_out(foreign: ForeignNetwork, task: ReconstructionTask, batch: Sample) -> None:
    """Refuse a network that makes no image of a batch of one slice."""
    inputs = task.input_of(batch, task.clamp)
    foreign.try_out(lambda: _image(task, batch), " and ".join(map(_described, inputs)), tuple(batch.image.shape))


def _image(task: ReconstructionTask, batch: Sample) -> object:
    """What the network makes of a batch, as a normalised image if it is a tensor."""
    output = task.network(*task.input_of(batch, task.clamp))
    return task.output_of(output, batch) if isinstance(output, Tensor) else output


def _described(part: object) -> str:
    shape = f"{str(part.dtype).removeprefix('torch.')} {tuple(part.shape)}" if isinstance(part, Tensor) else ""
    return shape or type(part).__name__


def _check_size(size: Sequence[int], path: Path, multiple: int, fitted_by: Sequence[str]) -> None:
    """Refuse images ``(rows, columns)`` whose sides are no multiples, or which are too small to be compared.

    Those that cannot be cropped or padded are of k-space's whole matrix.
    """
    rows, columns = size
    if not fitted_by and (rows % multiple or columns % multiple):
        raise InputError(
            f"{path}: k-space has {rows} x {columns} points, and its sides must be multiples of the network's total "
            f"stride {multiple}: take fewer levels (network.widths, network.maps_widths), fill k-space up with zeros "
            f"where it comes from (recon-prepare import --multiple {multiple}), or take a network of images"
        )
    if rows % multiple or columns % multiple:
        side, n = ("height", rows) if rows % multiple else ("width", columns)
        crop, pad = ([x // multiple * multiple + extra for x in (rows, columns)] for extra in (0, multiple))
        remedy = f"crop with --dataset.image_size '{crop}' or pad" if all(crop) and "crop" in fitted_by else "pad"
        raise InputError(
            f"{path}: image {side} {n} is not a multiple of the network's total stride {multiple}; {remedy} with "
            f"--dataset.image_size '{pad}'"
        )
    if min(rows, columns) < SSIM_WINDOW:
        window = f"{SSIM_WINDOW} x {SSIM_WINDOW}"
        raise InputError(f"{path}: image {rows} x {columns} is smaller than the {window} window of SSIM: pad it")


def _check_coils(dataset: SliceDataset, network: nn.Module) -> None:
    """Refuse several coils before a network with the measurement inside that knows one alone."""
    for number, volume in enumerate(dataset.volumes) if dataset.measured and not dataset.given_maps else ():
        if dataset.n_coils(number) > 1 and getattr(network, "coil_maps", None) is None:
            raise InputError(
                f"{volume.path} has {dataset.n_coils(number)} coils, but the network has no network.maps_widths to "
                "estimate their maps with: give files of one coil, or train with several, or with network.maps espirit"
            )


def _check_angles(dataset: SliceDataset, network: nn.Module) -> None:
    """Refuse sinograms whose angles cannot be averaged as the network does."""
    for volume in dataset.volumes if hasattr(network, "angle_bin") else ():
        n_angles = volume.geometry.n_angles  # type: ignore[attr-defined]
        if n_angles % network.angle_bin:
            raise InputError(
                f"{volume.path}: network.angle_bin {network.angle_bin} does not divide its {n_angles} angles: give a "
                "divisor"
            )


RECONSTRUCTION = Reconstruction()
