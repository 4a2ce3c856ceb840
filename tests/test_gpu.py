"""The command for GPUs, on a CPU with tiny sizes: its tables and its JSON, and that what is wrong ends with code 1."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, networks
from benchmarks.gpu import pages, sections, table
from benchmarks.gpu.checks import find_wait
from benchmarks.gpu.sections import SECTIONS
from benchmarks.gpu.table import Section, Setting, Table
from recon.layers import PolyphaseMaxPool, can_fuse

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SETTING = Setting(CPU, 0, table.CPU)
KERNELS = "kernels"


@pytest.fixture(autouse=True)
def few_networks(monkeypatch):
    names = (networks.BASELINE, "ours, stride", networks.APS, "ours, aps, kernels off")
    monkeypatch.setattr(networks, "VARIANTS", {name: networks.VARIANTS[name] for name in names})


def only(monkeypatch, *names, **others):
    kept = {name: SECTIONS[name] for name in names} | others
    for module in (gpu, pages, sections):
        monkeypatch.setattr(module, "SECTIONS", kept)


def measured(seconds=60.0, name=KERNELS):
    return table.run_section(name, SETTING, time.monotonic() + seconds)


def test_every_section_runs_and_is_written(tmp_path, capsys):
    assert gpu.main(["--device=cpu", "--seconds=300", f"--out={tmp_path / 'found' / 'here.md'}"]) == 0
    assert "Triton default: undecided" in capsys.readouterr().out
    found = json.loads((tmp_path / "found" / "here.json").read_text())
    assert {"device", "driver", "triton", "versions", "git_commit", "seed", "started", "verdict"} <= set(found)
    statuses = {name: section["status"] for name, section in found["sections"].items()}
    assert statuses == dict.fromkeys(SECTIONS, "ok") | {"compiled": "skipped"}
    rows = {name: {row["name"]: row for row in section["rows"]} for name, section in found["sections"].items()}
    assert rows["forms"]["max-pool, aps"]["float64 output"] <= 1e-10
    assert rows["exact_unets"]["U-Net, stride (control), float32"]["largest error"] > 1e-3
    assert rows["unets"]["ours, stride"]["shift error"] > 1e-3 > rows["unets"][networks.APS]["shift error"]
    assert rows["autocast"]["U-Net, aps, bfloat16"]["scores"] == "float64"
    assert found["sections"]["unets"]["kernels_to_torch"] > 0
    page = (tmp_path / "found" / "here.md").read_text()
    assert page.startswith("# cpu\n")
    assert page.count("| U-Net, aps |") == 2
    assert all(f"## {section.title}" in page for section in SECTIONS.values())


def test_a_broken_kernel_ends_with_code_1(tmp_path, monkeypatch, capsys):
    only(monkeypatch, "forms", KERNELS, "unets")
    whole = PolyphaseMaxPool.forward

    def wrong_with_kernels(pool, x):
        pooled, phase = whole(pool, x)
        return pooled * (1 + 1e-4 * can_fuse(x, torch.nn.BatchNorm2d(1), torch.nn.ReLU())), phase

    monkeypatch.setattr(PolyphaseMaxPool, "forward", wrong_with_kernels)
    assert gpu.main(["--device=cpu", f"--out={tmp_path / 'broken.md'}"]) == 1
    assert "FAILED: max-pool, aps: float64 output is 1.0e-04, above 1e-10" in capsys.readouterr().out
    found = json.loads((tmp_path / "broken.json").read_text())["sections"]
    assert found[KERNELS]["status"] == found["forms"]["status"] == "FAILED"


def test_a_selector_in_float32_is_found(monkeypatch):
    score = gpu.checks.MaxNorm.score
    monkeypatch.setattr(gpu.checks.MaxNorm, "score", lambda self, x, stride: score(self, x, stride).float())
    assert any("not in float64" in fault for fault in measured(name="autocast").faults)


def test_a_failing_section_does_not_end_the_others(tmp_path, monkeypatch, capsys):
    def fail(setting, table):
        table.add("before", ms=1.5)
        raise RuntimeError("no such kernel\nand more")

    only(monkeypatch, bad=Section("Bad", 1, fail), waits=SECTIONS["waits"])
    monkeypatch.setattr(gpu, "verdict", lambda *_: "none")
    assert gpu.main(["--device=cpu", f"--out={tmp_path / 'some.md'}"]) == 1
    found = json.loads((tmp_path / "some.json").read_text())["sections"]
    assert found["bad"]["remarks"] == ["FAILED: RuntimeError: no such kernel"]
    assert found["bad"]["rows"] == [{"name": "before", "ms": 1.5}]
    assert found["waits"]["status"] == "ok"


def test_a_section_is_cut_when_its_time_is_over(monkeypatch):
    def sleep(setting, table):
        table.add("before", ms=1.5)
        time.sleep(30)

    only(monkeypatch, slow=Section("Slow", 1, sleep))
    found = measured(0.3, "slow")
    assert (found.status, list(found.rows), found.failed) == ("cut", ["before"], False)
    assert "Cut" in found.remarks[-1]
    assert found.seconds < 10


class Deadly:
    """What ends the process that reads it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_processes_of_sections():
    answered = table.run_apart("waits", SETTING, time.monotonic() + 120)
    assert (answered.status, len(answered.rows)) == ("ok", 8)
    died = table.run_apart("waits", SETTING._replace(seed=Deadly()), time.monotonic() + 120)
    assert (died.status, died.failed) == ("FAILED", True)
    assert "died" in died.remarks[0]


def tables(ratio=0.9, fault=None):
    found = {name: Table(section.title, 0.0) for name, section in SECTIONS.items()}
    found["unets"].kernels_to_torch = ratio
    if fault:
        found[fault].faults.append("wrong")
    return list(found.values())


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        (tables(0.95), "yes"),
        (tables(0.96), "no"),
        (tables(0.5, fault=KERNELS), "no"),
        (tables(0.5, fault="unets"), "no"),
        (tables(None), "undecided"),
    ],
)
def test_the_verdict_is_the_rule_s(found, answer):
    assert pages.verdict(found, torch.device("cuda")).startswith(f"Triton default: {answer},")
    assert pages.verdict(found, CPU).startswith("Triton default: undecided,")


def test_a_wait_is_named_by_its_line():
    def step():
        raise RuntimeError("called a synchronizing CUDA operation")

    def wrong():
        raise RuntimeError("shapes differ")

    assert find_wait(lambda: None, CPU) is None
    with pytest.raises(RuntimeError, match="shapes"):
        find_wait(wrong, CPU)
    calls = iter([lambda: None, step])
    assert find_wait(lambda: next(calls)(), CPU) == f"{Path(__file__).name}:{step.__code__.co_firstlineno + 1} step"


def test_without_a_gpu_it_is_one_sentence(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert gpu.main(["--device=cpu", "--seconds=0"]) == 2
