"""Truly shift-equivariant image reconstruction: align, run, restore.

- :mod:`recon.layers`: polyphase components, selectors, blur, circular padding, pooling
- :mod:`recon.networks`: U-Nets, ResNets, unrolled networks with the measurement inside
- :mod:`recon.physics`: the MRI and the CT measurement
- :mod:`recon.metrics`: image quality and shift equivariance

Tensors in, tensors out: no file, no command line, no training loop.
"""

from recon.errors import InputError
from recon.layers import BinomialBlur, FixedPhase, MaxNorm, PolyphaseMaxPool, align, restore, set_padding_mode
from recon.metrics import equivariance, nmse, psnr, ssim
from recon.networks import AliasFreeUNet, Centred, MoDL, ResNet, UNet, VarNet

__version__ = "0.1.0"

__all__ = [
    "AliasFreeUNet",
    "BinomialBlur",
    "Centred",
    "FixedPhase",
    "InputError",
    "MaxNorm",
    "MoDL",
    "PolyphaseMaxPool",
    "ResNet",
    "UNet",
    "VarNet",
    "align",
    "equivariance",
    "nmse",
    "psnr",
    "restore",
    "set_padding_mode",
    "ssim",
]
