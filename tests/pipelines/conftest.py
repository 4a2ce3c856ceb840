"""A module of networks as a user may have them in the working folder."""

from __future__ import annotations

import sys

import pytest

MODULE = '''
import torch
from torch import nn


class Small(nn.Module):
    """Strided, and so not equivariant."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(width, 1, 2, stride=2)

    def forward(self, x):
        return x + self.up(self.down(x).relu())


class OfKspace(Small):
    def forward(self, kspace, mask):
        image = torch.fft.fftshift(torch.fft.ifft2(torch.fft.ifftshift(kspace, dim=(-2, -1)), norm="ortho"), (-2, -1))
        return super().forward(image.abs())[:, 0]


class OfSinogram(Small):
    def forward(self, sinogram, geometry, image):
        return super().forward(image)


class Half(Small):
    def forward(self, x):
        return super().forward(x)[..., ::2, ::2]


class Pair(Small):
    def forward(self, x):
        return x, x


class TwoInputs(Small):
    def forward(self, x, y):
        return x


number = 3


def unannotated():
    raise RuntimeError("never called")


def by_name(width: int) -> "nn.Module":
    return Small(width)


def no_network() -> nn.Module:
    return 3
'''


@pytest.fixture
def mine(here, monkeypatch):
    """A working folder with a module of the user's."""
    (here / "mine.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield here
    sys.modules.pop("mine", None)
