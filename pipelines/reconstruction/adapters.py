"""Reconstruction networks of other programs that are called otherwise than ours: each as ``--model`` takes it.

Those that map an image ``(batch, 1, rows, columns)`` to an image need none: MONAI's UNet, BasicUNet and SwinUNETR,
fastmri's Unet, deepinv's UNet. What is here has their constructors and their names of weights.
"""

from __future__ import annotations

import fastmri.models
import torch
from torch import Tensor, nn


class VarNet(fastmri.models.VarNet):
    """fastmri's variational network, for ``--network.takes measurement``; its arguments are fastmri's.

    Source: Sriram et al., End-to-End Variational Networks for Accelerated MRI Reconstruction, MICCAI 2020.
    """

    def forward(self, kspace: Tensor, mask: Tensor) -> Tensor:
        """Reconstruct.

        Args:
            kspace: complex ``(batch, coil, rows, columns)``, 0 where it was not measured.
            mask: bool ``(batch, columns)``.

        Returns:
            The root of the sum of squares of the coils' images, real ``(batch, rows, columns)``.
        """
        image: Tensor = super().forward(torch.view_as_real(kspace), mask[:, None, None, :, None])
        return image


def drunet(noise_level: float = 0.1, pretrained: str | None = None, **settings: object) -> nn.Module:
    """deepinv's DRUNet, which takes a noise level beside the image: always this one.

    Args:
        noise_level: standard deviation of the noise, in units of the normalised image, whose own is 1.
        pretrained: "download", a path, or None for fresh weights.
        settings: deepinv's, such as ``in_channels=1 out_channels=1 nc=[8,16,32,64]``.

    Source: Zhang et al., Plug-and-Play Image Restoration with Deep Denoiser Prior, TPAMI 2021.
    """
    from deepinv.models import DRUNet  # type: ignore[import-untyped]  # slow to import, and need not be installed

    class AtOneNoiseLevel(DRUNet):
        def forward(self, image: Tensor) -> Tensor:
            output: Tensor = super().forward(image, noise_level)
            return output

    return AtOneNoiseLevel(pretrained=pretrained, **settings)
