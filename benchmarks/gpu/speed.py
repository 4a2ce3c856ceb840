"""How fast a device is: kernels by plain torch, the benchmarks of layers and networks, ResNets, torch.compile."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import layers, networks
from benchmarks.gpu import forms
from benchmarks.gpu.checks import require_kernels
from benchmarks.gpu.table import Setting, Skipped, Table, triton
from benchmarks.harness import Case, Outcome, Run, interleave, peak, seconds, take_turns
from recon.layers import use_kernels
from recon.networks import ResNet

CHANNELS = 32
KERNELS_OFF = "ours, aps, kernels off"
LIMIT_FORWARD = 1e-5  # plain torch's statistics are float32's on a GPU


def kernel_speed(setting: Setting, table: Table) -> None:
    """Time with kernels by time with plain torch, layer by layer."""
    side, batch = setting.sizes.speed, setting.sizes.batch
    table.remarks.append(f"Kernels' time by plain torch's, below 1 is faster; {batch} x {CHANNELS} x {side} x {side}.")
    with triton():
        require_kernels(setting.device)
        left = table.left() / (2 * len(forms.WITH_KERNELS))
        for name in forms.WITH_KERNELS:
            for backward, column in ((False, "forward"), (True, "forward + backward")):
                cases = [
                    Case("torch", partial(_layer, name, setting, False, backward)),
                    Case("kernels", partial(_layer, name, setting, True, backward), "torch", LIMIT_FORWARD),
                ]
                outcomes = take_turns(cases, setting.sizes.repeats, setting.device, left)
                table.add(name, **{f"{column}, torch ms": _ms(outcomes[0]), f"{column}, ratio": outcomes[1].ratio})
                _judge(table, name, outcomes)


def _layer(name: str, setting: Setting, kernels: bool, backward: bool) -> Run:
    torch.manual_seed(setting.seed)
    module, side = forms.LAYERS[name](CHANNELS).to(setting.device), setting.sizes.speed
    x = torch.randn(setting.sizes.batch, CHANNELS, side, side).to(setting.device).requires_grad_(backward)
    trained = [x, *module.parameters()]

    def run() -> list[list[Tensor]]:
        with use_kernels(kernels), torch.set_grad_enabled(backward):
            y = module(x)
            grads = torch.autograd.grad(y, trained, torch.ones_like(y)) if backward else ()
        return [[y.detach()], list(grads)] if backward else [[y]]

    return run


def layer_speed(setting: Setting, table: Table) -> None:
    """The benchmark of layers; "ours" with kernels."""
    table.remarks.append("Ratios to the first of each three or four; `python -m benchmarks.layers` measures the same.")
    with triton():
        sets = layers.cases_of(setting.sizes.speed, setting.seed, setting.device)
        left = table.left() / len(sets)
        for title, cases in sets.items():
            subject, _, column = title.replace(" float32", "").rpartition(", ")
            cases = [case._replace(limit=case.limit and LIMIT_FORWARD) for case in cases]
            outcomes = take_turns(cases, setting.sizes.repeats, setting.device, left)
            for outcome in outcomes:
                _add(table, f"{subject}: {outcome.case.name}", column, outcome, setting)
            _judge(table, title, outcomes)


def unet_speed(setting: Setting, table: Table) -> None:
    """The benchmark of networks; "ours" with kernels."""
    size = setting.sizes
    data = networks.Data(size.speed, setting.seed, setting.device, size.batch)
    table.remarks.append(f"{size.batch} x 1 x {size.speed} x {size.speed}, float32; TF32 as torch has it by default.")
    with triton():
        for part, share in zip(networks.PARTS, (0.4, 0.4, 0.6, 1), strict=True):
            cases = [_loosen(case) for case in networks.cases_of(part, data)]
            if part.endswith("precisions"):
                if setting.device.type == "cpu":
                    break
                cases = [case for case in cases if "bf16" in case.name or case.name == networks.BASELINE]
            outcomes = take_turns(cases, size.repeats, setting.device, share * table.left())
            for outcome in outcomes:
                if not part.endswith("precisions") or outcome.case.name != networks.BASELINE:
                    _add(table, outcome.case.name, part.removesuffix("-precisions"), outcome, setting)
            if part == "inference":
                for outcome in outcomes:
                    table.add(outcome.case.name, shift_error=networks.shift_error(outcome.case.name, data))
            _judge(table, part, outcomes)
            if part == "training":
                table.kernels_to_torch = _by(outcomes, networks.APS, KERNELS_OFF)


def _loosen(case: Case) -> Case:
    """Its limit, but not below what plain torch's own float32 statistics need; none for scores in float32."""
    return (
        case._replace(limit=None)
        if case.limit is None or case.name.startswith("published")
        else case._replace(limit=max(case.limit, LIMIT_FORWARD))
    )


def resnet_speed(setting: Setting, table: Table) -> None:
    """ResNet-18 (on a CPU ResNet-20): a training step and inference of each variant."""
    form, name = ("cifar", "resnet20") if setting.device.type == "cpu" else ("imagenet", "resnet18")
    side, batch = setting.sizes.photograph, setting.sizes.photographs
    table.remarks.append(f"{form} {name}, {batch} x 3 x {side} x {side}, float32; TF32 as torch has it by default.")
    variants: list[tuple[str, dict[str, Any], bool]] = [
        ("stride, zeros (torchvision's)", {"sampling": "stride", "padding": "zeros"}, False),
        ("stride", {"sampling": "stride"}, False),
        ("lpf", {"sampling": "lpf"}, False),
        ("aps", {"sampling": "aps"}, False),
        ("aps, kernels", {"sampling": "aps"}, True),
    ]
    with triton():
        for train, share in ((True, 0.5), (False, 1.0)):
            cases = [
                Case(title, partial(_classify, form, name, settings, kernels, train, setting))
                for title, settings, kernels in variants
            ]
            outcomes = take_turns(cases, setting.sizes.repeats, setting.device, share * table.left())
            for outcome in outcomes:
                _add(table, outcome.case.name, "training" if train else "inference", outcome, setting)


def _classify(form: str, name: str, settings: dict[str, Any], kernels: bool, train: bool, setting: Setting) -> Run:
    torch.manual_seed(setting.seed)
    network = ResNet(name, form, **settings).to(setting.device).train(train)
    sizes = setting.sizes
    x = torch.randn(sizes.photographs, 3, sizes.photograph, sizes.photograph).to(setting.device)
    labels = torch.arange(sizes.photographs, device=setting.device) % 10
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)

    def run() -> list[list[Tensor]]:
        with use_kernels(kernels), torch.set_grad_enabled(train):
            logits = network(x)
            if train:
                optimizer.zero_grad()
                F.cross_entropy(logits, labels).backward()
                optimizer.step()
        return [[logits.detach()]]

    return run


def compiled(setting: Setting, table: Table) -> None:
    """torch.compile of U-Nets: what compiling takes, and its time by the eager one's."""
    if setting.device.type == "cpu":
        raise Skipped("torch.compile is measured on a GPU alone")
    table.remarks.append("Inference and training step compiled, by the same eagerly; seconds of the first call.")
    data = networks.Data(setting.sizes.speed, setting.seed, setting.device, setting.sizes.batch)
    with triton():
        for name in (KERNELS_OFF, networks.APS, "ours, stride"):
            for part, prepare in (("inference", networks.inference), ("training", networks.training)):
                torch.compiler.reset()
                run = prepare(name, data, compiles=True)
                table.add(name, **{f"{part}, compiling s": seconds(run, setting.device)})
                runs = [prepare(name, data), run]
                times = interleave(runs, setting.sizes.repeats, setting.device, table.left() / 4)
                table.add(name, **{f"{part}, ratio": float(np.median(times[:, 1] / times[:, 0]))})


def _add(table: Table, row: str, column: str, outcome: Outcome, setting: Setting) -> None:
    """Time and ratio, and on a GPU the memory that a run adds."""
    table.add(row, **{f"{column}, ratio": outcome.ratio, f"{column}, ms": _ms(outcome)})
    if setting.device.type == "cuda":
        table.add(row, **{f"{column}, peak MB": peak(outcome.case.prepare, setting.device)})
        torch.cuda.empty_cache()


def _ms(outcome: Outcome) -> float:
    return 1e3 * float(np.median(outcome.seconds))


def _by(outcomes: Sequence[Outcome], name: str, other: str) -> float:
    """The median over the turns of one case's time by another's."""
    times = {outcome.case.name: outcome.seconds for outcome in outcomes}
    return float(np.median(times[name] / times[other]))


def _judge(table: Table, what: str, outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.failed:
            case = outcome.case
            table.faults.append(
                f"{what}: {case.name} differs from {case.same_as} by {outcome.difference:.1e}, above {case.limit:.0e}"
            )
