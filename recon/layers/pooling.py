"""Max-pooling that says which polyphase component it kept."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import InputError, check_choice
from recon.kernels.pool import pool
from recon.kernels.switches import has_kernels
from recon.layers.lowpass import BinomialBlur
from recon.layers.padding import PADDING_MODES, circular_pad
from recon.layers.phases import Phase, check_sizes
from recon.layers.sampling import PolyphaseSampling
from recon.layers.selectors import FixedPhase, MaxNorm
from recon.layers.tracing import one_node


class PolyphaseMaxPool(PolyphaseSampling):
    """Max-pooling with stride, on the grid that the selector chooses, after an optional low-pass.

    With P the stride-1 pooling and B the blur, the dense map is B(P(x)). A selector that scores the output picks a
    component of it; one that scores the input aligns x first and runs the strided operation. Both are equally
    equivariant: shifting x by t shifts the output by floor((t + r) / stride), and the phase takes the rest.
    FixedPhase and no blur is ``nn.MaxPool`` itself.

    Args:
        spatial_dims: 1, 2 or 3.
        stride: the stride s >= 2.
        kernel_size: of the window; None means ``stride``.
        padding: pixels on each side of the window grid (0 for a 2x2/2 pool, 1 for a 3x3/2 pool).
        selector: FixedPhase, MaxNorm, or any module that obeys the selector law.
        lowpass: BinomialBlur or None.
        padding_mode: "circular" (needed for exact equivariance), or "zeros" for ``nn.MaxPool``'s, under which nothing
            outside of the image counts.

    Raises:
        InputError: scores of the output that tie: linf of a dense max-pool, whose maximum stands in every component;
            l1 of a blurred one at stride 2, whose components have equal sums where it is positive.
    """

    def __init__(
        self,
        spatial_dims: int,
        stride: int = 2,
        kernel_size: int | None = None,
        padding: int = 0,
        selector: nn.Module | None = None,
        lowpass: BinomialBlur | None = None,
        padding_mode: str = "circular",
    ) -> None:
        super().__init__(stride, selector, lowpass)
        check_choice("padding", padding_mode, PADDING_MODES)
        self.spatial_dims, self.padding, self.padding_mode = spatial_dims, padding, padding_mode
        self.kernel_size = kernel_size or stride
        criterion = self.selector.criterion if isinstance(self.selector, MaxNorm) else ""
        scores_output = self.selector.score_on == "output" and not self._blurs
        if criterion.startswith("linf") and scores_output and self.kernel_size >= stride:
            raise InputError(
                "linf cannot choose a phase of a max-pooled image, whose maximum stands in all of them: "
                "use criterion l2 or l1, or score_on input"
            )

    @one_node
    def forward(self, x: Tensor) -> tuple[Tensor, Phase]:
        """Pool.

        Args:
            x: ``(batch, channel, *spatial)``.

        Returns:
            The pooled image ``(batch, channel, *spatial / stride)`` and its phase ``(batch,)`` or None.

        Raises:
            InputError: a side is not a multiple of the stride (unless the padding is zeros and the phase fixed); or the
                output is scored and pools to one pixel.
        """
        if self.padding_mode == "circular" or not isinstance(self.selector, FixedPhase):
            check_sizes(x.shape[2:], self.stride)
        if self.selector.score_on == "output" and any(side <= self.kernel_size for side in x.shape[2:]):
            raise InputError(
                f"an image side of {min(x.shape[2:])} pixels pools to one, whose maximum stands in every phase (a tie "
                "for any input): use a larger image, fewer levels, or score_on input"
            )
        if self._has_kernel(x):
            pooled, phase, _ = pool(x)
            return pooled, phase
        x, phase = self.before(x)
        return self.after(self._pool(x, 1 if self.dense else self.stride), phase)

    def _has_kernel(self, x: Tensor) -> bool:
        """Whether a kernel does the same: the papers' pool, its selector watched by nobody."""
        selector, settings = self.selector, (self.kernel_size, self.stride, self.padding, self.padding_mode)
        if settings != (2, 2, 0, "circular") or self.lowpass is not None or type(selector) is not MaxNorm:
            return False
        papers = (selector.criterion, selector.score_on) == ("l2", "output")
        return papers and not selector._forward_hooks and has_kernels(x)

    def _pool(self, x: Tensor, stride: int) -> Tensor:
        d, k = self.spatial_dims, self.kernel_size
        if stride == k and self.padding == 0:
            return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[d - 1](x, k)
        left, right = self.padding, k - 1 - self.padding
        if self.padding_mode == "circular":
            x = circular_pad(x, [(left, right)] * d)
        else:
            x = F.pad(x, [left, right] * d, value=float("-inf"))
        if k == 2 and stride == 1:
            for axis in range(2, 2 + d):
                n = x.shape[axis] - 1
                x = torch.maximum(x.narrow(axis, 0, n), x.narrow(axis, 1, n))
            return x
        return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[d - 1](x, k, stride)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
