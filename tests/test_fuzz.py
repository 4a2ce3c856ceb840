"""A few cases of each family of damaged input, and that the suite sees what is planted."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fuzz
from benchmarks.fuzz.judge import Command, Limits, not_one_sentence, try_command
from benchmarks.fuzz.suite import OF_NAME, Suite
from data_prep.storage.cache import temporary_sibling
from pipelines.runtime.shell import run_command
from recon.errors import InputError
from tests.fresh import fresh_process

pytestmark = pytest.mark.process

CASES = 4
LIMITS = Limits(60, 4)


def make(folder):
    return Suite(folder, LIMITS)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """Calls a function of the suite in a process of its own."""
    with fresh_process(make, tmp_path_factory.mktemp("fuzz")) as call:
        yield call


def faults(suite, family):
    return list(suite.run(family, CASES, 0)), sum(suite.counts[family].values())


def summary(suite, task):
    return (suite.inputs.run(task) / "summary.json").exists()


def arguments(suite, family, seed):
    return suite.case(family, seed)[0].argv


def test_families():
    assert {*OF_NAME} == {*fuzz.FAMILIES}


@pytest.mark.parametrize("family", fuzz.FAMILIES)
def test_damaged_input_is_answered(suite, family):
    assert suite(faults, family) == ([], CASES)


def test_undamaged_input_is_no_reason_to_complain(suite):
    for task in ("mri", "ct", "cifar10"):
        assert suite(summary, task)


def of_the_program(argv):
    return run_command(lambda _: {}["nothing"], argv)


def hangs(argv):
    time.sleep(60)


def eats(argv):
    return run_command(lambda _: [np.ones(2**28) for _ in range(100)] and None, argv)


def dies(argv):
    import ctypes

    ctypes.string_at(0)


def leaves_a_part(argv):
    temporary_sibling(Path("out/volume.h5")).write_bytes(b"x")
    return refuses(argv)


def writes_half(argv):
    Path("out/volume.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    return 0


def changes_the_input(argv):
    Path("in/file").write_text("changed")
    return 0


def refuses(argv):
    return run_command(refuse, argv)


def refuse(argv):
    raise InputError("the file is damaged: copy it again")


def advises_beside(argv):
    print("pixdim[1,2,3] should be positive", file=sys.stderr)
    return refuses(argv)


PLANTED = {
    of_the_program: "exit 1",
    hangs: "hang",
    eats: "memory",
    dies: "crash",
    leaves_a_part: "half-written",
    writes_half: "half-written",
    changes_the_input: "half-written",
    advises_beside: "not one sentence",
    refuses: "exit 2",
}


@pytest.mark.parametrize(("main", "verdict"), PLANTED.items(), ids=lambda item: getattr(item, "__name__", None))
def test_planted_fault_is_seen(tmp_path, main, verdict):
    for name in ("in", "out"):
        (tmp_path / "case" / name).mkdir(parents=True)
    (tmp_path / "case" / "in" / "file").write_text("input")
    command = Command("planted", main, [], tmp_path / "case" / "out", tmp_path / "case" / "in")
    judgement = try_command(command, tmp_path / "case", Limits(2, 1))
    assert judgement.verdict == verdict, judgement.output
    assert (judgement.why == "") == (verdict == "exit 2")


def test_a_case_is_repeated_by_its_seed(suite):
    made = [suite(arguments, "spaces", seed) for seed in (7, 7, 8)]
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("checking: 50%|##  | 1/2\rerror: it is damaged\n", ""),
        ("error: one\nerror: two\n", "2 sentences"),
        ("error: one\nand more", "more than a sentence: and more"),
        ("", "0 sentences"),
    ],
)
def test_one_sentence(text, wrong):
    assert not_one_sentence(text) == wrong
