"""The Triton kernels against the compiled loops for the CPU; without a GPU they run in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from recon.kernels.switches import compiles

if find_spec("triton") is None or not compiles():
    pytest.skip("needs triton and numba", allow_module_level=True)

from recon.kernels import join_cpu, normalise_cpu, pool_cpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # triton asks once, when it is imported
DTYPES = [torch.float32, torch.float64]
SIZES = [(4, 6), (18, 134)]  # the last one takes several tiles


CPU = SimpleNamespace(**vars(pool_cpu) | vars(join_cpu) | vars(normalise_cpu))


@pytest.fixture
def cuda() -> SimpleNamespace:
    if DEVICE == "cpu" and not INTERPRETED:
        pytest.skip("no GPU: test_in_the_interpreter runs it")
    from recon.kernels import join_cuda, normalise_cuda, pool_cuda

    return SimpleNamespace(**vars(pool_cuda) | vars(join_cuda) | vars(normalise_cuda))


def images(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def on_device(x):
    if isinstance(x, torch.Tensor):
        return x.to(DEVICE)
    return [on_device(y) for y in x] if isinstance(x, list) else x


def both(cuda, name, *inputs):
    """What a function's two forms return, as lists of CPU tensors: the kernels', the loops'."""
    found = [getattr(cuda, name)(*map(on_device, inputs)), getattr(CPU, name)(*inputs)]
    one, other = ([y.cpu() for y in ([f] if isinstance(f, torch.Tensor) else f)] for f in found)
    assert [(y.shape, y.dtype) for y in one] == [(y.shape, y.dtype) for y in other]
    return one, other


def assert_same_bits(cuda, name, *inputs):
    one, other = both(cuda, name, *inputs)
    for y, expected in zip(one, other, strict=True):
        torch.testing.assert_close(y, expected, rtol=0, atol=0, equal_nan=True)
    return other


@pytest.mark.skipif(DEVICE == "cuda" or INTERPRETED, reason="the other tests of this file run the kernels themselves")
def test_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_pool(cuda, size, dtype):
    x = images(4, 2, *size, dtype=dtype)
    for sample, move in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):  # a sample of each phase
        x[sample] = x[0].roll(move, (1, 2))
    pooled, phase, where = assert_same_bits(cuda, "pool", x)
    assert len(set(phase.tolist())) == 4
    assert_same_bits(cuda, "pool_back", images(*pooled.shape, dtype=dtype, seed=1), phase, where)


def test_pool_of_ties_strided_memory_and_values_that_are_not_finite(cuda):
    ties = images(2, 3, 10, 26).round()
    assert_same_bits(cuda, "pool", ties)
    assert_same_bits(cuda, "pool", torch.zeros(1, 2, 4, 6))
    assert_same_bits(cuda, "pool", images(2, 3, 26, 10).mT)
    for value in (torch.nan, torch.inf, -torch.inf):
        bad = ties.clone()
        bad[0, 0, 3, 3] = bad[1, 1, -1, 2:5] = value
        assert_same_bits(cuda, "pool", bad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (0, 2, 3, 0), (9, 4, 6, 15)])
def test_join_and_its_adjoint(cuda, pads, dtype):
    size, shifts = (4, 6), torch.tensor([[0, 0], [0, 1], [1, 0], [-17, 41]])  # every phase
    first, last = images(4, 1, *size, dtype=dtype), images(4, 2, *size, dtype=dtype, seed=1)
    phases = images(4, 8, 2, 3, dtype=dtype, seed=2)
    for x, by in (([first, last], None), ([first], phases)):
        (y,) = assert_same_bits(cuda, "join", x, by, shifts, list(pads))
        grad = images(*y.shape, dtype=dtype, seed=3)
        assert_same_bits(cuda, "join_back", grad, [1, 2], by is not None, list(size), shifts, list(pads))


def test_join_of_several_tiles_without_shifts(cuda):
    x, phases, pads = [images(1, 2, *SIZES[-1])], images(1, 4, 9, 67), [1, 1, 1, 1]
    (y,) = assert_same_bits(cuda, "join", x, phases, None, pads)
    assert_same_bits(cuda, "join_back", images(*y.shape), [2, 1], True, list(SIZES[-1]), None, pads)


def test_join_crops_by_negative_pads_and_reads_strided_memory(cuda):
    x, shifts = [images(2, 3, 26, 10).mT], torch.tensor([[3, 0], [1, 7]]).T
    assert_same_bits(cuda, "join", x, None, shifts, [2, -1, -3, 0])


def test_half_precision(cuda):
    x = images(2, 3, 10, 26, dtype=torch.float16)
    pooled, phase, _ = cuda.pool(on_device(x))
    expected, expected_phase, _ = CPU.pool(x.float())
    assert torch.equal(pooled.cpu().float(), expected)
    assert torch.equal(phase.cpu(), expected_phase)
    joined = cuda.join([on_device(x)], None, None, [1, 1, 2, 0]).cpu()
    assert torch.equal(joined.float(), CPU.join([x.float()], None, None, [1, 1, 2, 0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("size", "over", "slope", "pad"),
    [((4, 6), "plane", 0.0, 3), (SIZES[-1], "plane", 0.01, 1), (SIZES[-1], "batch", 0.2, 0), ((4, 6), "given", 0.1, 1)],
)
def test_normalise(cuda, size, over, slope, pad, dtype):
    tolerance = {torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    x = 3 * images(2, 2, *size, dtype=dtype) + 5
    weight, bias = images(2, dtype=dtype, seed=1), images(2, dtype=dtype, seed=2)
    given = torch.stack([images(2) + 5, images(2, seed=3).abs()], dim=1) if over == "given" else None
    one, other = both(cuda, "normalise", x, weight, bias, given, over, 1e-5, slope, pad)
    torch.testing.assert_close(one[0], other[0], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(one[1], other[1], rtol=1e-12, atol=1e-12)
    grad = images(*other[0].shape, dtype=dtype, seed=4)
    one, other = both(cuda, "normalise_back", grad, x, weight, bias, other[1], over, slope, pad)
    for y, expected in zip(one, other, strict=True):
        torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("over", ["plane", "batch"])
def test_normalise_shows_what_is_not_finite(cuda, over):
    x, weight, bias = images(2, 2, 4, 6), images(2, seed=1), images(2, seed=2)
    x[0, 0, 1, 1] = torch.nan
    one, other = both(cuda, "normalise", x, weight, bias, None, over, 1e-5, 0.1, 1)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)
    assert one[0][0, 0].isnan().all()
