"""One U-Net on the complex zero-filled image: the plainest network that starts from the measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from recon.networks.complex_images import (
    ComplexUNet,
    maps_estimate,
    measurement,
    smooth_phase,
    start_small,
    total_stride,
)


class ZeroFilledUNet(nn.Module):
    """f(y) = U(A^H y): the zero-filled image, complex, through one U-Net; k-space to a complex image.

    A = M F S: coil maps, centred Fourier transform, mask. The magnitude is for the caller to take, last of all. A^H
    commutes with every movement of the object before the acquisition, so f commutes with those that U commutes with: by
    whole pixels with sampling aps, circular padding and eval mode; by any real number of them with alias_free, where
    the Nyquist frequency is left out. Of several coils as :class:`recon.networks.VarNet`.

    Args:
        widths: channels of each level of the U-Net, from the image down.
        maps_widths: the same of the network that estimates the coil maps; None for one coil.
        maps: where those of several coils come from: see :class:`recon.networks.VarNet`.
        residual: add the zero-filled image to the U-Net's output.
        phase_correction: see :class:`recon.networks.VarNet`.
        settings: sampling (stride, lpf, aps, lps or alias_free) and more of the U-Nets: see
            :class:`recon.networks.ComplexUNet`.

    Raises:
        InputError: what the U-Net refuses.

    Source: Hyun et al., Physics in Medicine and Biology 63 (2018), a U-Net on zero-filled images.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256),
        maps_widths: Sequence[int] | None = (8, 16, 32, 64, 128),
        maps: str = "learned",
        residual: bool = True,
        phase_correction: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.residual, self.phase_correction = residual, phase_correction
        self.band_limited = settings.get("sampling") == "alias_free"
        unet = ComplexUNet(widths=widths, jointly=phase_correction, correction=residual, **settings)
        (self.unet,) = start_small(nn.ModuleList([unet]))
        self.coil_maps = maps_estimate(maps, maps_widths, settings)

    @property
    def total_stride(self) -> int:
        """Of the U-Nets: each side of k-space must be a multiple of it."""
        return total_stride(self)

    def forward(self, kspace: Tensor, mask: Tensor, maps: Tensor | None = None) -> Tensor:
        """Reconstruct; arguments, result and errors are those of :meth:`recon.networks.VarNet.forward`."""
        operator = measurement(kspace, mask, maps, self.coil_maps)
        phase = smooth_phase(kspace, operator, self.band_limited) if self.phase_correction else None
        image = operator.adjoint(kspace)
        y: Tensor = self.unet(image, phase)
        return image + y if self.residual else y
