"""Networks: layers put together.

Images to images
    ``unet``: the U-Net, plain, anti-aliased or exactly equivariant; ``fused``: the same in fewer passes, by kernels.
    ``alias_free``: a U-Net that commutes with every translation. ``complex_images``: either on complex images.
Measurements to images
    ``zero_filled``: one such U-Net. ``varnet``, ``modl``: unrolled networks around several.
    ``unrolled_ct``: the same for sinograms; ``primal_dual``: its control; ``rays``: what both share.
    ``centred``: any network, aligned as a whole.
Images to classes
    ``resnet``: torchvision's ResNets and ResNeXts; ``residual``: their blocks.
For all
    ``sampling``: what ``sampling`` and ``blur`` mean. ``imported``: other programs' networks and weights as ours.
    ``conversion``: somebody's network, made exactly equivariant as it is.
"""

from recon.layers import record_margins
from recon.networks.alias_free import AliasFreeUNet
from recon.networks.centred import Centred
from recon.networks.complex_images import CoilMaps, ComplexUNet
from recon.networks.conversion import ConversionReport, make_equivariant
from recon.networks.imported import from_basic_unet, transposed_weight
from recon.networks.modl import MoDL
from recon.networks.primal_dual import PrimalDual
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
from recon.networks.unet import UNet
from recon.networks.unrolled_ct import UnrolledCT
from recon.networks.varnet import VarNet
from recon.networks.zero_filled import ZeroFilledUNet

__all__ = [
    "AliasFreeUNet",
    "Centred",
    "CoilMaps",
    "ComplexUNet",
    "ConversionReport",
    "MoDL",
    "PrimalDual",
    "ResNet",
    "UNet",
    "UnrolledCT",
    "VarNet",
    "ZeroFilledUNet",
    "cifar_resnet18",
    "cifar_resnet20",
    "cifar_resnet34",
    "cifar_resnet50",
    "cifar_resnet56",
    "from_basic_unet",
    "make_equivariant",
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
