"""Classifiers of other programs that are called otherwise than ours: each as ``--model`` takes it.

Those that can be told the channels of the images need none, such as timm's by ``timm:create_model``.
"""

from __future__ import annotations

from typing import Any

import torchvision
from torch import nn


def torchvision_model(name: str, in_channels: int, num_classes: int, **settings: Any) -> nn.Module:
    """A classifier of torchvision for images of so many channels: its first convolution is made anew for them.

    Args:
        name: such as "resnet18"; ``torchvision.models.list_models()`` has them all.
        in_channels: of the images.
        num_classes: of the data.
        settings: more of the model's own arguments.
    """
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **settings)
    place, first = next((place, part) for place, part in network.named_modules() if isinstance(part, nn.Conv2d))
    settings = {key: getattr(first, key) for key in ("out_channels", "kernel_size", "stride", "padding", "dilation")}
    network.set_submodule(place, nn.Conv2d(in_channels, **settings, bias=first.bias is not None))
    return network
