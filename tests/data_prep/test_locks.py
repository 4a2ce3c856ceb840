"""A lock ends with the process that holds it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from data_prep.storage.locks import locked

HOLDS = """
import runpy, sys
from pathlib import Path
with runpy.run_path(sys.argv[1])["locked"](Path(sys.argv[2]), wait=False):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["file", "folder"])
def place(request, tmp_path):
    path = tmp_path / "place"
    (path.touch if request.param == "file" else path.mkdir)()
    return path


def test_another_process_keeps_out_until_it_ends(place):
    import data_prep.storage.locks as module

    command = [sys.executable, "-c", HOLDS, module.__file__, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), locked(place, wait=False):
            pass
        other.kill()
        with locked(place, wait=True):
            pass


def test_a_lock_is_let_go_after_an_error(place):
    with pytest.raises(KeyError), locked(place, wait=False):
        raise KeyError
    with locked(place, wait=False):
        pass


def test_nothing_is_made_to_be_locked(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "missing", wait=True):
        pass
    assert not (tmp_path / "missing").exists()
