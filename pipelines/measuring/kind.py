"""The two kinds of task, reconstruction and classification: what measures and shows a run of either."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from data_prep import LoDoPaBDataset
from pipelines.classification import protocols as answers
from pipelines.classification import summary as answer_summary
from pipelines.classification.examples import draw_answers
from pipelines.classification.found import CollectedAnswers
from pipelines.classification.picture import save_picture as save_answers
from pipelines.classification.report import classification_report
from pipelines.classification.subjects import ImageGroup, image_groups
from pipelines.classification.task import ClassificationTask
from pipelines.reconstruction import protocols, subjects, summary
from pipelines.reconstruction.examples import draw_examples
from pipelines.reconstruction.found import Collected
from pipelines.reconstruction.picture import save_picture
from pipelines.reconstruction.protocols import Settings
from pipelines.reconstruction.qualities import Row
from pipelines.reconstruction.report import evaluation_report
from pipelines.runtime.arithmetic import exact_arithmetic
from pipelines.training.base import TrainedTask
from pipelines.training.loaders import AnyDataset, ClassificationDataset, ReconstructionDataset


class Kind(NamedTuple):
    """What differs between the kinds, for the commands that measure.

    Attributes:
        protocols: by name; functions of a subject and Settings that yield rows.
        at_the_end: the protocols that a training ends with.
        subjects_of: what there is to measure of a data set under some protocols: (name, number, protocols).
        subject: what a protocol takes; made from task, data set, name, number and seed.
        summarise: rows of one run and its data set to figures.
        print_tables: of summaries by run, and a note on the data.
        save_picture: of a run: path, run, rows, settings and a note on the data.
        collected: what a report needs of the rows, taken one by one.
        draw_examples: of runs: runs, what was collected, settings, device.
        report: a page from facts, summaries, what was collected, examples, settings and environment.
        cpu_batch: images at once on a CPU, where nothing is measured.
    """

    protocols: Mapping[str, Callable[..., Any]]
    at_the_end: tuple[str, ...]
    subjects_of: Callable[..., Any]
    subject: Callable[..., Any]
    summarise: Callable[..., dict[str, Any]]
    print_tables: Callable[..., None]
    save_picture: Callable[..., None]
    collected: Callable[[], Any]
    draw_examples: Callable[..., Any]
    report: Callable[..., Any]
    cpu_batch: int


def _summarise_volumes(rows: Sequence[Row], dataset: ReconstructionDataset) -> dict[str, Any]:
    found = summary.summarise(rows, {volume.name: volume.acquisition for volume in dataset.volumes})
    if "physical-shift" in found:
        found["physical-shift"]["note"] = _what_moves(dataset)
    return found


def _what_moves(dataset: ReconstructionDataset) -> str:
    """What a moved object means for this data."""
    if isinstance(dataset, LoDoPaBDataset):
        return "The object is the ground truth; it is projected again, with photon noise of the same seed."
    moving = [dataset.coils_move(number) for number in range(len(dataset.volumes))]
    if any(moving):
        return (
            f"In {sum(moving)} of {len(moving)} volumes the coils' sensitivities are unknown and move along with the "
            "object; in a scanner they stay where they are."
        )
    several = any(volume.n_coils > 1 for volume in dataset.volumes)
    return "The object moves under fixed coils." if several else "One coil: its sensitivity counts as the object's."


def _summarise_answers(rows: Sequence[Row], dataset: ClassificationDataset) -> dict[str, Any]:
    return answer_summary.summarise(rows, dataset.class_names)


RECONSTRUCTION = Kind(
    protocols.PROTOCOLS,
    ("plain", "equivariance", "margins"),
    subjects.subjects_of,
    subjects.Subject,
    _summarise_volumes,
    summary.print_tables,
    save_picture,
    Collected,
    draw_examples,
    evaluation_report,
    cpu_batch=1,
)
CLASSIFICATION = Kind(
    answers.PROTOCOLS,
    ("plain", "circular-shift", "margins"),
    image_groups,
    ImageGroup,
    _summarise_answers,
    answer_summary.print_tables,
    save_answers,
    CollectedAnswers,
    draw_answers,
    classification_report,
    cpu_batch=50,
)


def kind_of(task: TrainedTask) -> Kind:
    """The kind of a task."""
    return CLASSIFICATION if isinstance(task, ClassificationTask) else RECONSTRUCTION


@torch.inference_mode()
def measure(task: TrainedTask, dataset: AnyDataset, names: Sequence[str], settings: Settings) -> list[Row]:
    """The rows of some protocols on a whole data set.

    Args:
        task: in eval mode, on the device to use.
        dataset: the split.
        names: of protocols, keys of the kind's.
        settings: how much is measured.
    """
    kind = kind_of(task)
    rows: list[Row] = []
    with exact_arithmetic():
        for name, number, found in kind.subjects_of(dataset, names):
            subject = kind.subject(task, dataset, name, number, settings.seed)
            rows += [row for protocol in found for row in kind.protocols[protocol](subject, settings)]
    return rows
