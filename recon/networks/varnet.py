"""The variational network: the measurement inside, and still exactly equivariant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.errors import InputError, check_choice
from recon.networks.complex_images import (
    ComplexUNet,
    maps_estimate,
    measurement,
    smooth_phase,
    start_small,
    total_stride,
)
from recon.physics.mri import FourierOperator, ifft2c

FORMS = ("image", "kspace")


class VarNet(nn.Module):
    """Unrolled gradient descent whose regularisers are U-Nets; k-space of one or several coils to a complex image.

    In image form x_0 = A^H y and x <- x - eta_t A^H (A x - y) - R_t(x), with the measurement A = M F S (mask, Fourier
    transform, coil maps). In k-space form, that of E2E-VarNet, k_0 = y, k <- k - eta_t M (k - y) - F S R_t(S^H F^-1 k),
    and the image is S^H F^-1 k. For one coil without maps both are the same.

    With phase correction the image's smooth phase P is read from the calibration lines (``image_phase``; for alias_free
    ``band_limited_phase``), and R_t(x) is P R'_t(conj(P) x), so that all U-Nets see a nearly real image.

    A movement of the object before the acquisition multiplies k-space by a ramp, which commutes with every step but
    R_t. With sampling aps, circular padding and eval mode R_t commutes with movements by whole pixels, and so does the
    whole: f(T k) = T f(k), for several coils where they move along with the object. With sampling alias_free and one
    coil the same holds for every real translation.

    Args:
        n_cascades: steps, each with weights of its own.
        widths: channels of each level of the regularisers, from the image down.
        maps_widths: the same of the network that estimates the coil maps; None for one coil.
        maps: where those of several coils come from: "learned", by that network; "espirit", without training
            (:func:`recon.physics.coil_maps.espirit`); or "given", with k-space.
        form: "image" or "kspace".
        phase_correction: whether.
        save_memory: compute each cascade, and the maps coil by coil, again in the backward pass instead of keeping what
            they hold.
        settings: sampling (stride, lpf, aps, lps or alias_free) and more of all the U-Nets; norm is instance and
            activation leakyrelu unless given.

    Raises:
        InputError: fewer than one cascade, an unknown form, unknown maps, batch norm with save_memory, or
            what the U-Net refuses.

    Source: Sriram et al., End-to-end variational networks, MICCAI 2020, arXiv 2004.06688; the image form: Hammernik
    et al., Magnetic Resonance in Medicine 79 (2018).
    """

    def __init__(
        self,
        n_cascades: int = 12,
        widths: Sequence[int] = (18, 36, 72, 144, 288),
        maps_widths: Sequence[int] | None = (8, 16, 32, 64, 128),
        maps: str = "learned",
        form: str = "image",
        phase_correction: bool = True,
        save_memory: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__()
        if n_cascades < 1:
            raise InputError(f"n_cascades {n_cascades} leave nothing to unroll: give 1 or more")
        check_choice("form", form, FORMS)
        if save_memory and settings.get("norm") == "batch":
            raise InputError("save_memory runs each norm twice, which norm batch would count twice: take norm instance")
        self.form, self.save_memory = form, save_memory
        self.phase_correction, self.band_limited = phase_correction, settings.get("sampling") == "alias_free"
        correction = phase_correction or self.band_limited
        unets = (
            ComplexUNet(widths=widths, jointly=phase_correction, correction=correction, **settings)
            for _ in range(n_cascades)
        )
        self.regularisers = start_small(nn.ModuleList(unets))
        self.steps = nn.Parameter(torch.ones(n_cascades))
        self.coil_maps = maps_estimate(maps, maps_widths, settings, save_memory)

    @property
    def total_stride(self) -> int:
        """Of the U-Nets: each side of k-space must be a multiple of it."""
        return total_stride(self)

    def forward(self, kspace: Tensor, mask: Tensor, maps: Tensor | None = None) -> Tensor:
        """Reconstruct.

        Args:
            kspace: complex ``(batch, coil, rows, columns)``, 0 where it was not measured; rows and columns are
                multiples of the U-Nets' total stride.
            mask: bool ``(columns,)`` or ``(batch, columns)``.
            maps: complex ``(coil, rows, columns)`` or ``(batch, coil, rows, columns)``; None to estimate those of
                several coils from the calibration lines. They have root sum of squares 1.

        Returns:
            The complex image ``(batch, rows, columns)``.

        Raises:
            InputError: a side does not fit, or there are neither maps nor calibration lines.
        """
        operator = measurement(kspace, mask, maps, self.coil_maps)
        phase = smooth_phase(kspace, operator, self.band_limited) if self.phase_correction else None
        state = self.unroll(kspace, operator, phase)
        return state if self.form == "image" else operator.combine(state)

    def unroll(self, kspace: Tensor, operator: FourierOperator, phase: Tensor | None = None) -> Tensor:
        """All cascades: the image ``(batch, rows, columns)`` or, in k-space form, ``(batch, coil, rows, columns)``.

        In k-space form the state is k-space along the columns only, in the order of torch.fft. The mask is one of
        columns, so that all steps commute with the transform along the rows: it is needed at the start only.
        """
        step = self._image_step if self.form == "image" else self._kspace_step
        start = operator.adjoint(kspace) if self.form == "image" else torch.fft.fft(ifft2c(kspace))
        state = start
        for eta, regulariser in zip(self.steps, self.regularisers, strict=True):
            if self.save_memory and torch.is_grad_enabled():
                state = checkpoint(step, state, start, operator, eta, regulariser, phase, use_reentrant=False)
            else:
                state = step(state, start, operator, eta, regulariser, phase)
        return state if self.form == "image" else torch.fft.ifft(state)

    @staticmethod
    def _image_step(
        x: Tensor, start: Tensor, operator: FourierOperator, eta: Tensor, regulariser: nn.Module, phase: Tensor | None
    ) -> Tensor:
        return x - eta * (operator.normal(x) - start) - regulariser(x, phase)

    @staticmethod
    def _kspace_step(
        k: Tensor, y: Tensor, operator: FourierOperator, eta: Tensor, regulariser: nn.Module, phase: Tensor | None
    ) -> Tensor:
        prior = torch.fft.fft(operator.expand(regulariser(operator.combine(torch.fft.ifft(k)), phase)))
        return k.lerp(y, (eta * operator.frequencies).to(k.dtype)) - prior  # lerp: k - eta M (k - y)
