"""The sections in their order, by name; the shares of the time are seconds of 520."""

from __future__ import annotations

from benchmarks.gpu import checks, speed
from benchmarks.gpu.table import Section

SECTIONS = {
    "forms": Section("Forms of the device, against plain torch on the CPU", 70, checks.device_forms),
    "kernels": Section("Kernels, against plain torch on the device", 60, checks.kernels),
    "exact_unets": Section("Exactness of U-Nets", 75, checks.exact_unets),
    "exact_resnets": Section("Exactness of ResNets", 40, checks.exact_resnets),
    "autocast": Section("Autocast", 25, checks.autocast),
    "waits": Section("Waits of the host for the device", 20, checks.waits),
    "kernel_speed": Section("Speed of the kernels", 35, speed.kernel_speed),
    "layers": Section("Speed of the layers", 45, speed.layer_speed),
    "unets": Section("Speed of the U-Nets", 75, speed.unet_speed),
    "resnets": Section("Speed of the ResNets", 25, speed.resnet_speed),
    "compiled": Section("torch.compile", 50, speed.compiled),
}
AGREEMENT = ("forms", "kernels", "kernel_speed", "layers", "unets")
"""What must be without a fault before Triton can be the default."""
