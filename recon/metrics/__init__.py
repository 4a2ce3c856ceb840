"""Image quality, shift equivariance and answers under shifts: functions, and their torchmetrics classes."""

from recon.metrics.classification import Answers, logit_change, same_answer
from recon.metrics.collect import NMSE, PSNR, SSIM, Equivariance
from recon.metrics.equivariance import EquivarianceError, draw_shifts, equals_own_shift, equivariance
from recon.metrics.quality import nmse, psnr, ssim

__all__ = [
    "NMSE",
    "PSNR",
    "SSIM",
    "Answers",
    "Equivariance",
    "EquivarianceError",
    "draw_shifts",
    "equals_own_shift",
    "equivariance",
    "logit_change",
    "nmse",
    "psnr",
    "same_answer",
    "ssim",
]
