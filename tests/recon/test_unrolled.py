"""Networks with the measurement inside: exact from k-space to image, beside controls that fail; fastMRI's VarNet."""

from __future__ import annotations

import fastmri.models
import pytest
import torch
from fastmri.models.varnet import NormUnet
from torch.autograd import gradcheck

from recon.errors import InputError
from recon.networks import ComplexUNet, MoDL, VarNet
from recon.networks.modl import solve
from recon.physics import mri

SMALL = {"widths": (4, 6, 8), "maps_widths": (4, 6)}
NETWORKS = {
    "VarNet": lambda **settings: VarNet(n_cascades=2, **SMALL, **settings),
    "VarNet in k-space": lambda **settings: VarNet(n_cascades=2, form="kspace", **SMALL, **settings),
    "VarNet, phase kept": lambda **settings: VarNet(n_cascades=2, phase_correction=False, **SMALL, **settings),
    "MoDL": lambda **settings: MoDL(n_cascades=2, n_cg_steps=4, **SMALL, **settings),
    "MoDL, weights of their own": lambda **settings: MoDL(n_cascades=2, shared=False, **SMALL, **settings),
}
EVERY = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
ROWS, COLUMNS = 16, 24
MASK = torch.zeros(COLUMNS, dtype=torch.bool)
MASK[[1, 4, 6, 10, 11, 12, 13, 17, 20, 23]] = True


def network(build, dtype=torch.float64, **settings):
    torch.manual_seed(0)
    return build(**settings).to(dtype).eval()


def measure(n_coils, batch=2):
    generator = torch.Generator().manual_seed(1)
    full = torch.randn(batch, n_coils, ROWS, COLUMNS, dtype=torch.complex128, generator=generator)
    decay = torch.linspace(-1, 1, COLUMNS).abs() * 3 + torch.linspace(-1, 1, ROWS)[:, None].abs() * 3
    return full * torch.exp(-decay)


@torch.no_grad()
def error(f, full, maps=None, n=16, moved_maps=None):
    """The largest |f(T k) - T f(k)| / |f(k)| over n movements before the acquisition by whole pixels."""
    generator = torch.Generator().manual_seed(2)
    before = f(mri.apply_mask(full, MASK), MASK)
    worst = 0.0
    for _ in range(n):
        shift = [int(torch.randint(1, side, (), generator=generator)) for side in (ROWS, COLUMNS)]
        moved = mri.apply_mask(mri.move_object(full, shift, maps), MASK)
        difference = f(moved, MASK) - before.roll(shift, (-2, -1))
        worst = max(worst, float(difference.norm() / before.norm()))
    return worst


@EVERY
@pytest.mark.parametrize(("sampling", "n_coils"), [("aps", 1), ("aps", 4), ("lps", 4)])
def test_the_whole_chain_commutes_with_a_movement_before_the_acquisition(build, sampling, n_coils):
    full = measure(n_coils)
    assert error(network(build, sampling=sampling), full) < 1e-10
    assert error(network(build, sampling="stride"), full) > 1e-4
    assert error(network(build, sampling=sampling, padding="zeros"), full) > 1e-4
    assert error(network(build, torch.float32, sampling=sampling), full.to(torch.complex64)) < 1e-5


@EVERY
def test_estimated_maps_without_training_move_along(build):
    full = measure(4)
    assert error(network(build, maps="espirit"), full) < 1e-10
    assert error(network(build, torch.float32, maps="espirit"), full.to(torch.complex64)) < 1e-5
    assert error(network(build, maps="espirit", sampling="stride"), full) > 1e-4
    assert not [name for name, _ in build(maps="espirit").named_parameters() if "coil_maps" in name]


@EVERY
def test_given_maps_are_taken_and_needed(build):
    f, full = network(build, maps="given"), measure(3)
    maps = torch.randn(2, 3, ROWS, COLUMNS, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))
    maps = maps / mri.rss(maps, 1).unsqueeze(1)
    y, shift = mri.apply_mask(full, MASK), (3, -2)
    moved = mri.apply_mask(mri.move_object(full, shift), MASK)
    with torch.no_grad():
        before = f(y, MASK, maps)
        along, fixed = (f(moved, MASK, found) for found in (maps.roll(shift, (-2, -1)), maps))
    expected = before.roll(shift, (-2, -1))
    assert (along - expected).norm() < 1e-10 * before.norm()
    assert (fixed - expected).norm() > 1e-4 * before.norm(), "control: maps that stay"
    with pytest.raises(InputError, match="3 coils and the network no maps_widths"):
        f(y, MASK)


@EVERY
def test_an_object_that_moves_under_fixed_coils_is_not_exact(build):
    maps = torch.randn(4, ROWS, COLUMNS, dtype=torch.complex128, generator=torch.Generator().manual_seed(3))
    maps = maps / mri.rss(maps, 0)
    assert error(network(build), measure(4)[:1], maps) > 1e-4


@pytest.mark.parametrize("n_coils", [1, 3])
def test_output_for_output_fastmris_varnet(n_coils):
    """With fastMRI's own U-Nets inside, weights and all, our cascades and coil maps are E2E-VarNet."""
    torch.manual_seed(0)
    theirs = fastmri.models.VarNet(num_cascades=2, sens_chans=4, sens_pools=2, chans=4, pools=2).double().eval()
    for i, cascade in enumerate(theirs.cascades):
        torch.nn.init.constant_(cascade.dc_weight, 0.5 + 0.2 * i)
    ours = VarNet(n_cascades=2, form="kspace", phase_correction=False, **SMALL).double().eval()
    for regulariser, cascade in zip(ours.regularisers, theirs.cascades, strict=True):
        regulariser.network = cascade.model.unet
    ours.coil_maps.network.network = theirs.sens_net.norm_unet.unet
    ours.steps.data = torch.cat([cascade.dc_weight.detach() for cascade in theirs.cascades])
    kspace = mri.apply_mask(measure(n_coils)[:, :, :, :16], MASK[4:20])
    mask = MASK[4:20]
    with torch.no_grad():
        maps = ours.coil_maps(kspace, mask)
        coils = ours.unroll(kspace, mri.FourierOperator(mask, maps))
        expected = theirs(torch.view_as_real(kspace), mask[None, None, None, :, None])
    torch.testing.assert_close(mri.rss(coils, 1), expected, rtol=1e-10, atol=1e-12)


def test_image_and_kspace_form_are_the_same_for_one_coil():
    image, kspace = (network(NETWORKS[name]) for name in ("VarNet", "VarNet in k-space"))
    kspace.load_state_dict(image.state_dict())
    y = mri.apply_mask(measure(1), MASK)
    with torch.no_grad():
        torch.testing.assert_close(image(y, MASK), kspace(y, MASK), rtol=1e-10, atol=1e-12)


def test_conjugate_gradients_are_numpys_solve_and_so_is_their_gradient():
    matrix = torch.randn(3, 6, 6, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    matrix = matrix @ matrix.mH + torch.eye(6)
    right = torch.randn(3, 6, dtype=torch.complex128, generator=torch.Generator().manual_seed(1))

    def solved(matrix, right, n_steps=6):
        hermitian = (matrix + matrix.mH) / 2
        return solve(lambda z: (hermitian @ z[..., None])[..., 0], right, n_steps)

    expected = torch.linalg.solve(matrix, right)
    torch.testing.assert_close(solved(matrix, right), expected, rtol=1e-8, atol=1e-10)
    assert (solved(matrix, right, n_steps=2) - expected).norm() > 1e-3 * expected.norm()
    assert not solved(matrix, torch.zeros_like(right)).any()
    assert gradcheck(lambda m, b: solved(m, b, 12), (matrix.requires_grad_(), right.requires_grad_()))


def test_saving_memory_changes_no_gradient():
    y = mri.apply_mask(measure(2), MASK)
    gradients = []
    for save_memory in (False, True):
        f = network(NETWORKS["VarNet"], save_memory=save_memory)
        f(y, MASK).abs().square().sum().backward()
        gradients.append({name: p.grad for name, p in f.named_parameters()})
    assert all(p is not None for p in gradients[0].values())
    torch.testing.assert_close(gradients[0], gradients[1])


def kept_for_the_backward_pass(f, *arguments):
    """Bytes of the tensors that autograd keeps."""
    sizes = []

    def keep(tensor):
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        f(*arguments)
    return sum(sizes)


def test_modls_memory_does_not_grow_with_its_steps_nor_varnets_with_what_a_cascade_holds():
    y = mri.apply_mask(measure(2), MASK)
    modl = [kept_for_the_backward_pass(network(MoDL, n_cascades=2, n_cg_steps=n, **SMALL), y, MASK) for n in (2, 20)]
    assert modl[0] == modl[1] > 0
    more = kept_for_the_backward_pass(network(MoDL, n_cascades=4, n_cg_steps=2, **SMALL), y, MASK)
    assert more > 1.5 * modl[0]  # the control
    saving, plain = (
        kept_for_the_backward_pass(network(VarNet, n_cascades=4, save_memory=m, **SMALL), y, MASK)
        for m in (True, False)
    )
    assert saving < plain / 2


def test_given_maps_and_one_mask_per_sample():
    f, full = network(NETWORKS["VarNet"]), measure(3)
    maps = full / mri.rss(full, 1).unsqueeze(1)
    masks = torch.stack([MASK, MASK.roll(1) | MASK])
    y = mri.apply_mask(full, masks[:, None, None])
    with torch.no_grad():
        both = f(y, masks, maps)
        alone = torch.cat([f(y[i : i + 1], masks[i], maps[i]) for i in range(2)])
    torch.testing.assert_close(both, alone, rtol=1e-9, atol=1e-10)


def test_coil_maps_have_root_sum_of_squares_one():
    f, full = network(NETWORKS["VarNet"]), measure(4)
    with torch.no_grad():
        maps = f.coil_maps(full, MASK)
    torch.testing.assert_close(mri.rss(maps, 1), torch.ones(2, ROWS, COLUMNS, dtype=torch.float64))


def test_calibration_lines_are_fastmris():
    sensitivity = fastmri.models.varnet.SensitivityModel(4, 2)
    for seed in range(20):
        mask = torch.rand(3, COLUMNS, generator=torch.Generator().manual_seed(seed)) < 0.7
        mask[:, COLUMNS // 2] = True
        mask[:, [0, -1]] = False  # fastMRI finds no line at all where one half is fully measured
        first, n_lines = sensitivity.get_pad_and_num_low_freqs(mask[:, None, None, :, None])
        index = torch.arange(COLUMNS)
        expected = (index >= first[:, None]) & (index < (first + n_lines)[:, None])
        assert torch.equal(mri.calibration_mask(mask), expected)


def test_complex_images_are_normalised_as_by_fastmri():
    f, x = network(ComplexUNet, widths=(4, 6), norm="instance"), mri.ifft2c(measure(1)[:, 0])
    theirs = NormUnet(4, 1).double()
    normalised, mean, deviation = theirs.norm(torch.stack([x.real, x.imag], 1))
    expected = theirs.unnorm(f.network(normalised), mean, deviation)
    torch.testing.assert_close(torch.view_as_real(f(x)).permute(0, 3, 1, 2), expected)


@EVERY
def test_what_cannot_work(build):
    f = network(build)
    with pytest.raises(InputError, match="no calibration lines"):
        f(measure(2), torch.arange(COLUMNS) < 4)
    with pytest.raises(InputError, match=r"width 23 is not a multiple of the total stride 4"):
        f(measure(1)[..., 1:], MASK[1:])
    with pytest.raises(InputError, match="2 coils and the network no maps_widths"):
        VarNet(widths=(4, 6), maps_widths=None).double()(measure(2), MASK)
    for settings in ({"n_cascades": 0}, {"widths": (4,)}):
        with pytest.raises(InputError):
            VarNet(**settings)
    with pytest.raises(InputError, match="n_cg_steps 0"):
        MoDL(n_cg_steps=0)
    with pytest.raises(InputError, match="unknown form"):
        VarNet(form="wavelet")
    with pytest.raises(InputError, match="unknown maps 'esprit'"):
        build(maps="esprit")
    with pytest.raises(InputError, match="maps of 20 columns do not fit a mask of 24"):
        f(measure(2), MASK, torch.ones(2, ROWS, 20, dtype=torch.complex128))


@pytest.mark.parametrize("residual", [True, False])
def test_the_maps_of_modl_are_residual_as_its_regulariser_is(residual):
    """With a last layer of zeros the maps are the coils' low-resolution images, over their root sum of squares."""
    network = MoDL(1, 1, (4, 6), (3, 4), residual=residual).double()
    for parameter in network.coil_maps.network.network.head.parameters():
        parameter.data.zero_()
    kspace = torch.randn(1, 3, 16, 24, dtype=torch.complex128, generator=torch.Generator().manual_seed(0))
    images = mri.ifft2c(kspace)
    with torch.no_grad():
        maps = network.coil_maps(kspace, torch.ones(24, dtype=torch.bool))
    assert torch.allclose(maps, images / mri.rss(images, 1).unsqueeze(1)) is residual
