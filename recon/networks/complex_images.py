"""U-Nets on complex images, and the coil maps that one of them makes."""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from recon.errors import InputError
from recon.kernels.switches import prefers_channels_last
from recon.layers.spectrum import resample
from recon.networks.alias_free import AliasFreeUNet
from recon.networks.fused import is_watched
from recon.networks.unet import UNet
from recon.physics import mri


class ComplexUNet(nn.Module):
    """A network on complex images: their real and imaginary parts are two channels, brought to mean 0 and deviation 1.

    y = deviation net((x - mean) / deviation) + mean, mean and deviation of each part over the image. A shift does not
    change these numbers, so that the whole commutes with every shift that the network commutes with: by whole pixels
    with sampling aps, by any real number of them with alias_free, where the Nyquist frequency is left out first.

    Args:
        network: from 2 to 2 real channels; None for a U-Net of the settings.
        sampling: of the U-Net: stride, lpf, aps or alias_free.
        settings: of the U-Net: see :class:`recon.networks.UNet` or :class:`recon.networks.AliasFreeUNet`.

    Raises:
        InputError: alias_free with a setting that it does not have, or what the U-Net refuses.

    Source: E2E-VarNet's NormUnet, arXiv 2004.06688.
    """

    def __init__(self, network: nn.Module | None = None, sampling: str = "aps", **settings: Any) -> None:
        super().__init__()
        self.band_limited = sampling == "alias_free"
        self.network = network or _unet(sampling, settings)

    @property
    def total_stride(self) -> int:
        """The network's: each side of the image must be a multiple of it."""
        return int(getattr(self.network, "total_stride", 1))

    def forward(self, image: Tensor) -> Tensor:
        """Map complex ``(batch, rows, columns)`` to the same."""
        if self.band_limited:
            planes = torch.view_as_real(image).permute(0, 3, 1, 2)
            image = torch.view_as_complex(resample(planes, image.shape[1:]).permute(0, 2, 3, 1).contiguous())
        n = image.shape[1] * image.shape[2]
        # sums in float64: the same for a shifted image, whose float32 sums would differ by their order
        mean = (image.sum((1, 2), keepdim=True, dtype=torch.complex128) / n).to(image.dtype)
        parts = torch.view_as_real(image - mean)
        deviation = torch.linalg.vector_norm(parts, dim=(1, 2), keepdim=True, dtype=torch.float64) / (n - 1) ** 0.5
        deviation = deviation.to(parts.dtype).clamp_min(torch.finfo(parts.dtype).tiny)
        planes = (parts / deviation).permute(0, 3, 1, 2)  # in channels_last
        if not prefers_channels_last(planes):
            planes = planes.contiguous()
        y = self.network(planes).permute(0, 2, 3, 1) * deviation
        return torch.view_as_complex(y.contiguous()) + mean


def _unet(sampling: str, settings: dict[str, Any]) -> nn.Module:
    if sampling != "alias_free":
        usual: dict[str, Any] = {"norm": "instance", "activation": "leakyrelu"}
        return UNet(in_channels=2, out_channels=2, sampling=sampling, **(usual | settings))
    wrong = sorted(settings.keys() - signature(AliasFreeUNet).parameters.keys())
    if wrong:
        raise InputError(f"sampling alias_free has no {wrong[0]}: leave it out, or choose sampling stride, lpf or aps")
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
        return maps / mri.rss(maps, 1).unsqueeze(1)

    def _of_images(self, images: Tensor) -> Tensor:
        """All at once; or one by one to save memory, which on a CPU without gradients takes no longer.

        Who watches layers, as for the margins, sees one call of each.
        """
        if torch.is_grad_enabled() and self.save_memory:
            return torch.cat([checkpoint(self.network, image, use_reentrant=False) for image in images.split(1)])
        if images.is_cpu and not torch.is_grad_enabled() and not is_watched(self.network):
            return torch.cat([self.network(image) for image in images.split(1)])
        maps: Tensor = self.network(images)
        return maps


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
            raise InputError(f"k-space has {kspace.shape[1]} coils and the network no maps_widths: give their maps")
        maps = estimate(kspace, mask)
    return mri.FourierOperator(mask, maps)
