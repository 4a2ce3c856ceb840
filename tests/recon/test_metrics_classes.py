"""recon.metrics as torchmetrics classes: equal to the function on whole volumes, however the slices arrive."""

import copy
import math
from itertools import pairwise

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import MetricCollection

from recon import metrics
from recon.errors import InputError
from recon.metrics import NMSE, PSNR, SSIM, Equivariance, equivariance

torch.set_num_threads(1)

CLASSES = {"psnr": PSNR, "nmse": NMSE, "ssim": SSIM}
N_SLICES = {7: 4, 2: 3, 30: 2}  # per volume number, not in ascending order


def scan():
    """All slices of the volumes: preds, target, data_range, volume, slice."""
    generator = torch.Generator().manual_seed(0)
    volume = torch.cat([torch.full((n,), number) for number, n in N_SLICES.items()])
    slice_ = torch.cat([torch.arange(n) for n in N_SLICES.values()])
    target = torch.rand(len(volume), 12, 10, generator=generator) * (1 + volume[:, None, None])
    preds = target + torch.randn(target.shape, generator=generator) * (0.1 + slice_[:, None, None])
    peaks = {number: target[volume == number].max() for number in N_SLICES}
    return preds, target, torch.stack([peaks[number] for number in volume.tolist()]), volume, slice_


def expected(name):
    """One value per volume, ascending, by the function."""
    preds, target, data_range, volume, _ = scan()
    values = []
    for number in sorted(N_SLICES):
        chosen = volume == number
        arguments = () if name == "nmse" else (data_range[chosen][0],)
        values.append(getattr(metrics, name)(preds[chosen], target[chosen], *arguments))
    return torch.stack(values)


def pick(index):
    return [column[index] for column in scan()]


def close(actual, wanted):
    torch.testing.assert_close(actual, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_split_order_and_repetition(name, data):
    n = sum(N_SLICES.values())
    order = data.draw(st.permutations(range(n))) + data.draw(st.lists(st.integers(0, n - 1), max_size=4))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order) - 1))))
    each, mean = CLASSES[name](reduction="none"), CLASSES[name]()
    for start, stop in pairwise([0, *cuts, len(order)]):
        each.update(*pick(order[start:stop]))
        mean(*pick(order[start:stop]))  # forward
    close(each.compute(), expected(name))
    close(mean.compute(), expected(name).mean())


def test_first_of_repeated_slices_counts():
    metric = PSNR()
    metric.update(*pick([0, 1, 2, 3]))
    preds, *rest = pick([2])
    metric.update(preds + 1, *rest)
    close(metric.compute(), expected("psnr")[1])


def test_collection_reset_and_copy():
    collection = MetricCollection({name: cls() for name, cls in CLASSES.items()})
    for _ in range(2):
        for index in ([0, 1, 2, 3, 4], [5, 6, 7, 8]):
            collection.update(*pick(index))
        values = copy.deepcopy(collection).compute()
        for name in CLASSES:
            close(values[name], expected(name).mean())
        collection.reset()


def test_identical_volume_is_infinitely_good():
    image = torch.rand(2, 8, 8)
    metric = PSNR()
    metric.update(image, image, 1.0, torch.zeros(2), torch.arange(2))
    assert metric.compute().isinf()


def test_blank_slice_is_allowed_and_blank_volume_refused():
    preds = torch.rand(3, 8, 8)
    target = preds * torch.tensor([0.0, 0.0, 1.0])[:, None, None]
    metric = NMSE()
    metric.update(preds, target, 1.0, torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
    with pytest.raises(InputError, match="zero everywhere"):
        metric.compute()
    metric.reset()
    metric.update(preds[1:], target[1:], 1.0, torch.tensor([1, 1]), torch.tensor([0, 1]))
    close(metric.compute(), metrics.nmse(preds[1:], target[1:]))


def test_unknown_reduction_is_refused():
    with pytest.raises(InputError, match="mean or none"):
        PSNR(reduction="sum")


@pytest.mark.parametrize("convert", ["half", "float", "to_half", "to_bfloat16", "set_dtype", "to_cpu"])
def test_state_stays_float64(convert):
    metric = SSIM()
    calls = {
        "half": lambda m: torch.nn.ModuleList([m]).half(),
        "float": lambda m: m.float(),
        "to_half": lambda m: m.to(torch.float16),
        "to_bfloat16": lambda m: torch.nn.ModuleList([m]).to(torch.bfloat16),
        "set_dtype": lambda m: m.set_dtype(torch.float32),
        "to_cpu": lambda m: m.to("cpu"),
    }
    metric.update(*pick(slice(0, 5)))
    calls[convert](metric)
    metric.update(*pick(slice(5, None)))
    assert metric.dtype == torch.float64
    close(metric.compute(), expected("ssim").mean())


def test_state_keeps_no_graph():
    preds, *rest = scan()
    metric = SSIM()
    metric(preds.requires_grad_(), *rest)
    assert not any(rows.requires_grad for rows in metric.rows)


@pytest.mark.parametrize("cls", [*CLASSES.values(), Equivariance])
def test_moves_to_a_device(cls):
    devices = ["cpu", "meta", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in devices:
        assert cls().to(device).device.type == device
    if torch.cuda.is_available():
        arguments = scan() if cls is not Equivariance else scan()[:3]
        host, device = cls(), cls().to("cuda")
        host.update(*arguments)
        device.update(*(a.cuda() for a in arguments))
        torch.testing.assert_close(device.compute(), host.compute(), check_device=False, rtol=1e-10, atol=1e-10)


def test_compute_before_update_warns():
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert PSNR().compute().isnan()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert Equivariance().compute() == {"n_cases": 0, "n_exact": 0, "n_blank": 0}


def test_equivariance_summary():
    preds, target, *_ = scan()
    target[3] = preds[3]
    preds[5], target[5] = 1, 0
    metric = Equivariance()
    metric.update(preds[:4], target[:4])
    metric.update(preds[4:], target[4:])
    error, summary = equivariance(preds, target), metric.compute()
    close(summary["nmse_mean"], error.nmse[error.nmse.isfinite()].mean())
    close(summary["nmse_max"], error.nmse[error.nmse.isfinite()].max())
    close(summary["max_abs"], error.max_abs.max())
    for name in ("psnr", "ssim"):
        values = getattr(error, name)[~error.equal]
        close(summary[f"{name}_mean"], values.mean())
        close(summary[f"{name}_min"], values.min())
    assert [summary[key].item() for key in ("n_cases", "n_exact", "n_blank")] == [9, 1, 1]
    assert all(math.isfinite(value) for value in summary.values())


def test_equivariance_summary_of_exact_cases():
    image = torch.rand(2, 8, 8)
    metric = Equivariance()
    metric.update(image, image, torch.tensor([1.0, 2.0]))
    assert metric.compute() == {"n_cases": 2, "n_exact": 2, "n_blank": 0, "max_abs": 0, "nmse_mean": 0, "nmse_max": 0}


def run_process(rank, folder):
    """One of two processes: sees half of the slices (the last one wraps round), then nothing on rank 1."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=2)
    n = sum(N_SLICES.values())
    mine = [i % n for i in range(n + n % 2)][rank::2]
    values = {}
    for name, cls in CLASSES.items():
        shared, lonely = cls(reduction="none"), cls(reduction="none").to("cpu")
        for index in mine:
            shared.update(*pick([index]))
        if rank == 0:
            lonely.update(*scan())
        values[name] = (shared.compute(), lonely.compute())
    preds, target, *_ = scan()
    metric = Equivariance()
    metric.update(preds[mine], target[mine], case=torch.tensor(mine))
    values["equivariance"] = metric.compute()
    torch.save(values, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes(tmp_path):
    assert sum(N_SLICES.values()) % 2  # so that one slice is repeated
    torch.multiprocessing.spawn(run_process, (tmp_path,), nprocs=2)
    whole = Equivariance()
    whole.update(*scan()[:2])
    for rank in range(2):
        values = torch.load(tmp_path / f"{rank}.pt")
        for name in CLASSES:
            for actual in values[name]:
                close(actual, expected(name))
        close(values["equivariance"], whole.compute())
