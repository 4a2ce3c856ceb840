"""The benchmarks of speed: each runs, its equality checks hold, and a wrong pair is reported."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import harness, layers, networks, translation, unrolled
from recon import UNet

CPU = torch.device("cpu")


def constant(value):
    return lambda: [[torch.full((3,), value)], [torch.ones(2)]]


def sixty_four_megabytes():
    return lambda: [[torch.ones(2**24)]]


@pytest.mark.process
def test_layers(capsys, tmp_path):
    assert layers.main(["--size=32", "--repeats=1", f"--out={tmp_path / 'layers.md'}"]) == 0
    page = (tmp_path / "layers.md").read_text()
    assert page.count("| published APS-D |") == page.count("| published APS-U |") == page.count("| F.pad |") == 2
    assert "seed 0" in page
    assert "APS-D" in capsys.readouterr().out


@pytest.mark.process
def test_networks(monkeypatch, capsys):
    assert networks.main(["inference", "training", "inference-precisions", "--size=32", "--repeats=1"]) == 0
    assert "shift error" in capsys.readouterr().out
    wrong = networks.VARIANTS[networks.APS]._replace(same_as=networks.BASELINE, limit=networks.LIMIT_SAME)
    only = {networks.BASELINE: networks.VARIANTS[networks.BASELINE], networks.APS: wrong}
    monkeypatch.setattr(networks, "VARIANTS", only)
    assert networks.main(["inference", "--size=32", "--repeats=1"]) == 1
    assert "ours, aps differs from BasicUNet" in capsys.readouterr().err
    assert networks.main(["inverence"]) == networks.main(["--size=40"]) == 2


@pytest.mark.process
def test_translation(capsys):
    """Only what commutes with half a pixel has a small error."""
    assert translation.main(["--size=32", "--repeats=1"]) == 0
    size = networks.Data(32, 0, CPU)
    for exact, control in ((translation.ALIAS_FREE, translation.APS), (translation.CENTRED, translation.ALONE)):
        assert translation.error(exact, size) < 1e-4 < translation.error(control, size)
    assert translation.main(["--size=40"]) == 2


@pytest.mark.process
def test_unrolled(capsys, tmp_path):
    flags = ["--size=32", "--coils=2", "--cascades=1", "--repeats=1", f"--out={tmp_path / 'page.md'}"]
    assert unrolled.main(flags) == 0
    page = (tmp_path / "page.md").read_text()
    assert page.count("| fastMRI's VarNet |") == 2
    assert "| MoDL, 20 steps |" in page
    assert unrolled.main(["trainin"]) == unrolled.main(["--size=40"]) == unrolled.main(["--coils=0"]) == 2
    assert "--coils and --cascades" in capsys.readouterr().err


def test_the_networks_have_the_same_parameters():
    counts = {sum(p.numel() for p in variant.build().parameters()) for variant in networks.VARIANTS.values()}
    assert len(counts) == 1


def test_published_forms_say_the_same_as_ours():
    data = networks.Data(32, 0, CPU)
    assert networks.shift_error(networks.BASELINE, data) > 1e-3 > 1e-5 > networks.shift_error(networks.APS, data)
    with pytest.raises(KeyError):
        networks.parameters(UNet(widths=(4, 8)))


@pytest.mark.process
@pytest.mark.parametrize(("value", "code"), [(1.0, 0), (1.0 + 1e-4, 1), (float("nan"), 1)])
def test_a_wrong_pair_ends_with_code_1(value, code, capsys):
    cases = [
        harness.Case("right", partial(constant, 1.0)),
        harness.Case("other", partial(constant, value), "right", 1e-6),
    ]
    outcomes = harness.compare(cases, 2, CPU)
    assert [len(outcome.seconds) for outcome in outcomes] == [2, 2]
    options = harness.Options(2, 0, CPU, None)
    assert command.run_command(lambda _: harness.report({"a title": outcomes}, options), []) == code
    assert ("a title: other differs from right" in capsys.readouterr().err) == bool(code)


def test_relative_difference_is_that_of_each_part():
    some, others = [[torch.ones(4)], [1e-3 * torch.ones(4)]], [[torch.ones(4)], [2e-3 * torch.ones(4)]]
    assert harness.relative_difference(some, some) == 0
    assert harness.relative_difference(some, others) == pytest.approx(0.5)
    assert harness.relative_difference(some[:1], [[torch.ones(5)]]) == float("inf")


@pytest.mark.process
def test_memory_is_that_of_the_run():
    peak = harness.alone(partial(harness.peak, sixty_four_megabytes, CPU))
    assert 60 < peak < 80


def test_names(capsys):
    assert command.main([]) == 0
    listed = capsys.readouterr().out
    folder = Path(command.__file__).parent
    modules = [path for path in folder.rglob("*.py") if "def main(" in path.read_text()]
    assert {*command.ALL, "__main__"} == {path.parent.name if "init" in path.stem else path.stem for path in modules}
    assert all(name in listed for name in command.ALL)
    assert command.main(["netwroks"]) == 2
    assert "did you mean 'networks'" in capsys.readouterr().err
    assert command.main(["layers", "networks", "--repeats=1"]) == 2
    assert command.main(["layers", "--repeats=0"]) == 2


def test_one_after_the_other(monkeypatch):
    called = []
    monkeypatch.setattr(layers, "main", lambda argv: called.append(("layers", argv)) or 1)
    monkeypatch.setattr(networks, "main", lambda argv: called.append(("networks", argv)) or 0)
    assert command.main(["layers", "networks"]) == 1
    assert called == [("layers", []), ("networks", [])]
