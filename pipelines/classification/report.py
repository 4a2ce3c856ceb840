"""The report of an evaluation of classifiers, from plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipelines.classification.collected import CollectedAnswers
from pipelines.classification.examples import AnswerExample
from pipelines.reports import figures
from pipelines.reports.background import differences, title, training, what_was_run
from pipelines.reports.facts import Findings, RunFacts
from pipelines.reports.margins import phase_margins
from pipelines.reports.page import Block, Cell, Facts, Figure, Image, Panel, Report, Section, Series, Table
from pipelines.reports.tables import Column, by_run, cells, error

MOST_CLASSES = 30  # in a confusion matrix, and in a table by class
INPUTS = {
    "plain": "test images",
    "circular-shift": "test images, circular shifts",
    "view-shift": "test images, the view moves",
    "flip": "turned upside down, circular shifts",
    "erase": "a 3 x 3 patch erased, circular shifts",
}
DEFINITIONS = [
    ("accuracy", "Share of the images whose class has the largest logit."),
    ("shifted, worst case", "Accuracy over all drawn shifts; share of images that are right without a shift and under "
     "every one of them."),
    ("consistency", "Share of pairs of shifts T_a, T_b, drawn for each image, with argmax f(T_a x) = argmax f(T_b x)."),
    ("logit change", "max |f(T x) - f(x)| / max |f(x)| of an image and shift."),
    ("the view moves", "The crop moves over the larger image (ImageNet), or zeros enter at the border: content leaves "
     "and enters, so that no network is exact."),
    ("tie", "The image equals one of its own circular shifts, or two phases have the same score: there is no phase to "
     "choose. Ties enter no consistency and no logit change, and are counted."),
]  # fmt: skip


def percent(value: float) -> str:
    """Two decimals; what would read as 100 % without being it reads as above the last before."""
    text = f"{100 * value:.2f} %"
    return "> 99.99 %" if text == "100.00 %" and value < 1 else text


FIGURES = (
    ("accuracy", "Accuracy", percent, 1),
    ("shifted_accuracy", "Accuracy, shifted", percent, 1),
    ("worst_accuracy", "Accuracy, worst case", percent, 1),
    ("consistency", "Consistency", percent, 1),
    ("logit_change_max", "Logit change, largest", error, -1),
)


def classification_report(
    runs: Sequence[RunFacts],
    summaries: Mapping[str, Mapping[str, Any]],
    rows: CollectedAnswers,
    examples: Sequence[AnswerExample],
    settings: Mapping[str, Any],
    environment: Mapping[str, Any],
) -> Report:
    """The report of some classifiers, side by side. What was not measured is left out.

    Args:
        runs: in the order to show them in.
        summaries: by run, what :func:`pipelines.classification.summary.summarise` gives, and "data".
        rows: what was collected of all runs.
        examples: images to show.
        settings: of the measurement.
        environment: of the measurement, as :func:`pipelines.runtime.run_folder.environment` gives it.
    """
    findings = Findings(runs, summaries, rows, settings.get("protocols"))
    sections = [
        _answers(findings),
        _shifts(findings, rows),
        _examples(findings, examples),
        _classes(findings),
        phase_margins(findings),
        training(findings, runs),
        differences(runs),
        what_was_run(runs, settings, environment),
        Section("Definitions", "", [Facts(DEFINITIONS)]),
    ]
    return Report(
        title([run.name for run in runs]),
        list(dict.fromkeys(run.data for run in runs)),
        _sentences(findings),
        [section for section in sections if section.text or section.blocks],
    )


def _sentences(findings: Findings) -> list[str]:
    said = (
        [] if findings.same_data() else ["The runs were measured on different data, so their figures do not compare."]
    )
    for series in findings.series:
        part = findings.get(series.name, "plain") or findings.get(series.name, "circular-shift")
        if part is None:
            continue
        text = f"{series.name}: accuracy {percent(part['accuracy'])} of {part['n_images']} images"
        shifted = findings.get(series.name, "circular-shift")
        if shifted and "consistency" in shifted:
            text += f"; {percent(shifted['consistency'])} of {shifted['n_pairs']} pairs of circular shifts agree"
            text += f", logits change by up to {error(shifted['logit_change_max'])}"
            text += f", {percent(shifted['worst_accuracy'])} are right under every shift"
            ties = shifted["n_ties"]
            text += f" ({ties} images are ties, counted apart)" if ties else ""
        said.append(text + ".")
    return said


def _answers(findings: Findings) -> Section:
    protocols = [name for name in INPUTS if findings.having(name, "accuracy")]
    blocks: list[Block] = []
    for protocol in protocols:
        columns = [Column(text, (protocol, key), form, better) for key, text, form, better in FIGURES]
        counts = [Column("Images", (protocol, "n_images"), str), Column("Ties", (protocol, "n_ties"), str)]
        caption = f"{INPUTS[protocol].capitalize()}.{findings.shaded('the best')}"
        blocks.append(by_run(findings, findings.having(protocol, "accuracy"), [*columns, *counts], caption))
    return Section("Answers", "A shift of the input should not change the answer." if blocks else "", blocks)


def _shifts(findings: Findings, rows: CollectedAnswers) -> Section:
    panels = []
    for place, label, text in ((1, "same answer (share)", "Answers that stay"), (2, "accuracy", "Right answers")):
        lines = {
            series.number: [(found[0], found[place]) for found in rows.by_distance(series.name, "circular-shift")]
            for series in findings.series
        }
        lines = {number: line for number, line in lines.items() if line}
        if lines:
            drawing = figures.curves(f"answers-{place}", lines, label, against="distance of the shift (pixels)")
            panels.append(Panel([Image(drawing, f"{text} against the distance of the shift, for each run")], text))
    if not panels:
        return Section("Answers against the distance of a shift", "", [])
    protocols = [name for name in INPUTS if any(rows.logit_changes(s.name, name) for s in findings.series)]
    values = {
        series.number: {INPUTS[name]: rows.logit_changes(series.name, name) for name in protocols}
        for series in findings.series
    }
    spread = figures.spread_plot("logits", values, [INPUTS[name] for name in protocols], "logit change", dot=0.5)
    image = Image(spread, "Relative change of the logits by input and run")
    blocks: list[Block] = [
        Figure(panels, "Circular shifts, by their distance: a share of all images that are no ties.", findings.series),
        Figure(
            [Panel([image])],
            "Relative change of the logits by a shift: the median (mark), the range (line) and the middle half (bar).",
            findings.series,
        ),
    ]
    return Section("Answers against the distance of a shift", "", blocks)


def _examples(findings: Findings, examples: Sequence[AnswerExample]) -> Section:
    name = "Answers that a shift changes"
    if not examples:
        changed = any(findings.get(s.name, "circular-shift", "logit_change_max") for s in findings.series)
        return Section(name, "No circular shift changed an answer of any run." if changed else "", [])
    panels, rows = [], []
    for example in examples:
        images = [
            Image(figures.colour_png(pixels), f"{example.label}, {when} the shift", when)
            for pixels, when in ((example.image, "before"), (example.shifted, "after"))
        ]
        panels.append(Panel(images, f"{example.label}, {example.name}"))
        told = []
        for series in findings.series:
            before, after = example.answers.get(series.name, ("", ""))
            told.append(before if before == after else f"{before} → {after}")
        rows.append([example.name, example.label, str(example.shift), *told])
    columns = ["Image", "Class", "Shift (down, right)", *(series.name for series in findings.series)]
    table = Table(columns, rows, "What each run answers before → after the shift.", n_words=len(columns))
    return Section(name, "", [Figure(panels, "Images and their circular shifts.", size="map"), table])


def _classes(findings: Findings) -> Section:
    names = list(dict.fromkeys(n for s in findings.series for n in findings.get(s.name, "plain", "by_class") or ()))
    blocks: list[Block] = []
    for protocol, key, form in (("plain", "accuracy", percent), ("circular-shift", "consistency", percent)):
        rows: list[list[Cell | str]] = []
        for name in _hardest(findings, names, protocol, key):
            column = Column("", (protocol, "by_class", name, key), form, 1)
            rows.append([name, *cells(findings, findings.series, column)])
        if rows and findings.having(protocol, key):
            few = f", the {len(rows)} lowest of {len(names)}" if len(rows) < len(names) else ""
            caption = f"{key.capitalize()} by class ({INPUTS[protocol]}{few}).{findings.shaded('the best')}"
            blocks.append(Table(["Class", *(series.name for series in findings.series)], rows, caption))
    if 0 < len(names) <= MOST_CLASSES:
        panels = [
            Panel(
                [
                    Image(
                        figures.confusion(f"confusion-{s.number}", np.array(counts), _all_classes(findings, s)),
                        f"Confusion of {s.name}",
                    )
                ],
                series=s,
            )
            for s in findings.series
            if (counts := findings.get(s.name, "plain", "confusion"))
        ]
        blocks.append(Figure(panels, "Confusion: images of each class (row) and the answers they were given (column)."))
    return Section("Classes", "", blocks)


def _all_classes(findings: Findings, series: Series) -> list[str]:
    """Also those without an image."""
    return list(findings.get(series.name, "plain", "classes"))


def _hardest(findings: Findings, names: Sequence[str], protocol: str, key: str) -> list[str]:
    """All classes; where they are many, those with the lowest figure in the first run."""
    if len(names) <= MOST_CLASSES:
        return list(names)
    first = findings.series[0].name
    return sorted(names, key=lambda name: findings.get(first, protocol, "by_class", name, key) or 0.0)[:MOST_CLASSES]
