"""The compiled loops of the layers against the reference forms, which are their truth."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import recon
from recon.kernels.runner import parallel_for
from recon.kernels.switches import compiles
from recon.layers import MaxNorm, PolyphaseMaxPool, circular_pad, circular_shift, use_kernels
from recon.networks import UNet, record_margins
from tests.properties import shift_error

SIZES = [(4, 6), (16, 8), (10, 26), (32, 64)]


@pytest.fixture(autouse=True)
def number_of_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def images(size, dtype=torch.float64, channels=3):
    x = torch.randn(2, channels, *size, dtype=dtype, generator=torch.Generator().manual_seed(0))
    return x.requires_grad_()


def both(f, *inputs):
    """The outcome and the gradient with the loops, and without."""
    found = []
    for use in (True, False):
        with use_kernels(use):
            assert compiles() == use
            y = f(*inputs)
            weight = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
            found.append((y.detach(), torch.autograd.grad((y * weight).sum(), inputs[0])[0]))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", SIZES)
def test_pool_is_the_plain_one_bit_for_bit(size, dtype):
    pool = PolyphaseMaxPool(2, 2, selector=MaxNorm())
    (y, grad), (plain, plain_grad) = both(lambda x: pool(x)[0], images(size, dtype))
    assert torch.equal(y, plain)
    assert torch.equal(grad, plain_grad)
    with use_kernels(False):
        expected = pool(images(size, dtype))[1]
    assert torch.equal(pool(images(size, dtype))[1], expected)


@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((0, 2), (3, 0)), ((4, 4), (6, 5))])
def test_pad_and_its_adjoint_are_the_plain_ones(pads):
    (y, grad), (plain, plain_grad) = both(lambda x: circular_pad(x, pads), images((4, 6)))
    assert torch.equal(y, plain)
    torch.testing.assert_close(grad, plain_grad, rtol=1e-14, atol=1e-14)
    index = torch.arange(-pads[0][0], 4 + pads[0][1]) % 4
    columns = torch.arange(-pads[1][0], 6 + pads[1][1]) % 6
    assert torch.equal(y, images((4, 6)).detach()[:, :, index][:, :, :, columns])


def test_shift_is_roll():
    moves = torch.tensor([[3, -5], [-17, 40]])
    (y, grad), (plain, plain_grad) = both(lambda x: circular_shift(x, moves), images((10, 26)))
    assert torch.equal(y, plain)
    assert torch.equal(grad, plain_grad)
    assert torch.equal(y[1], images((10, 26)).detach()[1].roll((-17, 40), (1, 2)))


def test_gradients_by_finite_differences():
    x = images((4, 6), channels=1)
    assert torch.autograd.gradcheck(lambda x: PolyphaseMaxPool(2, 2, selector=MaxNorm())(x)[0], x)
    assert torch.autograd.gradcheck(lambda x: circular_pad(x, ((1, 2), (2, 1))), x)
    assert torch.autograd.gradgradcheck(lambda x: circular_pad(x, ((1, 2), (2, 1))), x)


def test_strided_memory_and_values_that_are_not_finite():
    pool = PolyphaseMaxPool(2, 2, selector=MaxNorm())
    x = images((6, 16)).detach().mT
    (y, _), (plain, _) = both(lambda x: pool(x)[0], x.clone().requires_grad_())
    assert torch.equal(pool(x)[0], y)
    assert torch.equal(y, plain)
    bad = x.clone()
    bad[0, 0, 3, 3] = torch.nan
    assert pool(bad)[0][0].isnan().any()  # a diverging network is noticed


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_nothing(threads):
    torch.set_num_threads(threads)
    done = torch.zeros(7, dtype=torch.int64)

    def count(start: int, stop: int) -> None:
        done[start:stop] += 1

    parallel_for(count, 7, 10**9)
    assert done.tolist() == [1] * 7
    x = images((256, 320), torch.float32, channels=8).detach()
    pool = PolyphaseMaxPool(2, 2, selector=MaxNorm())
    y, phase = pool(x)
    torch.set_num_threads(1)
    assert torch.equal(pool(x)[0], y)
    assert torch.equal(pool(x)[1], phase)


def test_what_fails_in_a_thread_is_raised():
    torch.set_num_threads(2)

    def fail(start: int, stop: int) -> None:
        raise ValueError(f"part {start}")

    with pytest.raises(ValueError, match="part"):
        parallel_for(fail, 7, 10**9)


def test_python_s_threads_do_the_same_where_torch_has_no_openmp_of_gnu(monkeypatch):
    x = images((256, 320), torch.float32, channels=8).detach()
    torch.set_num_threads(2)
    y = circular_pad(x, [(1, 1), (1, 1)])
    monkeypatch.setattr("recon.kernels.runner._openmp", lambda: None)
    assert torch.equal(circular_pad(x, [(1, 1), (1, 1)]), y)


def test_a_forked_process_computes_the_same():
    torch.set_num_threads(2)
    x = images((256, 320), torch.float32, channels=8).detach()
    y = circular_pad(x, [(1, 1), (1, 1)])  # with threads
    child = os.fork()
    if child == 0:  # like a loader's worker, which torch gives one thread
        torch.set_num_threads(1)
        os._exit(0 if torch.equal(circular_pad(x, [(1, 1), (1, 1)]), y) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_networks_are_exact_and_agree():
    torch.manual_seed(0)
    network = UNet(widths=(4, 6, 8), norm="instance").double().eval()
    x = images((16, 24), channels=1).detach()
    assert shift_error(network, x) < 1e-10
    with use_kernels(False):
        plain = network(x)
    torch.testing.assert_close(network(x), plain, rtol=1e-12, atol=1e-12)
    with record_margins(network) as margins:  # who watches the selector sees it
        network(x)
    assert len(margins) == 2


WITHOUT = """
import sys
sys.modules["numba"] = None  # importing it fails
import torch
from recon import UNet, ssim
from recon.physics.ct import LODOPAB, fbp
x = torch.randn(1, 1, 16, 16)
print(UNet(widths=(4, 6), norm="instance").eval()(x).shape, ssim(x[0], x[0], 1.0))
"""


def test_without_numba_everything_runs_and_it_is_said_once():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 1, 16, 16])" in done.stdout
    assert (done.stdout + done.stderr).count("numba cannot be imported") == 1


def test_without_a_place_for_the_cache_everything_runs(tmp_path):
    package = tmp_path / "recon"
    shutil.copytree(Path(recon.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "kernels" / "__pycache__").touch()  # a file where the folder would be: it stops even root
    pad = "recon.layers.circular_pad(torch.ones(1, 1, 2, 2), [(1, 1)] * 2)"
    says = f"import recon, torch; print(recon.__file__); print({pad})"
    environment = {"PATH": os.environ["PATH"], "XDG_CACHE_HOME": os.devnull, "HOME": os.devnull}
    environment |= {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", says], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(package))
    assert "[1., 1., 1., 1.]" in done.stdout
    assert not list(package.rglob("*.nbi"))
