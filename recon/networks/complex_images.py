"""U-Nets on complex images, and the coil maps that one of them makes."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.errors import InputError, check_choice
from recon.kernels.switches import prefers_channels_last
from recon.networks.alias_free import AliasFreeUNet
from recon.networks.fused import is_watched
from recon.networks.unet import UNet
from recon.physics import mri
from recon.physics.coil_maps import espirit
from recon.physics.image_phase import band_limited_phase, image_phase, resample_complex, times_phase

MAPS = ("learned", "espirit", "given")
AT_A_TIME = 4  # coils, where no gradient needs them: fewer take longer, more take memory


class ComplexUNet(nn.Module):
    """A network on complex images: their real and imaginary parts are two channels, brought to mean 0 and deviation 1.

    y = deviation net((x - mean) / deviation) + mean, mean and deviation of each part over the image. A shift does not
    change these numbers, so that the whole commutes with every shift that the network commutes with: by whole pixels
    with sampling aps or lps, by any real number of them with alias_free, where the Nyquist frequency is left out first.

    With an image's smooth phase P it is P net'(conj(P) x) instead: of a phase on a finer grid without aliasing, so that
    what commutes with every translation still does (:func:`recon.physics.image_phase.times_phase`).

    An image whose phase was taken out has an imaginary part far smaller than the real one: with ``jointly`` both have
    the deviation of the whole, sqrt(var(real) + var(imaginary)), so that noise is not blown up to an image's size.

    Args:
        network: from 2 to 2 real channels; None for a U-Net of the settings.
        jointly: one deviation for both parts.
        correction: what comes out is to be added to an image or taken from it, so that no mean is added.
        sampling: of the U-Net: stride, lpf, aps, lps or alias_free, which has none of the next six settings.
        blur: size of the U-Net's blur; None for that of the sampling.
        norm: "instance" (None) or "batch".
        activation: "leakyrelu" (None) or "relu".
        padding: "circular" (None) or "zeros".
        criterion: what aps maximises; None for l2.
        temperature: of the gradient of lps; None for 1.
        settings: more of the U-Net: see :class:`recon.networks.UNet` or :class:`recon.networks.AliasFreeUNet`.

    Raises:
        InputError: alias_free with a setting that it does not have, or what the U-Net refuses.

    Source: E2E-VarNet's NormUnet, arXiv 2004.06688.
    """

    def __init__(
        self,
        network: nn.Module | None = None,
        jointly: bool = False,
        correction: bool = False,
        sampling: str = "aps",
        blur: int | None = None,
        norm: str | None = None,
        activation: str | None = None,
        padding: str | None = None,
        criterion: str | None = None,
        temperature: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.jointly, self.correction = jointly, correction
        self.band_limited = sampling == "alias_free"
        given: dict[str, Any] = {"blur": blur, "norm": norm, "activation": activation, "padding": padding}
        given |= {"criterion": criterion, "temperature": temperature}
        settings |= {key: value for key, value in given.items() if value is not None}
        self.network = network or _unet(sampling, settings)

    @property
    def total_stride(self) -> int:
        """The network's: each side of the image must be a multiple of it."""
        return int(getattr(self.network, "total_stride", 1))

    def forward(self, image: Tensor, phase: Tensor | None = None) -> Tensor:
        """Map complex ``(batch, rows, columns)`` to the same, without its smooth phase where that is given."""
        if phase is not None:
            return times_phase(phase, self(times_phase(phase.conj(), image)))
        if self.band_limited:
            image = resample_complex(image, image.shape[1:])
        n = image.shape[1] * image.shape[2]
        # sums in float64: the same for a shifted image, whose float32 sums would differ by their order
        mean = (image.sum((1, 2), keepdim=True, dtype=torch.complex128) / n).to(image.dtype)
        parts = torch.view_as_real(image - mean)
        deviation = torch.linalg.vector_norm(parts, dim=(1, 2), keepdim=True, dtype=torch.float64) / (n - 1) ** 0.5
        if self.jointly:
            deviation = torch.linalg.vector_norm(deviation, dim=3, keepdim=True)
        deviation = deviation.to(parts.dtype).clamp_min(torch.finfo(parts.dtype).tiny)
        planes = (parts / deviation).permute(0, 3, 1, 2)  # in channels_last
        if not prefers_channels_last(planes):
            planes = planes.contiguous()
        y = self.network(planes).permute(0, 2, 3, 1) * deviation
        y = torch.view_as_complex(y.contiguous())
        return y if self.correction else y + mean


def _unet(sampling: str, settings: dict[str, Any]) -> nn.Module:
    if sampling != "alias_free":
        usual: dict[str, Any] = {"norm": "instance", "activation": "leakyrelu"}
        return UNet(in_channels=2, out_channels=2, sampling=sampling, **(usual | settings))
    wrong = sorted(settings.keys() - signature(AliasFreeUNet).parameters.keys())
    if wrong:
        raise InputError(
            f"sampling alias_free has no {wrong[0]}: leave it out, or choose sampling stride, lpf, aps or lps"
        )
    return AliasFreeUNet(in_channels=2, out_channels=2, **settings)


class CoilMaps(nn.Module):
    """Coil maps from the calibration lines: each coil's image through one network, over their root sum of squares.

    Args:
        network: of complex images.
        save_memory: take the coils one by one, and compute each again in the backward pass.

    Source: arXiv 2004.06688, section 2.3.
    """

    def __init__(self, network: ComplexUNet, save_memory: bool = False) -> None:
        super().__init__()
        self.network, self.save_memory = network, save_memory

    def forward(self, kspace: Tensor, mask: Tensor) -> Tensor:
        """Estimate the maps.

        Args:
            kspace: complex ``(batch, coil, rows, columns)``.
            mask: bool ``(columns,)`` or ``(batch, columns)``.

        Returns:
            Complex, the shape of ``kspace``; sum_c |S_c|^2 = 1.

        Raises:
            InputError: the mask has no calibration lines.
        """
        lines = mri.calibration_mask(mask)[..., None, None, :]
        images = mri.ifft2c(mri.apply_mask(kspace, lines))
        maps = self._of_images(images.flatten(0, 1)).unflatten(0, kspace.shape[:2])
        return maps / mri.rss(maps, 1).unsqueeze(1).clamp_min(torch.finfo(maps.real.dtype).tiny)

    def _of_images(self, images: Tensor) -> Tensor:
        """All at once; one by one to save memory with gradients; some at a time without them on a CPU.

        Who watches layers, as for the margins, sees one call of each.
        """
        if torch.is_grad_enabled() and self.save_memory:
            return torch.cat([checkpoint(self.network, image, use_reentrant=False) for image in images.split(1)])
        if images.is_cpu and not torch.is_grad_enabled() and not is_watched(self.network):
            return torch.cat([self.network(some) for some in images.split(AT_A_TIME)])
        maps: Tensor = self.network(images)
        return maps


class Espirit(nn.Module):
    """Coil maps from the calibration lines without training: :func:`recon.physics.coil_maps.espirit`."""

    def forward(self, kspace: Tensor, mask: Tensor) -> Tensor:
        """Estimate the maps, as :class:`CoilMaps` does."""
        return espirit(kspace, mask)


def maps_estimate(
    maps: str, widths: Sequence[int] | None, settings: dict[str, Any], save_memory: bool = False
) -> nn.Module | None:
    """What estimates the maps of several coils, called as ``estimate(kspace, mask)``; None if nothing does.

    Args:
        maps: one of ``MAPS``.
        widths: of the network's levels, for learned maps; None for one coil.
        settings: of its U-Net.
        save_memory: of the network: see :class:`CoilMaps`.

    Raises:
        InputError: unknown maps.
    """
    check_choice("maps", maps, MAPS)
    if maps == "espirit":
        return Espirit()
    if maps == "given" or widths is None:
        return None
    return CoilMaps(ComplexUNet(widths=widths, **settings), save_memory)


def start_small(regularisers: nn.ModuleList) -> nn.ModuleList:
    """The same U-Nets, their last layers a tenth as large: an unrolled network starts near what was measured."""
    with torch.no_grad():
        for name, parameter in regularisers.named_parameters():
            if ".network.head." in name:
                parameter.mul_(0.1)
    return regularisers


def total_stride(network: nn.Module) -> int:
    """The largest total stride of the U-Nets inside; the others divide it, since they have one stride."""
    return max(inner.total_stride for inner in network.modules() if isinstance(inner, ComplexUNet))


def measurement(kspace: Tensor, mask: Tensor, maps: Tensor | None, estimate: nn.Module | None) -> mri.FourierOperator:
    """The measurement A of k-space ``(batch, coil, rows, columns)``: with the maps that are given or estimated.

    One coil without given maps has none.

    Raises:
        InputError: several coils, and nothing that could give their maps.
    """
    if maps is None and kspace.shape[1] > 1:
        if estimate is None:
            raise InputError(
                f"k-space has {kspace.shape[1]} coils and the network no maps_widths: give their maps, or maps_widths"
            )
        maps = estimate(kspace, mask)
    return mri.FourierOperator(mask, maps)


def smooth_phase(kspace: Tensor, operator: mri.FourierOperator, band_limited: bool) -> Tensor:
    """The image's smooth phase from the calibration lines, as networks of any translation need it or not.

    Args:
        kspace: complex ``(batch, coil, rows, columns)``.
        operator: its measurement.
        band_limited: whether it must be.
    """
    estimate = band_limited_phase if band_limited else image_phase
    return estimate(kspace, operator.mask.squeeze((-3, -2)), operator.maps)
