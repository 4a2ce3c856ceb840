"""From rows to what a person reads: accuracy and consistency, overall and by class, and the table on the terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from pipelines.measuring.margins import summarise_margins
from pipelines.measuring.rows import Row, Summaries, Summary
from pipelines.runtime.shell import terminal


class _Image:
    """What the rows of one protocol say of one image."""

    __slots__ = ("changes", "consistent", "correct", "moved", "predicted", "tie")

    def __init__(self) -> None:
        self.predicted, self.correct, self.tie = -1, False, False
        self.moved: list[float] = []
        self.consistent: list[float] = []
        self.changes: list[float] = []

    def add(self, row: Row) -> None:
        self.tie = row.status == "tie"
        value = float(row.value)
        if row.metric == "predicted":
            self.predicted = int(value) if row.shift_y == "" else self.predicted
        elif row.metric == "logit_change":
            self.changes.append(value)
        elif row.metric == "consistent":
            self.consistent.append(value)
        elif row.shift_y == "":
            self.correct = bool(value)
        else:
            self.moved.append(value)


def summarise(rows: Sequence[Row], class_names: Sequence[str]) -> Summary:
    """Condense the rows of one run, by protocol.

    - ``accuracy`` of the images, ``shifted_accuracy`` of all shifted ones, ``worst_accuracy``: right without a shift
      and under every drawn one;
    - ``consistency``: the share of pairs of shifts with the same answer, and ``logit_change_mean`` and ``_max``; over
      images that are no ties (``n_ties`` counts these);
    - ``by_class``: the same for each class; ``confusion`` of the plain protocol: a row for each of ``classes``, how
      many of its images were given each answer.

    Args:
        rows: of one run.
        class_names: in the order of their numbers.
    """
    by_protocol: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_protocol[row.protocol].append(row)
    return {
        protocol: summarise_margins(found) if protocol == "margins" else _answers(protocol, found, class_names)
        for protocol, found in by_protocol.items()
    }


def _answers(protocol: str, rows: Sequence[Row], class_names: Sequence[str]) -> Summary:
    images: dict[int, _Image] = defaultdict(_Image)
    classes: dict[int, str] = {}
    for row in rows:
        images[int(row.slice)].add(row)
        classes[int(row.slice)] = row.volume
    part = _figures(list(images.values()))
    by_class: dict[str, list[_Image]] = {name: [] for name in class_names}
    for index, image in images.items():
        by_class[classes[index]].append(image)
    part["by_class"] = {name: _figures(found) for name, found in by_class.items() if found}
    if protocol == "plain":
        n = len(class_names)
        part["classes"] = list(class_names)
        part["confusion"] = [
            np.bincount([image.predicted for image in found], minlength=n).tolist() for found in by_class.values()
        ]
    return part


def _figures(images: Sequence[_Image]) -> Summary:
    part: Summary = {
        "accuracy": float(np.mean([image.correct for image in images])),
        "n_images": len(images),
        "n_ties": sum(image.tie for image in images),
    }
    if any(image.moved for image in images):
        part["shifted_accuracy"] = float(np.mean([value for image in images for value in image.moved]))
        part["worst_accuracy"] = float(np.mean([image.correct and all(image.moved) for image in images]))
    clear = [image for image in images if not image.tie]
    pairs = [value for image in clear for value in image.consistent]
    if pairs:
        part |= {"consistency": float(np.mean(pairs)), "n_pairs": len(pairs)}
    changes = [value for image in clear for value in image.changes]
    if changes:
        part |= {"logit_change_mean": float(np.mean(changes)), "logit_change_max": float(np.max(changes))}
    return part


def print_tables(summaries: Summaries, note: str) -> None:
    """Print accuracy and consistency of the runs, by protocol.

    Args:
        summaries: by run name, what :func:`summarise` gives.
        note: on what data.
    """
    console = terminal(112)
    console.print(f"\n{note}", style="bold")
    table = Table("")
    for name in ("accuracy", "shifted", "worst case", "consistency", "logit change", "images", "ties"):
        table.add_column(name, justify="right", no_wrap=True)
    protocols = dict.fromkeys(p for summary in summaries.values() for p, part in summary.items() if "accuracy" in part)
    for protocol in protocols:
        table.add_section()
        for run, summary in summaries.items():
            if protocol in summary:
                table.add_row(f"{protocol}: {run}", *_cells(summary[protocol]))
    console.print(table, _CAPTION)


def _cells(part: Summary) -> list[str]:
    keys = ("accuracy", "shifted_accuracy", "worst_accuracy", "consistency")
    shares = [f"{100 * part[key]:.2f} %" if key in part else "" for key in keys]
    change = f"{part['logit_change_max']:.1e}" if "logit_change_max" in part else ""
    return [*shares, change, str(part["n_images"]), str(part["n_ties"])]


_CAPTION = (
    "Shifted: accuracy over all drawn shifts; worst case: right under every one of them; consistency: pairs of\n"
    "shifts with the same answer; logit change: the largest, relative. Ties count in no consistency."
)
