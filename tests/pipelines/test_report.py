"""The report of an evaluation: its figures are the summary's, and the page is whole, quiet and readable."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import data_prep
from data_prep import Sample, SliceDataset
from pipelines.measuring.rows import Row
from pipelines.reconstruction.collected import Collected, Example
from pipelines.reconstruction.examples import draw_examples
from pipelines.reconstruction.protocols import Settings
from pipelines.reconstruction.report import evaluation_report
from pipelines.reconstruction.summary import print_tables, summarise
from pipelines.reports import RunFacts
from pipelines.reports.page import Figure, Number, Report, Table, render_report, write_report

DATA = "bundled sample, test split, simulated from magnitude"
TYPICAL = {"stride": 3e-4, "lpf3": 4e-5, "aps": 0.0}  # NMSE_eq
CIRCULAR = ("noise-0.1", "noise-0.5", "flip-vertical", "flip-horizontal", "white-noise", "natural", "chest-ct")
BASELINES = {"zero-filled": "zero-filled", "fbp": "FBP", "tv": "TV"}
DEFINITIONS = data_prep.LoDoPaBDataset.definitions
EVERYTHING = ("plain", "shift", "all-phases", "physical-shift", "realistic-shift", "margins", *CIRCULAR)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Made:
    """The inputs of a report for runs of a known typical error, made from random numbers."""

    def __init__(self, typical=TYPICAL, protocols=EVERYTHING, target=True, n_volumes=4, ties=False) -> None:
        self.rows, self.protocols = [], list(protocols)
        for run, error in typical.items():
            random = np.random.default_rng(0)  # the same volumes and shifts for each run
            self.rows += [(run, row) for row in _rows(random, error, protocols, target, n_volumes, ties)]
        self.summaries: dict[str, Any] = {}
        kinds = {f"brain{n}": ("CORPD_FBK", "CORPDFS_FBK")[n % 2] for n in range(1, 1 + n_volumes)}
        for run in typical:
            self.summaries[run] = summarise([row for name, row in self.rows if name == run], kinds) | {"data": DATA}
            if "physical-shift" in protocols:
                self.summaries[run]["physical-shift"]["note"] = "Single-coil: there are no coil maps to stay behind."
        self.runs = [_facts(run, error) for run, error in typical.items()]
        self.examples = [_example(np.random.default_rng(0), typical, target)]

    def report(self) -> Report:
        settings = {"protocols": self.protocols, "shifts": 16, "max_shift": 16, "seed": 0, "noise_levels": [0.1, 0.5]}
        environment = {
            "command": f"recon-evaluate {' '.join(run.name for run in self.runs)} --out evaluation",
            "started": "2026-11-23T05:28:13+0000",
            "git_commit": "74423f8c1284fb605ab27e247db057b996692b0a",
            "device": "cpu",
            "versions": {"torch": "2.14.1", "monai": "1.6.1"},
        }
        return evaluation_report(
            self.runs, self.summaries, self.rows, self.examples, settings, environment, BASELINES, DEFINITIONS
        )

    def page(self) -> str:
        return render_report(self.report())


def _rows(random, error, protocols, target, n_volumes, ties) -> Iterator[Row]:
    names = [f"brain{n}" for n in range(1, n_volumes + 1)]
    if target and "plain" in protocols:
        for protocol in ("zero-filled", "plain", *(p for p in protocols if p == "shift" or p in CIRCULAR[:4])):
            loss = {"noise-0.1": 0.4, "noise-0.5": 3.1, "flip-vertical": 0.2}.get(protocol, 0)
            gain = 0.0 if protocol == "zero-filled" else 5.6 + 5 * error**0.5 - loss
            yield from _quality_rows(random, protocol, names, gain)
    for protocol in ("shift", *CIRCULAR, "realistic-shift"):
        if protocol in protocols:
            size = {"white-noise": 30, "noise-0.5": 6, "natural": 3}.get(protocol, 1)
            this = 2e-3 if protocol == "realistic-shift" else error * size
            for name in names:
                shifts = [t for t in random.integers(-16, 17, (48, 2)).tolist() if any(t)]
                where = "equivariance" if protocol == "shift" else protocol
                yield from _shift_rows(random, where, name, shifts, this, target, ties and name == names[0])
    if "all-phases" in protocols:
        phases = [(y, x) for y in range(1, 17) for x in range(1, 17)]
        yield from _shift_rows(random, "all-phases", names[0], phases, error, target, False)
    for name in names:
        yield from _motion_rows(random, name, error) if "physical-shift" in protocols else ()
        yield from _margin_rows(random, name, ties) if "margins" in protocols and error < 1e-10 else ()


def _motion_rows(random, name, error) -> Iterator[Row]:
    for y, x in ((3, -4), (8, 1), (2.5, -1.25), (0.5, 7.75)):
        for step, extra in (("_input", 1e-3), ("_network", 0), ("_acquisition", 4e-4), ("", 5e-4)):
            value = (error * (step != "_input") + extra) * random.uniform(0.5, 1.5)
            yield Row("physical-shift", name, 5, y, x, f"nmse_eq{step}", value, "ok" if value else "exact")


def _margin_rows(random, name, ties) -> Iterator[Row]:
    for level in range(1, 5):
        value = 0.0 if ties and name == "brain1" and level == 1 else 10 ** random.uniform(-5, -2) * level
        yield Row("margins", name, 5, "", "", f"margin_{level}", value, "ok" if value else "tie")


def _quality_rows(random, protocol, names, gain) -> Iterator[Row]:
    for i, name in enumerate(names):
        psnr = 24.3 + 0.4 * i + gain + 0.04 * (1 + gain) * random.standard_normal()
        for metric, value in {
            "psnr": psnr,
            "ssim": 1 - 9 * 10 ** (-psnr / 20),
            "nmse": 10 ** (1.4 - psnr / 10),
        }.items():
            yield Row(protocol, name, "", "", "", metric, value, "ok")


def _shift_rows(random, protocol, name, shifts, error, target, tie) -> Iterator[Row]:
    for y, x in shifts:
        exact = error == 0 or (y % 16 == 0 and x % 16 == 0 and protocol != "realistic-shift")
        nmse = 1e-3 if tie else 0.0 if exact else error * 10 ** random.normal(0, 0.3)
        status = "tie" if tie else "exact" if exact else "ok"
        psnr = "" if status == "exact" else 12 - 10 * math.log10(nmse)
        values = {"nmse_eq": nmse, "psnr_eq": psnr, "ssim_eq": 1 - 5 * nmse, "max_abs": 10 * nmse**0.5}
        if target:
            values["dpsnr"] = abs(3 * nmse**0.5 * random.standard_normal())
        for metric, value in values.items():
            yield Row(protocol, name, 5, y, x, metric, value, status)


def _facts(run, error) -> RunFacts:
    dataset = {"center_fractions": [0.08], "accelerations": [4], "batch_size": 1, "max_shift": 0}
    network = {"widths": [16, 32, 64], "sampling": run.rstrip("3"), "blur": 3 if "3" in run else 1}
    config = {"task": "mri", "data": None, "seed": 0, "out": f"runs/{run}", "network": network}
    config |= {"dataset": dataset, "evaluation": {"split": "test", "shifts": 4}}
    slope = 0.5 + error**0.5
    curves = [
        {
            "epoch": str(n),
            "train_loss": str(0.08 / (n + 1) ** slope),
            "val_psnr": str(31 + 8 * error**0.5 - 2 / (n + 1)),
            "val_nmse_eq": str(error * (1 + 1 / (n + 1))),
        }
        for n in range(12)
    ]
    environment = {"command": f"recon-train --sampling {run}", "device": "cpu", "versions": {"torch": "2.14.1"}}
    return RunFacts(run, config, curves, DATA, environment)


def _example(random, typical, target) -> Example:
    """A bundled slice, under-sampled, and a mixture of it and the truth for each run."""
    with h5py.File(Path(data_prep.__file__).parent / "samples" / "mri_brain.h5") as file:
        truth = file["brain2"][5].astype(np.float32)
    kspace = np.fft.fft2(truth)
    columns = np.abs(np.fft.fftfreq(256)) < 0.04
    columns |= random.random(256) < 0.2
    image = np.abs(np.fft.ifft2(kspace * columns)).astype(np.float32)
    noise = {run: 0.01 * truth.max() * random.standard_normal(truth.shape) for run in typical}
    outputs = {run: (truth + 0.3 * (image - truth) + noise[run]).astype(np.float32) for run in typical}
    edges = np.roll(truth, 1, 1) - truth
    changes = {run: (error**0.5 * edges).astype(np.float32) for run, error in typical.items()}
    return Example("brain2", 5, image, truth if target else None, float(truth.max()), (7, -3), outputs, changes)


class Page(HTMLParser):
    """What stands on a page: texts, attributes of all elements, figures by key."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.attributes, self.tags, self.figures = "", [], [], []
        self._skip = 0
        self.feed(page)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        self._skip += tag == "style"
        values = dict(attrs)
        if "data-key" in values:
            self.figures.append([values["data-key"], values["data-value"], ""])

    def handle_endtag(self, tag) -> None:
        self._skip -= tag == "style"

    def handle_data(self, data) -> None:
        if not self._skip:
            self.text += data + " "
        if self.figures and not self.figures[-1][2]:
            self.figures[-1][2] = data


def look_up(summaries, key: str) -> Any:
    found = summaries
    for part in key.split("/"):
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


@pytest.fixture(scope="module")
def page(made: Made) -> Page:
    return Page(made.page())


def test_every_figure_is_the_summarys(made, page):
    assert len(page.figures) > 300
    for key, value, shown in page.figures:
        assert float(value) == look_up(made.summaries, key), key
        assert json.dumps(look_up(made.summaries, key)) == value
        if shown != "exact" and not shown.startswith(">"):
            assert float(shown) == pytest.approx(float(value), rel=0.06, abs=6e-5), key
    keys = {key for key, *_ in page.figures}
    for run in made.summaries:
        assert {f"{run}/plain/psnr/mean", f"{run}/equivariance/n_exact", f"{run}/white-noise/nmse_eq_max"} <= keys


def test_the_answer_comes_first_and_in_words(made):
    answer = made.report().answer
    assert answer[0].startswith("Best PSNR: stride with ")
    leads = _paired(made, "psnr", "stride", "lpf3")
    errors = 2 * np.std(leads, ddof=1) / 2
    assert f"by {np.mean(leads):.2f} dB on average (2 standard errors: {errors:.1e}".replace("e-0", "e-") in answer[0]
    assert "over 4 volumes; ahead in all of them): the lead exceeds two standard errors" in answer[0]
    assert any(
        re.search(r"^stride is not shift equivariant: NMSE_eq up to .+ changes the PSNR by up to", s) for s in answer
    )
    n = sum(
        part["n_cases"] for p, part in made.summaries["aps"].items() if "n_exact" in part and p != "realistic-shift"
    )
    assert f"aps is shift equivariant, exact: all {n} of {n} pairs are equal bit for bit." in answer


def _paired(made, metric, *runs) -> np.ndarray:
    values = [
        [row.value for name, row in made.rows if (name, row.protocol, row.metric) == (run, "plain", metric)]
        for run in runs
    ]
    return np.subtract(*values)


def _set(made, run, metric, values) -> None:
    """Other values of a run's quality, in its rows and its summary."""
    values = iter(values)
    made.rows = [
        (name, row._replace(value=next(values)) if (name, row.protocol, row.metric) == (run, "plain", metric) else row)
        for name, row in made.rows
    ]
    made.summaries[run] |= summarise([row for name, row in made.rows if name == run])


def test_a_lead_is_judged_by_the_volumes_that_both_were_measured_on():
    made = Made(typical={"aps": 0.0, "stride": 1e-3}, protocols=("plain",))
    before = [row.value for name, row in made.rows if name == "aps" and (row.protocol, row.metric) == ("plain", "psnr")]
    _set(made, "stride", "psnr", [value + lead for value, lead in zip(before, (0.3, -0.1, -0.1, 0.1), strict=True)])
    said = made.report().answer[0]
    assert "ahead of aps by 0.05 dB on average (2 standard errors: 0.19 dB over 4 volumes; ahead in 2 of them)" in said
    assert "does not exceed two standard errors" in said
    made.rows = [(name, row) for name, row in made.rows if (name, row.volume) != ("aps", "brain1")]
    assert "measured on other volumes, nothing tells" in made.report().answer[0]
    assert "with one volume, nothing tells" in Made(protocols=("plain",), n_volumes=1).report().answer[0]


def _best_cells(report) -> list[Any]:
    tables = [block for section in report.sections for block in section.blocks if isinstance(block, Table)]
    return [cell for table in tables for row in table.rows for cell in row if getattr(cell, "best", False)]


def test_runs_of_other_inputs_have_no_winner(made):
    """Other masks, another split, or a baseline that differs: nothing is best, in words or in colour."""
    assert _best_cells(made.report())
    names = ("dataset", "evaluation", "baseline", "harmless")
    for name in names:
        other = Made(typical={"aps": 0.0, "stride": 1e-3})
        config = dict(other.runs[1].config)
        if name == "dataset":
            config["dataset"] = config["dataset"] | {"center_fractions": [0.04]}
        elif name == "evaluation":
            config["evaluation"] = {"split": "val"}
        elif name == "baseline":
            other.summaries["stride"]["zero-filled"]["psnr"]["mean"] += 0.1
        else:
            config["dataset"] = config["dataset"] | {"batch_size": 8, "n_workers": 2, "max_shift": 16}
        other.runs[1] = replace(other.runs[1], config=config)
        report = other.report()
        same = name == "harmless"
        assert bool(_best_cells(report)) == same, name
        assert ("Shaded" in render_report(report)) == same, name
        assert report.answer[0].startswith("Best PSNR" if same else "The runs were measured on different data"), name


def test_motion_is_told_in_whole_pixels_and_fractions(made):
    assert re.search(
        r"before the acquisition, by whole pixels: stride .+; by fractions of a pixel: stride", made.report().answer[-1]
    )


def test_sections_stand_only_where_something_was_measured():
    titles = [section.title for section in Made(protocols=("plain", "shift"), n_volumes=1).report().sections]
    assert titles[:3] == ["Quality", "Pictures", "Shift equivariance"]
    assert not {"Outside the training distribution", "When the patient moves", "Phase margins"} & set(titles)


@pytest.mark.parametrize(("protocols", "said"), [(("shift",), False), (("plain", "shift"), True)])
def test_quality_is_missed_only_where_it_was_asked_for(protocols, said):
    report = Made(protocols=protocols, target=False).report()
    assert ("The files have no target, so quality was not measured." in report.answer) == said
    assert ("Quality" in [section.title for section in report.sections]) == said


def test_changed_inputs_without_the_unchanged_ones():
    made = Made(protocols=("plain", "noise-0.1", "shift"))
    made.protocols = ["noise"]
    for summary in made.summaries.values():
        del summary["plain"], summary["zero-filled"]
    made.rows = [(run, row) for run, row in made.rows if row.protocol not in ("plain", "zero-filled")]
    report = made.report()
    assert report.sections[0].title == "Pictures"
    assert "target" not in report.answer[0]
    assert "noise 0.1" in render_report(report)


class Files:
    """One volume of one slice of random numbers."""

    without_padding, upright = SliceDataset.without_padding, SliceDataset.upright
    transposed = False

    def __init__(self, side: int, seed: int) -> None:
        volume = SimpleNamespace(name="brain1", n_slices=1, image_size=(side, side))
        self.volumes, self.slices = [volume], [(0, 0)]
        random = torch.Generator().manual_seed(seed)
        image, one, number = torch.rand(1, side, side, generator=random), torch.tensor(1.0), torch.tensor(0)
        self.sample = Sample(image, torch.ones_like(image), 0 * one, one, one, number, number)

    def __getitem__(self, index: int) -> Sample:
        return self.sample


class ItsInput(torch.nn.Module):
    """The task that gives back its own input."""

    def forward(self, batch: Sample) -> torch.Tensor:
        return batch.image


def test_each_input_has_its_own_picture(made):
    """Runs of another mask, and of another image size, beside two runs of one input."""
    files = {"aps": Files(32, 0), "stride": Files(32, 0), "lpf3": Files(32, 1), "small": Files(24, 0)}
    networks = {name: ItsInput() for name in files}
    runs = [SimpleNamespace(name=name, dataset=files[name], task=task) for name, task in networks.items()]
    examples = draw_examples(runs, Collected(), Settings(), torch.device("cpu"))
    assert [list(example.reconstructions) for example in examples] == [["aps", "stride"], ["lpf3"], ["small"]]
    for example in examples:
        for name, image in example.reconstructions.items():
            np.testing.assert_array_equal(example.image, image, err_msg=name)
    other = Made(typical=dict.fromkeys(files, 1e-3))
    other.examples = examples
    section = next(section for section in other.report().sections if section.title == "Pictures")
    captions = [block.caption for block in section.blocks if isinstance(block, Figure)]
    assert ["The input of aps, stride." in captions[0], "lpf3" in captions[1], "small" in captions[2]] == [True] * 3


def test_rows_are_gone_through_once(made):
    page = made.page()
    rows, made.rows = made.rows, iter(made.rows)
    assert made.page() == page
    made.rows = Collected(rows)
    errors = [r for _, r in rows if (r.protocol, r.metric, r.status) == ("equivariance", "nmse_eq", "ok")]
    worst = max(errors, key=lambda row: row.value)
    assert made.rows.worst == (worst.volume, worst.slice, (worst.shift_y, worst.shift_x))
    assert made.page() == page
    made.rows = rows


def test_nothing_is_fetched_and_nothing_runs(page):
    assert not {"script", "iframe", "object", "embed"} & set(page.tags)
    assert page.tags.count("link") == 1
    for tag, name, value in page.attributes:
        assert not name.startswith("on")
        assert "://" not in (value or ""), (tag, name)
        if name in ("href", "src", "xlink:href"):
            assert value.startswith(("#", "data:")), (tag, value[:80])


def test_ids_are_used_once_and_references_lead_somewhere(made, page):
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    text = made.page()
    assert set(re.findall(r"(?:href=\"#|url\(#)([^\")]+)", text)) <= set(ids)
    assert not re.search(r"fill: #000|stroke: #000|font-family: 'DejaVu", text)


def test_images_have_a_text_and_runs_a_name(made, page):
    assert page.tags.count("img") == sum(name == "alt" and bool(value) for _, name, value in page.attributes)
    assert page.tags.count("svg") == sum(value == "img" for _, name, value in page.attributes if name == "role")
    assert all(page.text.count(run) > 20 for run in TYPICAL)
    assert "simulated from magnitude" in page.text


@pytest.mark.parametrize(
    "arguments",
    [
        {"typical": {"aps": 0.0}},
        {"typical": {"stride": 3e-4}, "n_volumes": 1},
        {"typical": {"aps": 0.0, "aps3": 0.0}, "ties": True},
        {"typical": {"aps": 0.0, "rounding": 1e-14}, "target": False},
        {"protocols": ("plain",)},
        {"protocols": ("shift",), "target": False, "n_volumes": 1},
        {"protocols": ("white-noise",), "typical": {"aps": 0.0, "stride": 1e-3}},
        {"protocols": (), "target": False},
        {"typical": {f"run{n}": 1e-4 * n for n in range(9)}},
    ],
    ids=str,
)
def test_whatever_was_measured_makes_a_page(arguments):
    made = Made(**arguments)
    page = Page(made.page())
    assert not re.search(r"\b(nan|inf|None|Undefined)\b", page.text)
    for run in made.summaries:
        assert run in page.text
    for key, value, _ in page.figures:
        assert float(value) == look_up(made.summaries, key)


def test_exact_rounding_and_ties_are_told_apart():
    answers = Made(typical={"aps": 0.0, "rounding": 1e-14}, target=False).report().answer
    assert any(
        "rounding is shift equivariant up to rounding: NMSE_eq is below 1e-10" in sentence for sentence in answers
    )
    answers = Made(typical={"aps": 0.0}, ties=True).report().answer
    assert re.search(
        r"all (\d+) of \1 pairs are equal bit for bit. \d+ more pairs are ties, counted apart.", answers[-2]
    )


def test_identical_outputs_read_exact_everywhere(capsys):
    made = Made(typical={"aps": 0.0, "stride": 1e-3}, protocols=("plain", "shift"))
    part, other = made.summaries["aps"]["equivariance"], made.summaries["stride"]["equivariance"]
    assert not {"psnr_eq_min", "psnr_eq_mean", "ssim_eq_min", "ssim_eq_mean"} & set(part)
    assert {"psnr_eq_min", "ssim_eq_min", "ssim_eq_mean"} <= set(other)
    section = next(section for section in made.report().sections if section.title == "Shift equivariance")
    table = section.blocks[0]
    read = dict(zip(table.columns, table.rows[0], strict=True))
    for column, cell in read.items():
        if "_eq" in column or "dPSNR" in column:
            parts = [part if isinstance(part, str) else part.text for part in cell.parts]
            assert parts == ["exact"], column
            assert cell.best, column
    print_tables(made.summaries, DATA, BASELINES)
    line = next(line for line in capsys.readouterr().out.splitlines() if "aps" in line and "/" in line)
    assert line.count("exact") == 3
    without = Made(typical={"aps": 0.0}, protocols=("shift",), target=False).page()
    assert "dPSNR, worst (dB)" not in Page(without).text


def test_exact_pairs_enter_no_ssim_and_undefined_errors_are_counted():
    rows = []
    for x, (nmse, ssim, status) in enumerate([(0.0, 1.0, "exact"), (0.1, 0.8, "ok"), ("", 0.2, "ok"), ("", 0, "tie")]):
        for metric, value in (("nmse_eq", nmse), ("ssim_eq", ssim)):
            rows.append(Row("equivariance", "brain1", 0, 0, 1 + x, metric, value, status))
    part = summarise(rows)["equivariance"]
    assert (part["n_cases"], part["n_exact"], part["n_ties"], part["n_blank"]) == (4, 1, 1, 1)
    assert part["ssim_eq_mean"] == pytest.approx(0.5)
    assert part["nmse_eq_mean"] == pytest.approx(0.05)
    assert "n_blank" not in summarise(rows[:4])["equivariance"]


def test_ties_of_one_run_alone_are_told_under_the_table():
    made = Made(typical={"aps": 1e-5, "stride": 1e-3})  # both draw the same random numbers
    assert "different numbers of pairs" not in made.page()
    made.rows = [
        (
            name,
            row._replace(status="tie")
            if name == "aps" and row.protocol == "equivariance" and row.volume == "brain1"
            else row,
        )
        for name, row in made.rows
    ]
    made.summaries["aps"] |= summarise([row for name, row in made.rows if name == "aps"])
    parts = [made.summaries[run]["equivariance"] for run in ("aps", "stride")]
    aps, stride = (part["n_cases"] - part["n_ties"] for part in parts)
    assert aps < stride
    text = " ".join(Page(made.page()).text.split())
    assert f"Without ties the runs have different numbers of pairs (aps {aps}, stride {stride})." in text
    assert f"(test images: aps {aps}, stride {stride})." in text


def test_names_are_escaped():
    name = '<script>alert(1)</script> $x_1$ & "b"'
    made = Made(typical={name: 1e-4, "aps": 0.0})
    page = Page(made.page())
    assert "script" not in page.tags
    assert name in page.text


def test_the_same_findings_give_the_same_page(made, tmp_path):
    write_report(tmp_path / "report.html", made.report())
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == Made().page()


def test_a_figure_is_finite():
    with pytest.raises(ValueError, match="aps/plain/psnr"):
        Number("inf", math.inf, "aps/plain/psnr")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None or find_spec("playwright") is None:
        pytest.skip("needs Chromium and playwright: apt-get install chromium; pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_in_a_browser(browser, made, page, size, tmp_path):
    """Quiet, self-contained, no wider than the window, light and dark; screenshots stay in the test's folder."""
    path = tmp_path / "report.html"
    write_report(path, made.report())
    backgrounds = set()
    for scheme in ("light", "dark"):
        viewport = {"width": size[0], "height": size[1]}
        context = browser.new_context(viewport=viewport, color_scheme=scheme, offline=True)
        tab = context.new_page()
        complaints, requests = [], []
        tab.on("console", lambda message, found=complaints: found.append(message.text))
        tab.on("pageerror", lambda error, found=complaints: found.append(str(error)))
        tab.on("request", lambda request, found=requests: found.append(request.url))
        tab.goto(path.as_uri())
        tab.screenshot(path=tmp_path / f"{scheme}.png", full_page=True)
        for details in tab.locator("summary").all():
            details.click()
        assert complaints == []
        assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
        assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
        shown = tab.eval_on_selector_all(
            "data", "cells => cells.map(c => [c.dataset.key, c.dataset.value, c.innerText])"
        )
        assert shown == page.figures
        assert tab.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
        backgrounds.add(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        context.close()
    assert len(backgrounds) == 2


def test_many_runs_of_long_names_stay_inside_the_window(browser, tmp_path):
    names = [f"20261123-0528{n:02}-aps{n}-s0-best-{'long' * 12}" for n in range(7)]
    write_report(tmp_path / "report.html", Made(typical={name: 1e-5 * i for i, name in enumerate(names)}).report())
    for width in (390, 1280):
        tab = browser.new_page(viewport={"width": width, "height": 844})
        tab.goto((tmp_path / "report.html").as_uri())
        tab.screenshot(path=tmp_path / f"{width}.png", full_page=True)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.close()


def test_many_runs_are_answered_in_two_sentences():
    found = Made(typical={f"aps{n}": 1e-14 for n in range(5)} | {f"stride{n}": 1e-3 for n in range(4)}).report().answer
    said = [sentence for sentence in found if "hift equivariant" in sentence]
    assert len(said) == 2
    assert re.match(
        r"Shift equivariant, exact or up to rounding \(NMSE_eq at most .+\): aps0, aps1, aps2, aps3, aps4\.$", said[0]
    )
    assert re.match(r"Not shift equivariant, .+: stride0 .+, stride3 \d", said[1])
