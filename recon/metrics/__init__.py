"""Image quality, shift equivariance and answers under shifts: functions, and their torchmetrics classes."""

from recon.metrics.classification import ShiftConsistency, logit_change, same_class
from recon.metrics.collect import NMSE, PSNR, SSIM, Equivariance
from recon.metrics.equivariance import EquivarianceError, draw_shifts, equals_own_shift, equivariance
from recon.metrics.quality import nmse, psnr, ssim

__all__ = [
    "NMSE",
    "PSNR",
    "SSIM",
    "Equivariance",
    "EquivarianceError",
    "ShiftConsistency",
    "draw_shifts",
    "equals_own_shift",
    "equivariance",
    "logit_change",
    "nmse",
    "psnr",
    "same_class",
    "ssim",
]
