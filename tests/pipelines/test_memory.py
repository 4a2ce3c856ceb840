"""The memory that a command keeps."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from pipelines.runtime.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for i in range(12):
    if i == 8:  # glibc has found a place in which the next block fits, alignment included
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.process
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such setting")
def test_freed_memory_is_used_again():
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, check=True).stdout
        )
        for mode in ("keep", "default")
    }
    assert faults["default"] > 4 * 2**26 / 2**21  # at least one for each huge page of four images
    assert faults["keep"] < faults["default"] / 4
