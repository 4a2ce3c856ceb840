"""The report of an evaluation, from plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pipelines.measuring.rows import Row
from pipelines.reconstruction.answer import answer
from pipelines.reconstruction.collected import Collected, Example, ReconstructionFindings
from pipelines.reconstruction.motion import motion
from pipelines.reconstruction.pictures import pictures
from pipelines.reconstruction.sections import outside_training, quality, shift_equivariance
from pipelines.reports.background import differences, title, training, what_was_run
from pipelines.reports.facts import RunFacts
from pipelines.reports.margins import phase_margins
from pipelines.reports.page import Facts, Report, Section
from pipelines.runtime.nested import Tree

DEFINITIONS = [
    ("PSNR, SSIM, NMSE", "Of a volume, R its largest target value; or of an image, R the target's largest value less "
     "its smallest. NMSE = |g - p|² / |g|². PSNR = 10 log10(R² / mean (g - p)²). SSIM: mean over slices, 7 x 7 "
     "windows. g is the target, p the reconstruction."),
    ("± 2 sd", "Two sample standard deviations over volumes or images; of dPSNR per image, over images."),
    ("x, f, T", "The network's normalised input, the network with its clamp, a circular shift by whole pixels; where "
     "the object moves by fractions of one, the real part of the Fourier shift."),
    ("NMSE_eq", "|T f(x) - f(T x)|² / |T f(x)|², of a slice, on de-normalised images, with the unshifted image's "
     "normalisation. PSNR_eq and SSIM_eq: T f(x) is the reference."),
    ("dPSNR", "|PSNR(g, f(x)) - PSNR(T g, f(T x))| of a slice: what a shift changes. Per image, worst: the mean over "
     "images of their worst shift."),
    ("exact", "Both outputs are equal bit for bit. They enter no figure of PSNR_eq (infinite) and SSIM_eq."),
    ("tie", "The input equals one of its own shifts, or two phases have the same score: there is no phase to choose. "
     "Ties enter no figure but their count."),
    ("baselines", "Images that need no training. The first is the input itself, as an image."),
]  # fmt: skip


def evaluation_report(
    runs: Sequence[RunFacts],
    summaries: Mapping[str, Tree],
    rows: Iterable[tuple[str, Row]] | Collected,
    examples: Sequence[Example],
    settings: Tree,
    environment: Tree,
    baselines: Mapping[str, str],
    definitions: Mapping[str, str],
) -> Report:
    """The report of some runs, side by side. What was not measured is left out.

    Args:
        runs: in the order to show them in.
        summaries: by run, what :func:`pipelines.reconstruction.summary.summarise` gives, and "data".
        rows: (run, row) of all runs, or what was collected of them; gone through once.
        examples: slices to show.
        settings: of the measurement; "protocols" are the names that were asked for.
        environment: of the measurement, as :func:`pipelines.runtime.run_folder.environment` gives it.
        baselines: what needs no training: its key in a summary, and its name.
        definitions: words of such data alone, each with its meaning; those of baselines that were not measured are
            left out.
    """
    collected = rows if isinstance(rows, Collected) else Collected(rows)
    findings = ReconstructionFindings(runs, summaries, collected, settings.get("protocols"), baselines)
    unknown = {name for key, name in baselines.items() if key not in findings.measured_baselines()}
    definitions = {word: meaning for word, meaning in definitions.items() if word not in unknown}
    sections = [
        quality(findings),
        pictures(findings, examples),
        shift_equivariance(findings),
        outside_training(findings),
        motion(findings),
        phase_margins(findings),
        training(findings, runs),
        differences(runs),
        what_was_run(runs, settings, environment),
        Section("Definitions", "", [Facts([*DEFINITIONS, *definitions.items()])]),
    ]
    return Report(
        title([run.name for run in runs]),
        list(dict.fromkeys(run.data for run in runs)),
        answer(findings),
        [section for section in sections if section.text or section.blocks],
    )
