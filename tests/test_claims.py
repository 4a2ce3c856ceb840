"""The claims: verdicts follow from figures, and the page from the CSV."""

from __future__ import annotations

import doctest

import pytest

from benchmarks import claims
from benchmarks.claims import verdicts
from benchmarks.claims.claims import CLAIMS
from benchmarks.claims.figures import Figure, Figures, read_figures, write_figures
from benchmarks.claims.page import write_page
from benchmarks.claims.protocol import read_protocol, variant_of

MARGINS = {"psnr": 0.2, "accuracy": 0.01}
SHIFTED = "stride, shifted in training"


def figures(sweep, metric, values, state="trained"):
    """Of each variant a value for each person, or for each seed of the sample."""
    people = sweep.endswith("measured")
    return [
        Figure(sweep, variant, f"fold {n}" if people else "sample", 0 if people else n, state, metric, value)
        for variant, found in values.items()
        for n, value in enumerate(found)
    ]


def judged(letter, found, margins=MARGINS):
    claim = next(claim for claim in CLAIMS if claim.letter == letter)
    return [evidence.verdict for evidence in claim.judge(Figures(found), margins)]


def test_the_formulas_examples():
    assert doctest.testmod(verdicts).failed == 0


@pytest.mark.parametrize(
    ("gain", "equal", "more"),
    [
        ([0.01, 0.0, -0.02], "holds", "inconclusive"),
        ([0.6, 0.7, 0.65], "fails", "holds"),
        ([-1.0, 0.0, 1.0], "inconclusive", "inconclusive"),
    ],
)
def test_quality_by_person(gain, equal, more):
    base = [25.0, 28.0, 31.0]  # people differ more than networks do: only differences tell
    aps = [a + b for a, b in zip(base, gain, strict=True)]
    found = figures("mri-unet-measured", "psnr", {"stride": base, "aps": aps})
    assert judged("a", found) == [equal]
    assert judged("g", found) == [more]
    assert judged("a", found, {}) == judged("g", found, {}) == ["inconclusive"], "the short form says nothing of it"
    assert judged("a", found[:2] + found[3:5]) == ["inconclusive"], "two people"


@pytest.mark.parametrize(("sweep", "letter"), [("mri-unet", "b"), ("ct-unet", "b"), ("mri-unrolled", "e")])
def test_exactness_needs_a_control_that_is_not_exact(sweep, letter):
    both = {"stride": [1e-3, 2e-3], "aps": [1e-13, 0.0]}
    assert judged(letter, figures(sweep, "whole_max", both)) == ["holds"]
    assert judged(letter, figures(sweep, "whole_max", both, "untrained")) == ["holds"]
    assert judged(letter, figures(sweep, "whole_max", both | {"aps": [1e-13, 1e-6]})) == ["fails"]
    assert judged(letter, figures(sweep, "whole_max", both | {"stride": [1e-13, 1e-3]})) == ["inconclusive"]
    assert not judged(letter, figures(sweep, "whole_max", {"stride": [1e-3]}))


def test_any_movement_counts_fractions_too():
    whole = figures("mri-unet", "whole_max", {"stride": [1e-3], "alias_free": [1e-13]})
    for error, verdict in ((1e-12, "holds"), (1e-4, "fails")):
        between = figures("mri-unet", "fraction_max", {"stride": [1e-3], "alias_free": [error]})
        assert judged("f", whole + between) == [verdict]


def test_augmentation_that_is_lost_outside_and_one_that_is_not():
    def measured(outside):
        inside = {"stride": [1e-3, 2e-3, 1.5e-3], SHIFTED: [1e-4, 2.1e-4, 1.4e-4]}
        found = figures("mri-unet", "whole_mean", inside)
        for metric in ("white_mean", "natural_mean"):
            found += figures("mri-unet", metric, {"stride": [1e-2, 2e-2, 1e-2], SHIFTED: outside})
        return found

    assert judged("c", measured([9e-3, 1.9e-2, 1.1e-2])) == ["holds"]
    assert judged("c", measured([1e-4, 2e-4, 1e-4])) == ["fails"]


def test_classifiers():
    found = figures("classifier", "consistency", {"stride": [0.9, 0.91, 0.9], "aps": [1.0, 1.0, 1.0]})
    same = figures("classifier", "accuracy", {"stride": [0.85, 0.86, 0.85], "aps": [0.851, 0.862, 0.85]})
    assert judged("d", found + same) == ["holds", "holds"]
    assert judged("d", figures("classifier", "consistency", {"stride": [0.9], "aps": [0.9999]})) == ["fails"]


def test_the_page_is_that_of_its_csv(tmp_path):
    found = figures("mri-unet", "psnr", {"stride": [29.1, 29.3, 29.2], "aps": [29.2, 29.25, 29.2]})
    found += figures("mri-unet", "whole_max", {"stride": [1e-3] * 3, "aps": [1e-13] * 3})
    for name, order in (("a.csv", found), ("b.csv", found[::-1])):
        write_figures(tmp_path / name, order)
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    page = tmp_path / "claims.md"
    page.write_text("# Claims\n\nBefore.\n\nAfter.\n")
    assert claims.main(["--full", f"--figures={tmp_path / 'a.csv'}", f"--page={page}"]) == 0
    first = page.read_text()
    assert claims.main([f"--figures={tmp_path / 'a.csv'}", f"--page={page}"]) == 0, (
        "the short form has a part of its own"
    )
    assert "Before." in page.read_text()
    again = write_page(page.read_text(), Figures(read_figures(tmp_path / "a.csv")), MARGINS, full=True)
    assert again == page.read_text()
    assert "| aps | 29.22 [29.14, 29.29] | 1.0e-13 |" in first
    assert "**holds**" in first


def test_bad_input_is_one_sentence(tmp_path, capsys):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert claims.main([f"--figures={tmp_path / 'other.csv'}"]) == 2
    assert claims.main([f"--figures={tmp_path / 'none.csv'}"]) == 2
    assert claims.main(["--only", "mri-unett"]) == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_the_protocol_names_every_variant_once():
    for quick in (True, False):
        for sweep in read_protocol(quick=quick).sweeps:
            points = sweep.points()
            cases = {(variant_of(point), point.get("dataset.fold"), point.get("seed")) for point in points}
            assert len(cases) == len(points)
            assert "stride" in {variant for variant, *_ in cases}
