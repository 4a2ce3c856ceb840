"""Truly shift-equivariant image reconstruction: align, run, restore.

A strided operation looks at every second pixel, say, and so at others when the image moves. Here the content chooses
which ones: the image is aligned to them, the ordinary operation runs, and what goes up again is restored to its place.
From the top down, each room using those below it:

- :mod:`recon.networks`: U-Nets, ResNets, unrolled networks with the measurement inside; the idea is
  ``UNet._level_by_layers`` in ``unet.py``
- :mod:`recon.metrics`: image quality and shift equivariance, as functions and as torchmetrics classes
- :mod:`recon.physics`: the MRI and the CT measurement
- :mod:`recon.layers`: ``phases`` (align, restore), ``selectors``, ``strided`` (pooling, and why it need not align),
  blur, circular padding
- :mod:`recon.kernels`: compiled loops for what is slow in torch itself; nothing needs them, README.md explains them
- :mod:`recon.errors`: what a user is told about input that cannot work

Tensors in, tensors out: no file, no command line, no training loop.
"""

from recon.errors import InputError
from recon.layers import (
    BinomialBlur,
    FixedPhase,
    LearnedScore,
    MaxNorm,
    PolyphaseMaxPool,
    align,
    restore,
    set_padding_mode,
)
from recon.metrics import equivariance, nmse, psnr, ssim
from recon.networks import AliasFreeUNet, Centred, MoDL, ResNet, UNet, VarNet, ZeroFilledUNet, make_equivariant

__version__ = "0.1.0"

__all__ = [
    "AliasFreeUNet",
    "BinomialBlur",
    "Centred",
    "FixedPhase",
    "InputError",
    "LearnedScore",
    "MaxNorm",
    "MoDL",
    "PolyphaseMaxPool",
    "ResNet",
    "UNet",
    "VarNet",
    "ZeroFilledUNet",
    "align",
    "equivariance",
    "make_equivariant",
    "nmse",
    "psnr",
    "restore",
    "set_padding_mode",
    "ssim",
]
