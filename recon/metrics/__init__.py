"""Image quality and shift equivariance: functions of two stacks of images, and their torchmetrics classes."""

from recon.metrics.collect import NMSE, PSNR, SSIM, Equivariance
from recon.metrics.equivariance import EquivarianceError, draw_shifts, equals_own_shift, equivariance
from recon.metrics.quality import nmse, psnr, ssim

__all__ = [
    "NMSE",
    "PSNR",
    "SSIM",
    "Equivariance",
    "EquivarianceError",
    "draw_shifts",
    "equals_own_shift",
    "equivariance",
    "nmse",
    "psnr",
    "ssim",
]
