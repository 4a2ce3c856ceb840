"""U-Nets on MONAI's blocks: plain, anti-aliased, and truly shift equivariant, with one state dict.

Read ``UNet._level_by_layers``: it is all there is to the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from monai.networks.blocks import UpSample
from monai.networks.layers.factories import Conv
from monai.networks.nets.basic_unet import TwoConv
from torch import Tensor, nn

from recon.errors import InputError, check_choice
from recon.layers import (
    BinomialBlur,
    PolyphaseMaxPool,
    check_multiples,
    restore,
    set_padding_mode,
)
from recon.networks import fused
from recon.networks.sampling import Settings, make_selector_and_lowpass, resolve_blur

NORMS: dict[str, Any] = {"batch": "batch", "instance": ("instance", {"affine": True})}
ACTIVATIONS: dict[str, Any] = {
    "relu": ("relu", {"inplace": True}),
    "leakyrelu": ("leakyrelu", {"negative_slope": 0.1, "inplace": True}),
}
UP_PATHS = ("aligned", "published")


class UNet(nn.Module):
    """A U-Net with `len(widths) - 1` levels: two convolutions, max-pool down; transposed convolution, skip, two up.

    Each level's pool chooses a phase, and the same level's way up restores it; with a blur, the pool blurs on the way
    down and the transposed convolution is blurred on the way up. That is the whole difference between the variants:
    stride chooses nothing and does not blur, lpf blurs, aps chooses and may blur. None of it has parameters, so all of
    them share one state dict, and weights move freely between them. lps chooses by a small network, whose parameters
    it has beside those (``pools.<level>.selector.*``): weights of the others load into it with ``strict=False``, and
    its score starts untrained.
    With ``sampling="aps"`` or "lps", circular padding and eval mode, f(T x) = T f(x) for every circular shift T.

    Args:
        spatial_dims: 1, 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        widths: channels of each level, from the image down; the paper's are 64, 128, 256, 512, 1024.
        norm: "batch" or "instance" (affine, as in MONAI's BasicUNet).
        activation: "relu" or "leakyrelu" (slope 0.1).
        sampling: "stride" (plain), "lpf" (blurred max-pool), "aps" (adaptive polyphase sampling) or "lps" (learned
            polyphase sampling, :class:`recon.layers.LearnedScore`).
        blur: size of the binomial blur: 1, which is none, for stride; 2 to 7 for lpf (by default 3); 1 to 7 for aps
            and lps (by default 1).
        padding: "circular" (needed for exact equivariance) or "zeros".
        stride: the stride of each level.
        criterion: what aps maximises: l1, l2, linf or l1_min, l2_min, linf_min. Like ``score_on`` it is for aps
            without a ``selector`` of yours; elsewhere, another one than the default is refused.
        score_on: where aps and lps score: "output" of the dense pool (the papers' choice) or its "input".
        residual: add the input to the output, f(x) = x + net(x).
        dropout: probability of dropout after each convolution.
        selector: chooses the phases of aps in the place of ``MaxNorm(criterion, score_on)``: any module
            ``selector(x, stride) -> phase`` that obeys the selector law; each level gets a copy of its own.
        up_path: "aligned" (not the papers' equations), or "published", which is them; both are as equivariant. In one
            dimension, with stride 2 and phase 0, output n of the pool is the maximum of the pixels 2n and 2n + 1. The
            way up spreads value n over those two pixels again if aligned, and over 2n - 1 and 2n if published:
            ``stride - 1`` pixels earlier. A blur of even size moves the image by half a pixel: aligned, the way up
            blurs with the mirrored filter, which moves it back; published, with the same one once more.
        temperature: of the gradient of lps in training; elsewhere, another one than the default is refused.

    Raises:
        InputError: settings that cannot work together; see :func:`make_selector_and_lowpass` and
            :class:`PolyphaseMaxPool`.

    Source: arXiv 2105.04040, section 4; MONAI's BasicUNet.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        norm: str = "batch",
        activation: str = "relu",
        sampling: str = "aps",
        blur: int | None = None,
        padding: str = "circular",
        stride: int = 2,
        criterion: str = "l2",
        score_on: str = "output",
        residual: bool = False,
        dropout: float = 0.0,
        selector: nn.Module | None = None,
        up_path: str = "aligned",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        size = resolve_blur(sampling, blur)
        check_choice("norm", norm, NORMS)
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("up_path", up_path, UP_PATHS)
        if len(widths) < 2:
            raise InputError(f"widths {list(widths)} make no U-Net: give at least two levels")
        if min(widths) < 1:
            raise InputError(f"widths {list(widths)} hold a level without channels: give 1 or more")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout {dropout} is no probability below 1: give 0 to 0.99")
        if residual and in_channels != out_channels:
            raise InputError(f"residual needs as many out_channels ({out_channels}) as in_channels ({in_channels})")
        self.stride, self.n_levels, self.residual = stride, len(widths) - 1, residual
        self.up_offset = 0 if up_path == "aligned" else 1 - stride  # by how many pixels the way up moves the image

        def convolutions(n_in: int, n_out: int) -> TwoConv:
            return TwoConv(spatial_dims, n_in, n_out, ACTIVATIONS[activation], NORMS[norm], True, dropout)

        settings = Settings(criterion, score_on, temperature, selector)

        def pool(n: int) -> PolyphaseMaxPool:
            own, lowpass = make_selector_and_lowpass(sampling, blur, settings, (n, n), spatial_dims)
            return PolyphaseMaxPool(spatial_dims, stride, selector=own, lowpass=lowpass)

        self.lowpass = BinomialBlur(size, mirrored=up_path == "aligned") if size > 1 else nn.Identity()
        pairs = list(pairwise(widths))
        self.encoders = nn.ModuleList(
            [convolutions(in_channels, widths[0]), *(convolutions(fine, coarse) for fine, coarse in pairs)]
        )
        self.pools = nn.ModuleList(pool(fine) for fine, _ in pairs)
        self.ups = nn.ModuleList(UpSample(spatial_dims, coarse, fine, stride) for fine, coarse in pairs)
        self.decoders = nn.ModuleList(convolutions(2 * fine, fine) for fine, _ in pairs)
        self.head = Conv[Conv.CONV, spatial_dims](widths[0], out_channels, kernel_size=1)
        set_padding_mode(self, padding)

    @property
    def total_stride(self) -> int:
        """The product of the strides; each side of the input must be a multiple of it."""
        return self.stride**self.n_levels

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            x: ``(batch, in_channels, *spatial)``, each side a multiple of ``total_stride``.

        Returns:
            ``(batch, out_channels, *spatial)``.

        Raises:
            InputError: a side is not a multiple of the total stride.
        """
        check_multiples(x.shape[2:], self.total_stride)
        y = self.head(self._level(0, x))
        return x + y if self.residual else y

    def _level(self, level: int, x: Tensor) -> Tensor:
        """One level and all that are coarser, in fewer passes over memory where kernels can do it."""
        if fused.can_run(self, level, x):
            return fused.run(self, level, x)
        return self._level_by_layers(level, x)

    def _level_by_layers(self, level: int, x: Tensor) -> Tensor:
        """One level and all that are coarser: pool at a phase, run the coarser ones, go up and restore that phase.

        This is the definition of the network, and the form to read; ``fused`` computes the same. The pool takes the
        phase from its dense map, which equals aligning first (:class:`recon.layers.PolyphaseMaxPool`).
        """
        fine: Tensor = self.encoders[level](x)
        if level == self.n_levels:
            return fine
        coarse, phase = self.pools[level](fine)
        coarse = self._level(level + 1, coarse)
        up = restore(self._up(level, coarse), phase, self.stride)
        result: Tensor = self.decoders[level](torch.cat([fine, up], dim=1))
        return result

    def _up(self, level: int, coarse: Tensor) -> Tensor:
        """The transposed convolution and the blur, if any; the published way up moves the result by some pixels."""
        up: Tensor = self.lowpass(self.ups[level](coarse))
        if self.up_offset:
            axes = tuple(range(2, up.dim()))
            up = up.roll([self.up_offset] * len(axes), axes)
        return up
