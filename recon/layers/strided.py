"""Strided operations on the grid that the content chooses: max-pooling, and what stands around any other one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.errors import InputError, check_choice
from recon.kernels.pool import pool
from recon.kernels.switches import has_kernels
from recon.layers.lowpass import BinomialBlur
from recon.layers.padding import PADDING_MODES, circular_pad
from recon.layers.phases import Phase, align, check_multiples, decimate
from recon.layers.selectors import SCORE_ON, FixedPhase, MaxNorm, StridedOperation
from recon.layers.tracing import one_node

torch.fx.wrap("align")  # torch.fx records a call of each of these as one node; see recon.layers.tracing
torch.fx.wrap("decimate")
torch.fx.wrap("check_blurred_sizes")


def check_blurred_sizes(size: Sequence[int]) -> None:
    """Refuse to score a blurred image whose phases all tie.

    Raises:
        InputError: a side of 2 pixels.
    """
    if any(side <= 2 for side in size):
        raise InputError(
            "a side of 2 pixels is constant once it is blurred, and all its phases tie: use a larger image, "
            "blur 1, or score_on input"
        )


class PolyphaseSampling(nn.Module):
    """Align, run, blur and decimate: the parts of a sampling that are the same for every strided operation.

        x, phase = sampling.before(x)
        y = operation(x)  # with stride 1 if sampling.dense, with its own stride otherwise
        y, phase = sampling.after(y, phase)
        z = sampling.beside(x, phase)  # another branch on the same grid, if there is one

    A selector that scores the input chooses in ``before``, which aligns x; ``after`` hands the phase on. One that
    scores the output (the usual setting) chooses in ``after``, from the dense map, blurred if there is a low-pass:
    ``before`` does nothing then, and its phase None says that x has not been moved. It holds no state.

    Args:
        stride: the stride s >= 2.
        selector: FixedPhase, MaxNorm, or any module that obeys the selector law; None means FixedPhase.
        lowpass: BinomialBlur or None.
        pool_size: side of the window, if the operation is a max-pool.

    Raises:
        InputError: a stride below 2; a selector without ``score_on``, or one that cannot choose here.
    """

    def __init__(
        self,
        stride: int = 2,
        selector: nn.Module | None = None,
        lowpass: BinomialBlur | None = None,
        pool_size: int | None = None,
    ) -> None:
        super().__init__()
        if stride < 2:
            raise InputError(f"stride {stride} does not down-sample: choose 2 or more")
        self.stride, self.selector, self.lowpass = stride, selector or FixedPhase(), lowpass
        if getattr(self.selector, "score_on", None) not in SCORE_ON:
            name = type(self.selector).__name__
            raise InputError(f"the selector {name} does not say what it scores: set its score_on to output or input")
        check = getattr(self.selector, "check", None)
        if check is not None:
            check(StridedOperation(stride, self._blurs, pool_size))

    @property
    def _blurs(self) -> bool:
        return self.lowpass is not None and self.lowpass.size > 1

    @property
    def _scores_output(self) -> bool:
        return bool(self.selector.score_on == "output")

    @property
    def dense(self) -> bool:
        """Whether the operation must run with stride 1, because its dense output is blurred or scored."""
        return self.lowpass is not None or self._scores_output

    def before(self, x: Tensor) -> tuple[Tensor, Phase]:
        """Align the input if it is what the selector scores; else leave it as it is.

        Args:
            x: ``(batch, channel, *spatial)``.

        Returns:
            The input for the operation, the shape of ``x``, and the phase ``(batch,)`` by which it was aligned; None
            if it was not moved.
        """
        if self._scores_output:
            return x, None
        phase = self.selector(x, self.stride)
        return align(x, phase, self.stride), phase

    def after(self, y: Tensor, phase: Phase) -> tuple[Tensor, Phase]:
        """Blur and decimate the operation's output.

        Args:
            y: ``(batch, channel, *spatial)`` if ``dense``, else already strided (and returned as it is).
            phase: from :meth:`before`.

        Returns:
            ``(batch, channel, *spatial / stride)`` and the phase ``(batch,)`` or None.

        Raises:
            InputError: a blurred side of 2 pixels at stride 2 is to be scored: it is constant, a tie for any input.
        """
        if self._scores_output:
            if self._blurs and self.stride == 2:
                check_blurred_sizes(y.shape[2:])
            y = y if self.lowpass is None else self.lowpass(y)
            phase = self.selector(y, self.stride)
            return decimate(y, phase, self.stride), phase
        return (y if self.lowpass is None else self.lowpass(y, self.stride)), phase

    def beside(self, x: Tensor, phase: Phase) -> Tensor:
        """Take a branch that runs beside the operation onto the operation's grid.

        Args:
            x: ``(batch, channel, *spatial)``, what :meth:`before` returned.
            phase: from :meth:`after`.

        Returns:
            ``(batch, channel, *spatial / stride)``, blurred, if ``dense``; else x, for the branch to stride itself.
        """
        if not self.dense:
            return x
        still_to_move = phase if self._scores_output else None  # otherwise ``before`` has aligned x
        if self.lowpass is None:
            return decimate(x, still_to_move, self.stride)
        return self.lowpass(align(x, still_to_move, self.stride), self.stride)


class PolyphaseMaxPool(PolyphaseSampling):
    """Max-pooling with stride, on the grid that the selector chooses, after an optional low-pass.

    With P the stride-1 pooling and B the blur, the dense map is B(P(x)). By default the selector scores the output:
    it picks a component of the dense map, so that nothing has to be moved and ``align`` is not called. That equals
    aligning the input and striding, decimate(P(x), phase) = P_strided(align(x, phase)), which is what runs where the
    selector scores the input. Both are equally equivariant: shifting x by t shifts the output by
    floor((t + r) / stride), and the phase takes the rest. FixedPhase and no blur is ``nn.MaxPool`` itself.

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
        InputError: a stride below 2, another padding mode, or a selector that cannot choose here: see
            :meth:`MaxNorm.check`.
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
        super().__init__(stride, selector, lowpass, pool_size=kernel_size or stride)
        check_choice("padding", padding_mode, PADDING_MODES)
        self.spatial_dims, self.padding, self.padding_mode = spatial_dims, padding, padding_mode
        self.kernel_size = kernel_size or stride

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
        self._check_size(x.shape[2:])
        if self._has_kernel(x):
            pooled, phase, _ = pool(x)  # the same in fewer passes
            return pooled, phase
        x, phase = self.before(x)
        y = self._maximum(x, 1 if self.dense else self.stride)
        return self.after(y, phase)

    def _check_size(self, size: Sequence[int]) -> None:
        if self.padding_mode == "circular" or not isinstance(self.selector, FixedPhase):
            check_multiples(tuple(size), self.stride)
        if self._scores_output and any(side <= self.kernel_size for side in size):
            raise InputError(
                f"an image side of {min(size)} pixels pools to one, whose maximum stands in every phase (a tie "
                "for any input): use a larger image, fewer levels, or score_on input"
            )

    def _has_kernel(self, x: Tensor) -> bool:
        """Whether there is a kernel for this pool, the papers' one, and no hook on the selector, which it skips."""
        selector, settings = self.selector, (self.kernel_size, self.stride, self.padding, self.padding_mode)
        if settings != (2, 2, 0, "circular") or self.lowpass is not None or type(selector) is not MaxNorm:
            return False
        papers = (selector.criterion, selector.score_on) == ("l2", "output")
        return papers and not selector._forward_hooks and has_kernels(x)

    def _maximum(self, x: Tensor, stride: int) -> Tensor:
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
