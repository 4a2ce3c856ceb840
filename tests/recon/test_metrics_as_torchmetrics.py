"""The metrics called as torchmetrics' own are: update(preds, target) on images with a channel axis."""

import pytest
import torch
from skimage.metrics import structural_similarity
from torchmetrics import MetricCollection
from torchmetrics.image import PeakSignalNoiseRatio

from recon import metrics
from recon.errors import InputError
from recon.metrics import NMSE, PSNR, SSIM, Equivariance


def images():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(4, 1, 12, 10, generator=generator, dtype=torch.float64)
    return target + 0.1 * torch.randn(target.shape, generator=generator, dtype=torch.float64), target


def close(actual, wanted):
    torch.testing.assert_close(actual, wanted, rtol=1e-12, atol=1e-12)


def test_one_loop_drives_theirs_and_ours():
    theirs = PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="elementwise_mean")
    collection = MetricCollection(
        {"theirs": theirs, "psnr": PSNR(data_range=1.0), "ssim": SSIM(data_range=1.0), "nmse": NMSE(data_range=1.0)}
    )
    preds, target = images()
    for i in range(0, 4, 2):
        collection.update(preds[i : i + 2], target[i : i + 2])
    values = collection.compute()
    torch.testing.assert_close(values["psnr"], values["theirs"], check_dtype=False, rtol=1e-6, atol=0)
    pairs = list(zip(preds[:, 0].numpy(), target[:, 0].numpy(), strict=True))
    close(values["ssim"].item(), sum(structural_similarity(g, p, data_range=1.0) for p, g in pairs) / 4)
    close(values["nmse"].item(), sum(((g - p) ** 2).sum() / (g**2).sum() for p, g in pairs) / 4)


def test_without_any_data_range_it_is_that_of_each_image():
    preds, target = images()
    target *= torch.arange(1.0, 5.0)[:, None, None, None]
    metric = PSNR(reduction="none")
    metric.update(preds, target)
    close(metric.compute(), metrics.psnr(preds, target, target.amax((1, 2, 3)) - target.amin((1, 2, 3)), True))


@pytest.mark.parametrize("name", ["psnr", "nmse", "ssim", "equivariance"])
def test_functions_take_a_channel_axis(name):
    preds, target = images()
    arguments = () if name == "nmse" else (1.0,)
    with_channel = getattr(metrics, name)(preds, target, *arguments)
    without = getattr(metrics, name)(preds[:, 0], target[:, 0], *arguments)
    assert with_channel == without if name != "equivariance" else all(map(torch.equal, with_channel, without))


def test_equivariance_without_a_data_range():
    preds, target = images()
    with_channel, without = Equivariance(), Equivariance()
    with_channel.update(preds, target)
    without.update(preds[:, 0], target[:, 0])
    assert with_channel.compute() == without.compute()


def test_named_volumes_and_images_alone_in_one_metric():
    preds, target = images()
    metric = NMSE(reduction="none")
    metric.update(preds[2:], target[2:])
    metric.update(preds[:2], target[:2], volume=torch.tensor([5, 5]), slice=torch.tensor([0, 1]))
    close(
        metric.compute(),
        torch.cat([metrics.nmse(preds[:2], target[:2])[None], metrics.nmse(preds[2:], target[2:], True)]),
    )


def test_what_cannot_be_meant_is_refused():
    preds, target = images()
    numbers = torch.arange(4)
    with pytest.raises(InputError, match="give both, or neither"):
        PSNR().update(preds, target, 1.0, volume=numbers)
    with pytest.raises(InputError, match="share one data_range"):
        SSIM().update(preds, target, volume=numbers, slice=numbers)
    with pytest.raises(InputError, match="is a target constant"):
        PSNR().update(preds, torch.ones_like(target))
    with pytest.raises(InputError, match=r"\(4, 3, 12, 10\)"):
        PSNR(data_range=1.0).update(preds.expand(-1, 3, -1, -1), target.expand(-1, 3, -1, -1))
