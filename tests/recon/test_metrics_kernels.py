"""The compiled loops of recon.metrics: the reference form is their truth, in every regime and however they run."""

import itertools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import metrics as benchmark
from recon.kernels import metrics_cpu
from recon.kernels.runner import compiled
from recon.metrics import equivariance
from recon.metrics.quality import differences, ssim_terms

torch.set_num_threads(1)

REGIMES = {
    "plain": (0.0, 1.0),
    "fastMRI scale": (0.0, 1e-5),
    "large offset": (1e4, 1e-2),
    "negative offset": (-1e4, 1e2),
    "constant": (3.0, 0.0),
    "blank": (0.0, 0.0),
}
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def draw(size, regime="plain", dtype=torch.float32, seed=0):
    """Two stacks of images and a data range for each slice."""
    offset, scale = REGIMES[regime]
    generator = torch.Generator().manual_seed(seed)
    target = torch.randn(size, generator=generator, dtype=torch.float64)
    preds = target + 0.3 * torch.randn(size, generator=generator, dtype=torch.float64)
    data_range = (scale or 1.0) * torch.linspace(1, 5, size[0], dtype=torch.float64)
    return (preds * scale + offset).to(dtype), (target * scale + offset).to(dtype), data_range


def values(preds, target, data_range):
    """Every number of each slice, ``(slices, 4)``."""
    return torch.stack([*differences(preds, target), ssim_terms(preds, target, data_range)[0]], dim=1).detach()


def plain_values(preds, target, data_range):
    """The same by the plain form: a gradient is wanted."""
    return values(preds.clone().requires_grad_(), target, data_range)


def test_each_form_runs_where_it_should(monkeypatch):
    preds, target, data_range = draw((2, 9, 8))
    calls = []
    for name in ("differences", "similarity"):
        monkeypatch.setattr(metrics_cpu, name, lambda *arguments, name=name: calls.append(name) or torch.zeros(2, 3))
    differences(preds.requires_grad_(), target)
    ssim_terms(preds, target, data_range)
    ssim_terms(preds.detach(), target, data_range.clone().requires_grad_())
    assert not calls
    differences(preds.detach(), target)
    with torch.no_grad():
        ssim_terms(preds, target, data_range)
    assert calls == ["differences", "similarity"]


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 4), st.integers(7, 40), st.integers(7, 40)),
    st.sampled_from(list(REGIMES)),
    st.sampled_from(DTYPES),
    st.integers(0, 1000),
)
def test_equals_the_plain_form(size, regime, dtype, seed):
    images = draw(size, regime, dtype, seed)
    torch.testing.assert_close(values(*images), plain_values(*images), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("size", [(1, 7, 7), (2, 7, 300), (2, 300, 7), (1, 64, 65), (3, 320, 320)])
@pytest.mark.parametrize("regime", REGIMES)
def test_equals_the_plain_form_at_edges(size, regime):
    images = draw(size, regime)
    torch.testing.assert_close(values(*images), plain_values(*images), rtol=1e-12, atol=1e-13)


def similarity_by(window_sum, p, g, data_range):
    """SSIM of one slice with some way to sum over windows, in the precision of its images."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    u, v, pg, squares = (window_sum(x) / 49 for x in (p, g, p * g, p * p + g * g))
    covariance, variances = (pg - u * v) * 49 / 48, (squares - u * u - v * v) * 49 / 48
    return float(((2 * u * v + c1) * (2 * covariance + c2) / ((u * u + v * v + c1) * (variances + c2))).mean())


def running_sum(x):
    table = np.pad(x, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return table[7:, 7:] - table[7:, :-7] - table[:-7, 7:] + table[:-7, :-7]


def direct_sum(x):
    return np.lib.stride_tricks.sliding_window_view(x, (7, 7)).sum((2, 3))


def test_offset_cancels_where_running_sums_fail():
    """Against extended precision; control: differences of running sums."""
    ours, control = [], []
    for seed in range(4):
        preds, target, _ = (x + 1e5 for x in draw((1, 100, 100), dtype=torch.float64, seed=seed))
        p, g = preds[0].numpy(), target[0].numpy()
        truth = similarity_by(direct_sum, p.astype(np.longdouble), g.astype(np.longdouble), 5.0)
        ours.append(abs(values(preds, target, 5.0)[0, 3].item() - truth))
        control.append(abs(similarity_by(running_sum, p, g, 5.0) - truth))
    assert max(ours) < 1e-7
    assert max(control) > 1e-6


@pytest.mark.parametrize("form", [values, plain_values])
@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_neither_batch_nor_threads_change_a_bit(form, n_threads, monkeypatch):
    monkeypatch.setattr(metrics_cpu, "THREAD_PIXELS", 1)
    for size in ((5, 31, 33), (4, 120, 200)):
        preds, target, data_range = draw(size)
        alone = [form(preds[i : i + 1], target[i : i + 1], data_range[i : i + 1]) for i in range(size[0])]
        torch.set_num_threads(n_threads)
        try:
            for start, stop in itertools.combinations(range(size[0] + 1), 2):
                batch = form(preds[start:stop], target[start:stop], data_range[start:stop])
                assert batch.equal(torch.cat(alone[start:stop]))
        finally:
            torch.set_num_threads(1)


def test_calls_from_several_threads(monkeypatch):
    monkeypatch.setattr(metrics_cpu, "THREAD_PIXELS", 1)
    cases = [draw((3, 60, 70), seed=seed) for seed in range(8)]
    wanted = [values(*case) for case in cases]
    torch.set_num_threads(2)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda case: values(*case), cases * 4))
    finally:
        torch.set_num_threads(1)
    assert all(one.equal(other) for one, other in zip(found, wanted * 4, strict=True))


def test_any_layout_and_type():
    preds, target, data_range = draw((3, 20, 30))
    wanted = values(preds, target, data_range)
    layouts = {
        "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
        "cropped": lambda x: torch.nn.functional.pad(x, (3, 2, 1, 4))[:, 1:-4, 3:-2],
        "negative view": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
        "float64": lambda x: x.double(),
        "inference": torch.inference_mode()(lambda x: x.clone()),
    }
    for first, second in itertools.product(layouts.values(), repeat=2):
        assert values(first(preds), second(target), data_range).equal(wanted)
    integers = [(10 * x).round() for x in (preds, target)]
    assert values(*[x.to(torch.int16) for x in integers], data_range).equal(values(*integers, data_range))
    same = preds[:1].expand(3, -1, -1)
    assert values(same, target, data_range)[0].equal(wanted[0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("which", [0, 1])
def test_bad_pixels_spoil_their_slice_only(bad, which):
    images = draw((3, 20, 30))
    wanted = values(*images)
    images[which][1, 5, 6] = bad
    found = values(*images)
    torch.testing.assert_close(found, plain_values(*images), rtol=1e-12, atol=1e-13, equal_nan=True)
    assert not found[1].isfinite().any() or which == 0
    assert found[[0, 2]].equal(wanted[[0, 2]])
    assert equivariance(*images).max_abs[1].isfinite().logical_not()


def _double(image, out):
    for i in range(len(out)):
        out[i] = 2 * image[i, 0, 0]


@pytest.mark.parametrize("damage", ["no folder", "broken file"])
def test_cache_that_cannot_be_used_does_no_harm(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "UserProvidedCacheLocator")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    if damage == "no folder":
        (tmp_path / "file").touch()
        monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "file"))
    else:
        compiled("number[:, :, ::1], float64[::1]")(_double)(np.ones((2, 1, 1)), np.empty(2))
        files = list(tmp_path.rglob("*.nbi"))
        assert files
        for file in files:
            file.write_bytes(b"")
    out = np.empty(2)
    compiled("number[:, :, ::1], float64[::1]")(_double)(np.ones((2, 1, 1)), out)
    assert out.tolist() == [2, 2]


def test_the_compiler_is_loaded_where_it_is_needed():
    code = "import sys, recon.metrics; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_benchmark(capsys, monkeypatch):
    small = ["--slices=2", "--size=32", "--repeats=1"]
    assert benchmark.main(small) == 0
    assert "together" in capsys.readouterr().out
    assert benchmark.main(["--repeats=0"]) == 2
    monkeypatch.setitem(benchmark.RECON_METRICS, "nmse", lambda p, g, _: torch.zeros(len(p), dtype=torch.float64))
    assert benchmark.main(small) == 1
    assert "differ" in capsys.readouterr().err
