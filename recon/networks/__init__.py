"""Networks: layers put together."""

from recon.networks.alias_free import AliasFreeUNet
from recon.networks.centred import Centred
from recon.networks.complex_images import CoilMaps, ComplexUNet
from recon.networks.modl import MoDL
from recon.networks.monai import from_basic_unet
from recon.networks.resnet import (
    ResNet,
    cifar_resnet18,
    cifar_resnet20,
    cifar_resnet34,
    cifar_resnet50,
    cifar_resnet56,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnet152,
    resnext50_32x4d,
    resnext101_32x8d,
    resolve_architecture,
)
from recon.networks.sampling import resolve_blur
from recon.networks.unet import UNet, record_margins, transposed_weight
from recon.networks.varnet import VarNet

__all__ = [
    "AliasFreeUNet",
    "Centred",
    "CoilMaps",
    "ComplexUNet",
    "MoDL",
    "ResNet",
    "UNet",
    "VarNet",
    "cifar_resnet18",
    "cifar_resnet20",
    "cifar_resnet34",
    "cifar_resnet50",
    "cifar_resnet56",
    "from_basic_unet",
    "record_margins",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    "resnext101_32x8d",
    "resolve_architecture",
    "resolve_blur",
    "transposed_weight",
]
