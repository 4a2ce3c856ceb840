"""Each rule of the conversion: torch's own operation on a tiled image, phases that agree, and refusals."""

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import UNETR, BasicUNet, SwinUNETR
from torch import nn
from torchvision import models

from recon import InputError, make_equivariant
from recon.layers import FixedPhase, MaxNorm, phase_margin, phase_offsets
from recon.networks.conversion.selector import FourthPowers


class Function(nn.Module):
    """A function as a network."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def convolution(*args, **settings):
    torch.manual_seed(0)
    return nn.Conv2d(4, 4, *args, **settings)


def transposed(*args, **settings):
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(4, 4, *args, **settings))


def resampled(mode, down=False, factor=2):
    corners = {"align_corners": False} if mode.startswith("bi") else {}
    one = Function(lambda x: F.interpolate(x, scale_factor=1 / factor if down else factor, mode=mode, **corners))
    return one if down else nn.Sequential(nn.AvgPool2d(factor), one)


OPERATIONS = {
    "convolution": convolution(3, padding=1),
    "strided": convolution(3, padding=1, stride=2),
    "strided, even": convolution(4, padding=1, stride=2),
    "patches": convolution(4, stride=4),
    "dilated, grouped": convolution(3, padding=2, dilation=2, groups=2, stride=2),
    "same": convolution((3, 5), padding="same"),
    "not square": convolution((1, 5), padding=(0, 2), stride=(1, 3)),
    "reflected": convolution(3, padding=1, padding_mode="reflect", stride=2),
    "kernel 1": convolution(1, stride=2),
    "transposed, kernel 2": transposed(2, stride=2),
    "transposed, kernel 3": transposed(3, stride=2, padding=1, output_padding=1),
    "transposed, kernel 4": transposed(4, stride=2, padding=1),
    "transposed, kernel 1": transposed(1, stride=2, output_padding=1),
    "transposed, dilated": transposed(2, stride=2, padding=1, dilation=2, output_padding=1),
    "transposed, stride 1": nn.ConvTranspose2d(4, 4, 3, padding=1),
    "max-pool": nn.MaxPool2d(2),
    "max-pool, overlapping": nn.MaxPool2d(3, 2, 1),
    "max-pool, stride 1": nn.MaxPool2d(3, 1, 1),
    "average pool": nn.AvgPool2d(3),
    "average pool, overlapping": nn.AvgPool2d(4, 2, 1),
    "adaptive pool of one size": nn.Sequential(nn.AdaptiveAvgPool2d(6)),
    "padding and a pool": nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.ReLU(), nn.AvgPool2d(2, 1)),
    "unshuffle": nn.PixelUnshuffle(2),
    "shuffle": nn.Sequential(nn.PixelUnshuffle(3), nn.PixelShuffle(3)),
    "every other pixel": Function(lambda x: x[..., 1::2, ::2]),
    "channels last": Function(lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (4,)).movedim(-1, 1)),
    "rolled": Function(lambda x: x.roll((1, 2), (2, 3))),
    **{f"up, {mode}": resampled(mode) for mode in ("nearest", "nearest-exact", "bilinear", "bicubic")},
    **{f"up by 3, {mode}": resampled(mode, factor=3) for mode in ("nearest", "bilinear", "bicubic")},
    **{f"down, {mode}": resampled(mode, True) for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "area")},
    **{f"down by 3, {mode}": resampled(mode, True, 3) for mode in ("nearest", "nearest-exact", "bilinear")},
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
@torch.no_grad()
def test_as_torch_does_on_a_tiled_image_and_exact(operation):
    operation = operation.double()
    torch.manual_seed(1)
    x = torch.randn(2, 4, 12, 24, dtype=torch.float64)
    if isinstance(operation, nn.Sequential) and isinstance(operation[0], nn.AdaptiveAvgPool2d):
        theirs = F.avg_pool2d(x, (2, 4))
    else:
        tiled = operation(x.repeat(1, 1, 3, 3))
        rows, columns = (n // 3 for n in tiled.shape[2:])
        theirs = tiled[..., rows : 2 * rows, columns : 2 * columns]
    ours = make_equivariant(operation, x, FixedPhase())(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    assert make_equivariant(operation, x).conversion.error_after < 1e-10


@pytest.mark.parametrize("stride", [2, 3, (1, 2), (3, 2)])
def test_the_selector_follows_a_map_and_does_not_tie_on_normalised_pixels(stride):
    torch.manual_seed(0)
    steps = (stride, stride) if isinstance(stride, int) else stride
    x = F.normalize(torch.randn(4, 3, 12, 12, dtype=torch.float64), dim=1)  # as a norm over channels leaves it
    before = phase_offsets(FourthPowers()(x, stride), stride, 2)
    for shifts in ([1, 0], [0, 1], [2, 5]):
        after = phase_offsets(FourthPowers()(x.roll(shifts, (2, 3)), stride), stride, 2)
        assert torch.equal(after, (before + torch.tensor(shifts)) % torch.tensor(steps))
    assert phase_margin(FourthPowers().score(x, stride)).min() > 1e-4
    assert phase_margin(MaxNorm("l2").score(x, stride)).max() < 1e-12  # which ties


class Branches(nn.Module):
    """Halves by a pool, by two convolutions and by four at once; up again by one step and by two."""

    def __init__(self):
        super().__init__()
        self.two, self.four = nn.Conv2d(4, 4, 3, 2, 1), nn.Conv2d(4, 4, 4, 4)
        self.up = nn.ConvTranspose2d(8, 4, 2, 2)

    def forward(self, x):
        direct = self.four(x)
        steps = self.two(self.two(x)) + F.max_pool2d(F.avg_pool2d(x, 2), 2)
        up = self.up(torch.cat([direct, steps], 1)) + F.max_pool2d(x, 2)
        return F.interpolate(direct, scale_factor=4) + F.interpolate(up, x.shape[2:], mode="bilinear") + x


@pytest.mark.parametrize("first", ["four at once", "two by two"])
def test_all_operations_of_one_stride_agree(first):
    torch.manual_seed(0)
    network, x = Branches().double(), torch.randn(2, 4, 16, 16, dtype=torch.float64)
    if first == "two by two":
        network = nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2), network)
    report = make_equivariant(network, x).conversion
    assert report.error_after < 1e-10 < 1e-3 < report.error_before
    assert report.total_stride == (4, 4)


ALIKE = {
    "squeeze and excitation": lambda x: x * x.mean((2, 3), keepdim=True).sigmoid().expand_as(x),
    "one axis after the other": lambda x: x - x.amax(-1).amax(-1)[:, :, None, None],
    "statistics of each row": lambda x: x / x.std(-1, keepdim=True),
    "normalised pixels": lambda x: F.normalize(x, dim=1),
    "largest channel": lambda x: x.max(1, keepdim=True).values + x.argmax(1, keepdim=True),
    "shuffled channels": lambda x: x.view(2, 2, 2, 8, 8).transpose(1, 2).reshape(2, 4, 8, 8),
    "gate": lambda x: x.chunk(2, 1)[0] * x[:, 2:].sigmoid(),
    "in place": lambda x: x.clone().add_(1).relu_().mul_(2),
    "a constant map": lambda x: torch.cat([x, torch.ones(2, 1, 8, 8, dtype=x.dtype)], 1),
    "stacked": lambda x: torch.stack([x, x], 1).flatten(1, 2),
    "linear over channels": lambda x: (x.permute(0, 2, 3, 1) @ torch.eye(4, dtype=x.dtype)).permute(0, 3, 1, 2),
    "to a vector and back": lambda x: x + x.mean((2, 3)).unflatten(1, (4, 1, 1)),
    "asked for its shape": lambda x: x * len(x) * x.size(1) * x.shape[-1] if x.is_floating_point() else x,
}


@pytest.mark.parametrize("function", ALIKE.values(), ids=ALIKE)
def test_what_treats_pixels_alike_runs_as_it_is(function):
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    network = Function(lambda x: F.max_pool2d(function(x), 2, 2))
    report = make_equivariant(network, x).conversion
    assert report.error_after < 1e-10 < 1e-3 < report.error_before
    assert torch.equal(make_equivariant(Function(function), x)(x), function(x))


class Positions(nn.Module):
    """Adds a learned map."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, 4, 8, 8))

    def forward(self, x):
        return x + self.embedding


REFUSED = {
    "positional embedding": (lambda: nn.Sequential(Positions()), r"0 \(Positions\) .* learned .* position to position"),
    "coordinates": (lambda: Function(lambda x: x + torch.arange(8)), "fixed values .* position to position"),
    "norm over space": (lambda: nn.LayerNorm((4, 8, 8)), "learned weights for each position"),
    "linear over space": (lambda: nn.Linear(8, 8), "along an axis of the image"),
    "attention": (lambda: Function(lambda x: (x.flatten(2).mT @ x.flatten(2)).mean(1)), "sequence or windows"),
    "image of a vector": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(256, 256), nn.Unflatten(1, (4, 8, 8))),
        "does not move with the input",
    ),
    "super-resolution": (lambda: nn.Upsample(scale_factor=2), "finer than the image"),
    "corners aligned": (lambda: nn.Upsample(scale_factor=2, align_corners=True, mode="bilinear"), "align_corners"),
    "no whole factor": (lambda: nn.Upsample(size=(12, 12)), "whole factor"),
    "no padding": (lambda: nn.Conv2d(4, 4, 3), r"\(1, 4, 6, 6\).*do not pad"),
    "cropped": (lambda: Function(lambda x: x[..., 1:, :]), "cuts a part"),
    "flipped": (lambda: Function(lambda x: x + x.flip(-1)), "flip, for which no exactly"),
    "other resolution": (lambda: Function(lambda x: x[..., :1, :1] + F.avg_pool2d(x, 2)), "cuts a part"),
    "unequal windows": (lambda: nn.AdaptiveAvgPool2d(3), "height 8 is not a multiple of the total stride 3"),
    "batch mixed": (lambda: Function(lambda x: x + x.roll(1, 0)), "rolls a map over the batch"),
    "batch averaged": (lambda: Function(lambda x: x - x.mean(0)), "over the images of a batch"),
    "where it is largest": (lambda: Function(lambda x: x.argmax(-1)), "asks where"),
    "indices": (lambda: nn.MaxPool2d(2, return_indices=True), "max_pool2d_with_indices"),
    "Fourier": (lambda: Function(lambda x: torch.fft.fft2(x).abs()), "recon.Centred"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_depends_on_positions_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make_equivariant(make(), torch.randn(1, 4, 8, 8))


NETWORKS = {
    "ViT": (lambda: models.VisionTransformer(32, 8, 1, 2, 16, 32), (3, 32, 32), "positional embeddings"),
    "Swin": (
        lambda: models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4]),
        (3, 32, 32),
        r"features.1.0.attn \(ShiftedWindowAttention\).*attention over windows",
    ),
    "SwinUNETR": (
        lambda: SwinUNETR(1, 1, feature_size=12, spatial_dims=2, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
        (1, 64, 64),
        r"swinViT.layers1.0.blocks.0 \(SwinTransformerBlock\).*attention over windows",
    ),
    "UNETR": (
        lambda: UNETR(1, 1, (32, 32), 4, 16, 16, 2, spatial_dims=2),
        (1, 32, 32),
        r"vit.patch_embedding \(PatchEmbeddingBlock\)",
    ),
    "BasicUNet, align_corners": (
        lambda: BasicUNet(2, 1, 2, (4, 4, 4, 4, 4, 4), upsample="nontrainable"),
        (1, 32, 32),
        r"upcat_4.upsample.upsample_non_trainable \(Upsample\).*set its align_corners to False",
    ),
}


@pytest.mark.parametrize(("make", "shape", "message"), NETWORKS.values(), ids=NETWORKS)
def test_networks_that_cannot_be_exact_are_refused_by_the_modules_name(make, shape, message):
    with pytest.raises(InputError, match=message):
        make_equivariant(make().eval(), torch.randn(1, *shape))
