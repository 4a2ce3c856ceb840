"""A training step on a knee of 15 coils, in a process whose memory is read from the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

STEP = """
import resource
import torch
from recon.networks import VarNet
from recon.physics import mri

torch.set_num_threads(2)
torch.manual_seed(0)
network = VarNet(n_cascades=3, form="{form}", save_memory=True)
mask = torch.arange(368) % 4 == 0
mask[170:198] = True
kspace = mri.apply_mask(torch.randn(1, 15, 640, 368, dtype=torch.complex64), mask)
optimizer = torch.optim.Adam(network.parameters())
network(kspace, mask).abs().square().mean().backward()
optimizer.step()
assert all(parameter.grad is not None for parameter in network.parameters())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("form", ["image", "kspace"])
def test_three_cascades_of_fifteen_coils_fit_into_4_gb(form):
    done = subprocess.run([sys.executable, "-c", STEP.format(form=form)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 4e9
