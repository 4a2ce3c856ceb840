"""The picture of a classifier's run: what it confuses, and what a shift changes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipelines.classification.collected import Change, CollectedAnswers
from pipelines.classification.examples import AnswerExample, draw_answer, draw_answers
from pipelines.measuring.kind import AnyRun
from pipelines.measuring.rows import Row
from pipelines.measuring.settings import Settings
from pipelines.reports.png import readable, save_figure

MOST_CLASSES = 20  # that a confusion matrix can be read with
N_IMAGES = 6


def save_picture(path: Path, run: AnyRun, rows: Sequence[Row], settings: Settings, note: str) -> None:
    """Draw the confusion matrix, the answers against the distance of the shift, and images before and after a shift.

    Args:
        path: of the PNG.
        run: as measured, on its device.
        rows: of the protocols plain and circular-shift.
        settings: of the measurement.
        note: on what data, printed below.
    """
    collected = CollectedAnswers()
    for row in rows:
        collected.add(run.name, row)
    device = run.task.device
    examples = draw_answers([run], collected, settings, device)[:N_IMAGES]
    title = "images whose answer a circular shift changes"
    if not examples:
        title = "no circular shift changed an answer: some images, before and after"
        some = np.linspace(0, len(run.dataset) - 1, N_IMAGES).astype(int).tolist()
        reach = settings.max_shift
        label = [run.dataset.class_names[int(run.dataset.labels[index])] for index in some]
        changes = [Change(i, name, (reach, -(reach // 2)), 0, 0) for i, name in zip(some, label, strict=True)]
        examples = [draw_answer([run], change, device) for change in changes]
    with matplotlib.rc_context({"font.size": 9, "text.parse_math": False}):  # a name with $ is no formula
        figure = Figure(figsize=(14, 8.2), layout="constrained")
        halves: Any = figure.subfigures(2, 1, height_ratios=[1.35, 1])
        top, bottom = halves
        left, right = top.subplots(1, 2)
        _confusion(left, rows, run.dataset.class_names)
        _distances(right, collected, run.name)
        bottom.suptitle(f"{title} (class; answer before → after)")
        for axes, example in zip(bottom.subplots(2, N_IMAGES, squeeze=False).T, examples, strict=False):
            _example(axes, example, run.name)
        figure.supxlabel(note, fontsize=8)
        save_figure(path, figure)


def _confusion(axes: Axes, rows: Sequence[Row], names: Sequence[str]) -> None:
    counts = np.zeros((len(names), len(names)), int)
    for row in rows:
        if row.protocol == "plain" and row.metric == "predicted":
            counts[names.index(row.volume), int(row.value)] += 1
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    axes.set_xlabel("answer")
    axes.set_ylabel("class")
    axes.set_title(f"confusion, accuracy {100 * counts.trace() / max(counts.sum(), 1):.2f} % of {counts.sum()} images")
    if len(names) <= MOST_CLASSES:
        shown = list(map(readable, names))
        axes.set_xticks(range(len(names)), shown, rotation=45, ha="right")
        axes.set_yticks(range(len(names)), shown)
        for row, column in zip(*counts.nonzero(), strict=True):
            colour = "white" if counts[row, column] > counts[row].sum() / 2 else "black"
            axes.text(column, row, counts[row, column], ha="center", va="center", color=colour)


def _distances(axes: Axes, collected: CollectedAnswers, name: str) -> None:
    found = collected.by_distance(name, "circular-shift")
    distances, same, correct = zip(*found, strict=True) if found else ((), (), ())
    axes.plot(distances, np.multiply(same, 100), marker="o", ms=4, label="same answer as without the shift")
    axes.plot(distances, np.multiply(correct, 100), marker="s", ms=4, label="right answer")
    axes.set_xlabel("distance of the circular shift (pixels)")
    axes.set_ylabel("images (%)")
    axes.set_title("answers under circular shifts")
    axes.grid(alpha=0.3)
    axes.legend()


def _example(axes: Sequence[Axes], example: AnswerExample, name: str) -> None:
    before, after = example.answers[name]
    for one, image in zip(axes, (example.image, example.shifted), strict=True):
        one.imshow(image.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        one.set_axis_off()
    axes[0].set_title(f"{example.label}; {before} → {after}", fontsize=8)
    axes[1].set_title(f"shifted by {example.shift}", fontsize=8)
