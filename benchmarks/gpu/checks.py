"""What must hold on a device: forms agree with plain torch, networks are exact, scores are float64, nothing waits."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import exactness, resnets
from benchmarks.gpu import forms
from benchmarks.gpu.table import Setting, Skipped, Table, triton
from benchmarks.networks import largest_shift_error
from recon.layers import MaxNorm, can_fuse, use_kernels
from recon.networks import UNet, record_margins

CONTROL = 1e-3
"""What plain stride's error must exceed, or the check checks nothing."""
CPU = torch.device("cpu")
BLURS = (1, 3, 5, 7)


def require_kernels(device: torch.device) -> None:
    """Go on where kernels run on a device, within :func:`triton`.

    Raises:
        Skipped: there are none.
    """
    if not can_fuse(torch.ones(1, 1, 4, 4, device=device), nn.InstanceNorm2d(1), nn.ReLU()):
        raise Skipped(
            "there are no kernels here, since Triton (on a CPU numba) is not installed or they are switched off"
        )


def device_forms(setting: Setting, table: Table) -> None:
    """Layers and networks as the device runs them by default, against plain torch in float64 on the CPU."""
    _agreement(setting, table, [*forms.LAYERS, *setting.sizes.networks], CPU)


def kernels(setting: Setting, table: Table) -> None:
    """Layers and networks with the kernels, against plain torch in float64 on the same device."""
    with triton():
        require_kernels(setting.device)
        _agreement(setting, table, [*forms.WITH_KERNELS, *setting.sizes.networks], setting.device)


def _agreement(setting: Setting, table: Table, names: Iterable[str], reference: torch.device) -> None:
    table.remarks.append(
        "Largest |a - b| / |b| of the output and of all gradients, b being float64's; limits: outputs "
    )
    table.remarks[-1] += "1e-10 and 1e-5, gradients the same, of networks in float32 1e-3."
    for name in names:
        given = forms.example(name, setting.sizes.check, setting.seed)
        expected = forms.compute(given, reference, torch.float64, kernels=False)
        for dtype in forms.LIMITS:
            found = forms.compute(given, setting.device, dtype, kernels=True)
            errors, bounds = forms.differences(found, expected), forms.limits(name, dtype)
            for what, error, limit in zip(("output", "gradients"), errors, bounds, strict=True):
                table.check(name, f"{str(dtype).removeprefix('torch.')} {what}", error, limit)


def exact_unets(setting: Setting, table: Table) -> None:
    """Shifted photographs through untrained U-Nets, as benchmarks/exactness.py does for a trained one."""
    table.remarks.append(
        "Photographs, each with a circular shift up to half its side; TF32 off, deterministic algorithms."
    )
    sizes = setting.sizes
    images = resnets.photographs(sizes.exact).flatten(0, 1)[:, None].to(setting.device)
    crops = images[..., : min(64, sizes.exact), : min(64, sizes.exact)].double()
    _exact(setting, table, "stride (control)", "float32", _exact_unet(setting, "stride"), images)
    for on in (False, True):
        with triton(), use_kernels(on):
            network = _exact_unet(setting, "aps", norm="instance", activation="leakyrelu")
            _exact(setting, table, f"aps, instance norm, {_kernels(on)}", "float32", network, images)
    for blur in BLURS:
        for what, score, some in (
            ("float32", MaxNorm, images),
            ("float64", MaxNorm, crops),
            (exactness.CONTROL, exactness.Float32Score, images),
        ):
            network = _exact_unet(setting, "aps", blur=blur)
            for pool in network.pools:
                pool.selector = score()
            _exact(setting, table, f"aps{blur}", what, network, some)


def _kernels(on: bool) -> str:
    return "kernels" if on else "plain torch"


def _exact_unet(setting: Setting, sampling: str, **settings: Any) -> UNet:
    torch.manual_seed(setting.seed)
    return UNet(widths=setting.sizes.widths, sampling=sampling, **settings).to(setting.device).eval()


def _exact(setting: Setting, table: Table, name: str, what: str, network: UNet, images: Tensor) -> None:
    n_pairs = max(2, setting.sizes.pairs // (6 if what == "float64" else 1))
    found = exactness.check(network, images, n_pairs, images.shape[-1] // 2, setting.seed)
    row = f"U-Net, {name}, {what}"
    _judge(table, row, found.largest, name, forms.LIMITS[images.dtype], judged=what != exactness.CONTROL)
    margin = None if math.isnan(found.smallest_margin) else found.smallest_margin
    table.add(row, pairs=n_pairs, above=found.n_above, bitwise_equal=found.n_equal, smallest_margin=margin)


def exact_resnets(setting: Setting, table: Table) -> None:
    """Shifted photographs through untrained ResNets, as benchmarks/resnets.py does."""
    table.remarks.append(
        "The change of the logits, |f(T x) - f(x)| / |f(x)|, under circular shifts T of photographs, float32."
    )
    sizes, small = setting.sizes, setting.device.type == "cpu"
    chosen = [("cifar", "resnet20", 32)]
    chosen += [] if small else [("imagenet", name, sizes.photograph) for name in ("resnet18", "resnet50")]
    for form, architecture, side in chosen:
        images = resnets.photographs(side).to(setting.device)
        for variant, network in resnets.variants(architecture, form, BLURS, setting.seed).items():
            found = resnets.check(network.to(setting.device), images, max(4, sizes.pairs // 4), seed=setting.seed)
            row = f"{form} {architecture}, {variant}{' (control)' if variant == 'stride' else ''}"
            _judge(table, row, found.largest, variant, resnets.LIMIT)
            table.add(row, pairs=found.n_shifts, same_answer=found.n_same, smallest_margin=found.smallest_margin)


def _judge(table: Table, row: str, error: float, variant: str, limit: float, judged: bool = True) -> None:
    """An aps network must be below the limit, plain stride above :data:`CONTROL`."""
    if judged and not variant.startswith("stride"):
        table.check(row, "largest error", error, limit)
        return
    table.add(row, largest_error=error)
    if judged and not error > CONTROL:
        table.faults.append(f"{row}: the control's error is {error:.1e}, not above {CONTROL:.0e}")


def autocast(setting: Setting, table: Table) -> None:
    """Shift errors of U-Nets under autocast, and whether what they choose by is float64 outside of it."""
    table.remarks.append("Shift error |f(T x) - T f(x)| / |T f(x)|, the largest of four T; shown, not judged.")
    images = torch.randn(2, 1, setting.sizes.exact, setting.sizes.exact).to(setting.device)
    for sampling in ("stride", "aps"):
        network = _exact_unet(setting, sampling)
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            forward = _within(network, setting.device, dtype)
            row = f"U-Net, {sampling}, {str(dtype).removeprefix('torch.')}"
            table.add(row, shift_error=largest_shift_error(forward, images, setting.seed))
            if sampling == "aps" and dtype != torch.float32:
                with torch.no_grad(), record_margins(network) as margins:
                    forward(images)
                table.add(row, scores=" ".join({str(m.dtype).removeprefix("torch.") for m in margins}))
                table.check(row, "score, in and out", *_score_difference(images.to(dtype)))
                if any(margin.dtype != torch.float64 for margin in margins):
                    table.faults.append(f"{row}: a selector scores in {table.rows[row]['scores']}, not in float64")


def _within(network: nn.Module, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return network(x)

    return forward


def _score_difference(x: Tensor) -> tuple[float, float]:
    """How far the scores within autocast are from those outside, relative; and the limit, none at all."""
    outside = MaxNorm().score(x, 2)
    with torch.autocast(x.device.type, x.dtype):
        inside = MaxNorm().score(x, 2)
    return float((inside - outside).norm() / outside.norm()), 0.0


def waits(setting: Setting, table: Table) -> None:
    """Steps of networks during which a call that makes the host wait for the device is an error."""
    table.remarks.append(
        "torch.cuda.set_sync_debug_mode('error') around forward, backward and optimiser, after one step."
    )
    never = "never" if setting.device.type == "cuda" else "no GPU"
    for on in (False, True):
        with triton(), use_kernels(on):
            for name in ("U-Net, aps", "CIFAR ResNet-20, aps"):
                network = forms.NETWORKS[name]().to(setting.device)
                images = torch.randn(2, 1, 48, 48, device=setting.device)
                for what, prepare in (("training", _training_step), ("evaluation", _evaluation)):
                    waiting = find_wait(prepare(network, images), setting.device) or never
                    table.add(f"{name}, {_kernels(on)}, {what}", waits=waiting)


def _training_step(network: nn.Module, images: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters())

    def step() -> None:
        network.train()
        optimizer.zero_grad()
        output = network(images)
        F.mse_loss(output, torch.zeros_like(output)).backward()
        optimizer.step()

    return step


def _evaluation(network: nn.Module, images: Tensor) -> Callable[[], None]:
    @torch.no_grad()
    def step() -> None:
        network.eval()(images)

    return step


def find_wait(step: Callable[[], None], device: torch.device) -> str | None:
    """Where a step makes the host wait for the device, "file:line function"; None where it does not."""
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        if "synchroniz" not in str(error).lower():
            raise
        return _place(error)
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    return None


def _place(error: BaseException) -> str:
    """The innermost line of this package that an error passed through, else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "recon" in frame.filename.split("/")] or frames
    return f"{own[-1].filename.rpartition('/')[2]}:{own[-1].lineno} {own[-1].name}"
