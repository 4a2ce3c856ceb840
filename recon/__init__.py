"""Truly shift-equivariant image reconstruction: align, run, restore.

- :mod:`recon.layers`: polyphase components, selectors, blur, circular padding, pooling
- :mod:`recon.networks`: U-Nets and ResNets
- :mod:`recon.physics`: the MRI and the CT measurement
- :mod:`recon.metrics`: image quality and shift equivariance

Tensors in, tensors out: no file, no command line, no training loop.
"""

from recon.errors import InputError
from recon.layers import BinomialBlur, FixedPhase, MaxNorm, PolyphaseMaxPool, align, restore, set_padding_mode
from recon.metrics import equivariance, nmse, psnr, ssim
from recon.networks import ResNet, UNet

__version__ = "0.1.0"

__all__ = [
    "BinomialBlur",
    "FixedPhase",
    "InputError",
    "MaxNorm",
    "PolyphaseMaxPool",
    "ResNet",
    "UNet",
    "align",
    "equivariance",
    "nmse",
    "psnr",
    "restore",
    "set_padding_mode",
    "ssim",
]
