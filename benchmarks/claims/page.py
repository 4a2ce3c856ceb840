"""docs/claims.md, from the figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from benchmarks.claims.claims import CLAIMS, Evidence
from benchmarks.claims.figures import Figures
from benchmarks.claims.verdicts import interval, together

QUALITY = {"psnr": "PSNR", "ssim": "SSIM", "accuracy": "accuracy"}
ERRORS = {
    "shifted_psnr": "PSNR, shifted",
    "psnr_eq_min": "PSNR_eq, least",
    "dpsnr_mean": "dPSNR, mean",
    "dpsnr_max": "dPSNR, most",
    "whole_mean": "whole pixels, mean",
    "whole_max": "whole pixels, worst",
    "fraction_mean": "fractions, mean",
    "fraction_max": "fractions, worst",
    "noise_mean": "with noise",
    "flip_mean": "flipped",
    "white_mean": "white noise",
    "natural_mean": "photographs",
    "local_mean": "a spot elsewhere",
    "consistency": "consistency",
    "worst_accuracy": "worst accuracy",
    "flip_consistency": "consistency, flipped",
    "erase_consistency": "consistency, erased patch",
}
SMALL = {name for name in ERRORS if name.endswith(("_mean", "_max")) and not name.startswith("psnr")}
COSTS = {f"{what}_{kind}_ratio": f"{what}, {kind}" for what in ("training", "inference") for kind in ("time", "memory")}
START, END = "<!-- {}: written by python -m benchmarks.claims, not by hand -->", "<!-- end of {} -->"
FORMS = {False: "the short form", True: "the full form"}


def write_page(page: str, figures: Figures, margins: Mapping[str, float], *, full: bool) -> str:
    """The page with everything between the marks of one form written anew."""
    start, end = (mark.format(FORMS[full]) for mark in (START, END))
    before, _, rest = page.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n\n{chr(10).join(_sections(figures, margins))}\n\n{end}{after or chr(10)}"


def _sections(figures: Figures, margins: Mapping[str, float]) -> Iterator[str]:
    judged = [(claim, list(claim.judge(figures, margins))) for claim in CLAIMS]
    yield "### Verdicts\n\n| | claim | of | verdict |\n|---|---|---|---|"
    for claim, evidence in judged:
        word = together([found.verdict for found in evidence])
        counts = _counts(evidence)
        yield f"| {claim.letter} | {claim.text} | {claim.source} | **{word}**{counts} |"
    yield "\n### Evidence\n\n| | data and network | figures | verdict |\n|---|---|---|---|"
    for claim, evidence in judged:
        for found in evidence:
            yield f"| {claim.letter} | {found.sweep} | {found.text} | {found.verdict} |"
    for sweep in figures.sweeps:
        yield f"\n### {sweep}"
        yield from _table(figures, sweep, QUALITY | ERRORS)
        yield from _table(figures, sweep, COSTS)


def _counts(evidence: Sequence[Evidence]) -> str:
    words = [found.verdict for found in evidence]
    parts = [f"{words.count(word)} {word}" for word in ("holds", "fails", "inconclusive") if word in words]
    return f" ({', '.join(parts)})" if len(parts) > 1 else ""


def _table(figures: Figures, sweep: str, columns: Mapping[str, str]) -> Iterator[str]:
    shown = {
        metric: title
        for metric, title in columns.items()
        if any(figures.values(sweep, variant, metric) for variant in figures.variants(sweep))
    }
    if not shown:
        return
    yield f"\n| variant | {' | '.join(shown.values())} |\n|---|{'---|' * len(shown)}"
    for variant in figures.variants(sweep):
        cells = [_cell(figures, sweep, variant, metric) for metric in shown]
        if any(cells):
            yield f"| {variant} | {' | '.join(cells)} |"


def _cell(figures: Figures, sweep: str, variant: str, metric: str) -> str:
    values = figures.samples(sweep, variant, metric)
    if not values:
        return ""
    if metric in QUALITY:
        n_digits = 2 if metric == "psnr" else 3
        mean, low, high, n = interval(values, confidence=0.95)
        return f"{mean:.{n_digits}f}" + (f" [{low:.{n_digits}f}, {high:.{n_digits}f}]" if n > 1 else "")
    found = figures.values(sweep, variant, metric)
    of_all = max if metric.endswith("_max") else min if metric.endswith("_min") else fmean
    digits = ".1e" if metric in SMALL else ".3f" if "consistency" in metric or "accuracy" in metric else ".2f"
    return f"{of_all(found):{digits}}"
