"""Layers: what moves a tensor and has a shape law. Tensors are ``(batch, channel, *spatial)`` throughout."""

from recon.kernels.switches import use_kernels
from recon.layers.lowpass import BinomialBlur
from recon.layers.normalisation import can_fuse, normalise_activate
from recon.layers.padding import circular_pad, is_circular, is_plain, set_padding_mode
from recon.layers.phases import (
    align,
    check_sizes,
    circular_shift,
    decimate,
    merge_phases,
    phase_offsets,
    restore,
    split_phases,
)
from recon.layers.pooling import PolyphaseMaxPool
from recon.layers.sampling import PolyphaseSampling
from recon.layers.selectors import FixedPhase, MaxNorm, phase_margin
from recon.layers.tracing import one_node

__all__ = [
    "BinomialBlur",
    "FixedPhase",
    "MaxNorm",
    "PolyphaseMaxPool",
    "PolyphaseSampling",
    "align",
    "can_fuse",
    "check_sizes",
    "circular_pad",
    "circular_shift",
    "decimate",
    "is_circular",
    "is_plain",
    "merge_phases",
    "normalise_activate",
    "one_node",
    "phase_margin",
    "phase_offsets",
    "restore",
    "set_padding_mode",
    "split_phases",
    "use_kernels",
]
