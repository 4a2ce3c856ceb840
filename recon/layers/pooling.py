"""Max-pooling that says which polyphase component it kept."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import InputError
from recon.layers.lowpass import BinomialBlur
from recon.layers.padding import circular_pad
from recon.layers.phases import Phase, align, check_sizes, decimate
from recon.layers.selectors import FixedPhase, MaxNorm


class PolyphaseMaxPool(nn.Module):
    """Circular max-pooling with stride, on the grid that the selector chooses, after an optional low-pass.

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
    ) -> None:
        super().__init__()
        if stride < 2:
            raise InputError(f"stride {stride} does not down-sample: choose 2 or more")
        self.spatial_dims, self.stride, self.padding = spatial_dims, stride, padding
        self.kernel_size = kernel_size or stride
        self.selector = selector or FixedPhase()
        self.lowpass = lowpass
        if isinstance(self.selector, MaxNorm) and self.selector.score_on == "output":
            self._refuse_ties(self.selector.criterion.removesuffix("_min"))

    def _refuse_ties(self, norm: str) -> None:
        """Refuse scores of the dense output that are equal in all phases for any (linf) or any positive (l1) input."""
        blurred = self.lowpass is not None and self.lowpass.size > 1
        if norm == "linf" and not blurred and self.kernel_size >= self.stride:
            raise InputError(
                "linf cannot choose a phase of a max-pooled image, whose maximum stands in all of them: "
                "use criterion l2 or l1, or score_on input"
            )
        if norm == "l1" and blurred and self.stride == 2:
            raise InputError(
                "l1 cannot choose a phase of a blurred image: the blur removes the frequency by which the sums of "
                "positive values differ; use criterion l2, or score_on input"
            )

    def forward(self, x: Tensor) -> tuple[Tensor, Phase]:
        """Pool.

        Args:
            x: ``(batch, channel, *spatial)``.

        Returns:
            The pooled image ``(batch, channel, *spatial / stride)`` and its phase ``(batch,)`` or None.

        Raises:
            InputError: a side is not a multiple of the stride; or the output is scored and pools to one pixel.
        """
        check_sizes(x.shape[2:], self.stride)
        if self.selector.score_on == "input":
            phase = self.selector(x, self.stride)
            x = align(x, phase, self.stride)
            if self.lowpass is None:
                return self._pool(x, self.stride), phase
            return self.lowpass(self._pool(x, 1), self.stride), phase
        if min(x.shape[2:]) <= self.kernel_size:
            raise InputError(
                f"an image side of {min(x.shape[2:])} pixels pools to one, whose maximum stands in every phase (a tie "
                "for any input): use a larger image, fewer levels, or score_on input"
            )
        dense = self._pool(x, 1)
        if self.lowpass is not None:
            dense = self.lowpass(dense)
        phase = self.selector(dense, self.stride)
        return decimate(dense, phase, self.stride), phase

    def _pool(self, x: Tensor, stride: int) -> Tensor:
        d, k = self.spatial_dims, self.kernel_size
        if stride == k and self.padding == 0:
            return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[d - 1](x, k)
        x = circular_pad(x, [(self.padding, k - 1 - self.padding)] * d)
        if k == 2 and stride == 1:
            for axis in range(2, 2 + d):
                n = x.shape[axis] - 1
                x = torch.maximum(x.narrow(axis, 0, n), x.narrow(axis, 1, n))
            return x
        return (F.max_pool1d, F.max_pool2d, F.max_pool3d)[d - 1](x, k, stride)

    def extra_repr(self) -> str:
        """The settings, for print."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
