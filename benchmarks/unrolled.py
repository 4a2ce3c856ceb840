"""Networks with the measurement inside: a training step and the inference of VarNet against fastMRI's; MoDL's memory.

    python -m benchmarks.unrolled
    python -m benchmarks.unrolled inference --cascades 4 --repeats 15

VarNet and fastMRI's have equal cascades and widths (18 to 288; the network of the coil maps 8 to 128), and both estimate
the maps from the calibration lines. A training step is forward, mean squared error of the magnitude, backward and Adam;
inference is in eval mode without gradients. MoDL takes a training step with 5 and with 20 steps of conjugate gradients.
Prints tables; exit code 1 if the two forms of VarNet, which are the same for one coil, differ there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import fastmri.models
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Case, Run, compare, make_parser, read_options, report
from pipelines.runtime.shell import run_command
from recon.errors import InputError, check_choice
from recon.networks import MoDL, VarNet
from recon.physics import mri

THEIRS, IMAGE, KSPACE = "fastMRI's VarNet", "ours, image form", "ours, k-space form"
FORMS = {IMAGE: "image", KSPACE: "kspace"}


class Data(NamedTuple):
    """k-space of one random object, of ``size`` x ``size``; a third of the columns and 26 calibration lines."""

    size: int
    n_coils: int
    n_cascades: int
    seed: int
    device: torch.device

    def draw(self) -> tuple[Tensor, Tensor, Tensor]:
        """k-space ``(1, coil, size, size)``, mask ``(size,)`` and target ``(1, size, size)``."""
        generator = torch.Generator().manual_seed(self.seed)
        images = torch.randn(1, self.n_coils, self.size, self.size, dtype=torch.complex64, generator=generator)
        mask = torch.arange(self.size) % 4 == 0
        mask[self.size // 2 - self.size // 25 : self.size // 2 + self.size // 25] = True
        kspace = mri.apply_mask(mri.fft2c(images), mask)
        return kspace.to(self.device), mask.to(self.device), mri.rss(images, 1).to(self.device)


def theirs(data: Data) -> nn.Module:
    """fastMRI's, as it comes, of two real channels."""
    return fastmri.models.VarNet(num_cascades=data.n_cascades)


def reconstruct_theirs(network: nn.Module, kspace: Tensor, mask: Tensor) -> Tensor:
    magnitude: Tensor = network(torch.view_as_real(kspace), mask[None, None, None, :, None])
    return magnitude


def ours(data: Data, form: str) -> nn.Module:
    return VarNet(n_cascades=data.n_cascades, form=form, sampling="aps")
