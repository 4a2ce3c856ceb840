"""Layers: what moves a tensor and has a shape law. Tensors are ``(batch, channel, *spatial)`` throughout.

- ``phases``: polyphase components; align, restore and decimate
- ``selectors``: which component each sample keeps, and by which margin; ``learned_score``: one that is trained
- ``strided``: max-pooling on that component's grid, why that need not align, and what
  stands around any other strided operation
- ``lowpass``, ``padding``, ``normalisation``: the blur, circular padding, normalisation and activation in one pass
- ``spectrum``: band-limited signals; ``tracing``: for torch.fx
"""

from recon.kernels.switches import use_kernels
from recon.layers.learned_score import LearnedScore
from recon.layers.lowpass import BinomialBlur
from recon.layers.normalisation import can_fuse, normalise_activate
from recon.layers.padding import circular_pad, is_circular, is_unmodified, set_padding_mode
from recon.layers.phases import (
    align,
    check_multiples,
    circular_shift,
    decimate,
    is_weighted,
    merge_phases,
    phase_offsets,
    restore,
    split_phases,
)
from recon.layers.selectors import FixedPhase, MaxNorm, Selector, StridedOperation, phase_margin, record_margins
from recon.layers.strided import PolyphaseMaxPool, PolyphaseSampling
from recon.layers.tracing import one_node

__all__ = [
    "BinomialBlur",
    "FixedPhase",
    "LearnedScore",
    "MaxNorm",
    "PolyphaseMaxPool",
    "PolyphaseSampling",
    "Selector",
    "StridedOperation",
    "align",
    "can_fuse",
    "check_multiples",
    "circular_pad",
    "circular_shift",
    "decimate",
    "is_circular",
    "is_unmodified",
    "is_weighted",
    "merge_phases",
    "normalise_activate",
    "one_node",
    "phase_margin",
    "phase_offsets",
    "record_margins",
    "restore",
    "set_padding_mode",
    "split_phases",
    "use_kernels",
]
