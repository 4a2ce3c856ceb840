from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from data_prep import coil_maps, index_folder, simulate_kspace, write_fastmri
from recon.errors import InputError
from recon.physics.mri import fft2c, ifft2c, rss


@pytest.fixture(scope="module")
def magnitude():
    y, x = np.mgrid[-1:1:50j, -1:1:40j]
    spots = [np.exp(-((y - 0.1 * i) ** 2 + x**2) / 0.1) for i in range(3)]
    return (1000 * np.stack(spots)).astype(np.int16)


def test_image_of_kspace_has_the_objects_magnitude(magnitude):
    kspace = simulate_kspace(magnitude, matrix=64, noise=0.005, seed="a")
    assert kspace.shape == (3, 64, 64)
    assert kspace.dtype == np.complex64
    image = np.abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=(1, 2)), norm="ortho"), axes=(1, 2)))
    expected = np.zeros((3, 64, 64))
    expected[:, 7:57, 12:52] = magnitude / magnitude.max()
    inside = expected > 0.2
    assert np.abs(image - expected)[inside].max() < 6 * 0.005
    assert np.std((image - expected)[inside]) == pytest.approx(0.005, rel=0.1)
    background = image[expected == 0]
    assert background.min() > 0
    assert background.mean() == pytest.approx(0.005 * np.sqrt(np.pi / 2), rel=0.05), "Rayleigh"


def test_phase_is_smooth_and_differs_between_slices(magnitude):
    image = ifft2c(torch.from_numpy(simulate_kspace(magnitude, matrix=64, noise=0, seed=1)))
    middle = image[:, 26:38, 26:38]
    steps = torch.angle(middle[:, 1:] * middle[:, :-1].conj())
    assert steps.abs().max() < 0.5
    assert middle.angle().std() > 0.1
    assert torch.angle(middle[0] * middle[1].conj()).std() > 0.1


def test_band_limit_leaves_a_smooth_object_alone_and_cuts_noise():
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    smooth = np.exp(-(y**2 + x**2) / 0.2)[None]
    kspace = simulate_kspace(smooth, matrix=32, band_limit=16, noise=0)
    image = np.abs(ifft2c(torch.from_numpy(kspace)).numpy())[0]
    np.testing.assert_allclose(image[:, 8:24], smooth[0, :, ::2] / smooth[0, :, ::2].max(), atol=0.01)
    assert image[:, :8].max() < 1e-5
    stripes = 1 + (-1.0) ** np.arange(32) * np.ones((1, 32, 1))
    flat = np.abs(ifft2c(torch.from_numpy(simulate_kspace(stripes, matrix=32, band_limit=16, noise=0))).numpy())
    np.testing.assert_allclose(flat[0, :, 8:24], 1, atol=1e-5)


def test_coil_maps_are_smooth_with_unit_rss_and_point_to_different_sides():
    maps = coil_maps(6, 40, 32)
    assert maps.shape == (6, 40, 32)
    torch.testing.assert_close(rss(maps, 0), torch.ones(40, 32), rtol=0, atol=1e-6)
    assert (maps[:, 1:] - maps[:, :-1]).abs().max() < 0.1
    brightest = {int(coil.abs().argmax()) for coil in maps}
    assert len(brightest) == 6
    assert torch.equal(maps, coil_maps(6, 40, 32))
    with pytest.raises(InputError, match="n_coils is 0"):
        coil_maps(0, 4, 4)


def test_coils_combine_to_the_object(magnitude):
    single = simulate_kspace(magnitude, matrix=64, noise=0)
    multi = simulate_kspace(magnitude, matrix=64, n_coils=4, noise=0)
    assert multi.shape == (3, 4, 64, 64)
    images = rss(ifft2c(torch.from_numpy(multi)), 1)
    torch.testing.assert_close(images, ifft2c(torch.from_numpy(single)).abs(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_coils", [0, 4])
@pytest.mark.parametrize("shift", [(5, -3), (0.5, -2.25)])
def test_the_object_moves_with_its_phase_under_fixed_coils(magnitude, n_coils, shift):
    options = {"matrix": 64, "seed": 2}
    before = ifft2c(torch.from_numpy(simulate_kspace(magnitude, noise=0, **options)))
    frequency = torch.arange(64) - 32
    turns = frequency[:, None] * shift[0] / 64 + frequency * shift[1] / 64
    moved = ifft2c(fft2c(before) * torch.exp(-2j * torch.pi * turns))
    expected = moved[:, None] * coil_maps(4, 64, 64) if n_coils else moved
    kspace = [
        torch.from_numpy(simulate_kspace(magnitude, n_coils=n_coils, shift=shift, noise=n, **options))
        for n in (0, 0.01)
    ]
    torch.testing.assert_close(ifft2c(kspace[0]), expected, rtol=0, atol=2e-6)
    still = [torch.from_numpy(simulate_kspace(magnitude, n_coils=n_coils, noise=n, **options)) for n in (0, 0.01)]
    torch.testing.assert_close(kspace[1] - kspace[0], still[1] - still[0], rtol=0, atol=1e-5, msg="the noise stays")


def test_bad_shift(magnitude):
    with pytest.raises(InputError, match="give two finite numbers of pixels"):
        simulate_kspace(magnitude, matrix=64, shift=(1, np.inf))


def test_function_of_the_seed(magnitude):
    first = simulate_kspace(magnitude, matrix=64, seed=3)
    assert np.array_equal(first, simulate_kspace(magnitude, matrix=64, seed=3))
    assert not np.array_equal(first, simulate_kspace(magnitude, matrix=64, seed=4))


@pytest.mark.parametrize("n_coils", [0, 2])
@pytest.mark.parametrize("with_maps", [False, True])
def test_written_file_is_a_fastmri_file(tmp_path, magnitude, n_coils, with_maps):
    from fastmri.data.mri_data import SliceDataset

    challenge = "multicoil" if n_coils else "singlecoil"
    kspace = simulate_kspace(magnitude, matrix=64, n_coils=n_coils)
    maps = coil_maps(n_coils, 64, 64).numpy() if n_coils and with_maps else None
    (tmp_path / challenge).mkdir()
    write_fastmri(tmp_path / challenge / "a.h5", kspace, "T1", "p1", maps=maps)
    write_fastmri(tmp_path / challenge / "b.h5", kspace, "T1", "p1", maps=maps)
    assert (tmp_path / challenge / "a.h5").read_bytes() == (tmp_path / challenge / "b.h5").read_bytes()

    key = "reconstruction_rss" if n_coils else "reconstruction_esc"
    with h5py.File(tmp_path / challenge / "a.h5") as file:
        assert set(file) == {"kspace", key, "ismrmrd_header"} | ({"sensitivity_maps"} if maps is not None else set())
        if maps is not None:
            assert file["sensitivity_maps"].dtype == np.complex64
            assert np.array_equal(file["sensitivity_maps"][()], maps)
        assert np.array_equal(file["kspace"][()], kspace)
        assert file[key].dtype == np.float32
        assert file.attrs["max"] == file[key][()].max()
        assert file.attrs["norm"] == pytest.approx(np.linalg.norm(file[key][()]))
        assert file.attrs["simulated_from"] == "magnitude"
    volume = index_folder(tmp_path / challenge, challenge, progress=False)[0]
    assert (volume.n_slices, volume.n_coils, volume.image_size) == (3, n_coils or 1, (64, 64))
    assert volume.acquisition == "T1"
    theirs = SliceDataset(tmp_path / challenge, challenge)
    assert len(theirs) == 6
    assert np.array_equal(theirs[1][0], kspace[1])
    assert theirs[1][3]["recon_size"] == (64, 64, 1)
    assert (theirs[1][3]["padding_left"], theirs[1][3]["padding_right"]) == (0, 64)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda m: m[0], {}, r"shape \(50, 40\)"),
        (lambda m: m.astype(complex), {}, "complex128"),
        (lambda m: m * np.nan, {}, "give finite numbers"),
        (lambda m: -m, {}, "negative values"),
        (lambda m: 0 * m, {}, "zero everywhere"),
        (lambda m: m, {"matrix": 48}, "image of 50 x 40 is larger than matrix 48"),
        (lambda m: m, {"band_limit": 41}, "band_limit is 41: give 1 to 40"),
    ],
)
def test_bad_objects(magnitude, change, options, message):
    with pytest.raises(InputError, match=message):
        simulate_kspace(change(magnitude), **{"matrix": 64, **options})


@pytest.mark.parametrize(("n_coils", "shape"), [(2, (3, 64, 64)), (2, (2, 32, 64)), (0, (1, 64, 64))])
def test_maps_that_do_not_fit(tmp_path, magnitude, n_coils, shape):
    kspace = simulate_kspace(magnitude, matrix=64, n_coils=n_coils)
    with pytest.raises(InputError, match="do not fit k-space"):
        write_fastmri(tmp_path / "a.h5", kspace, "T1", "p", maps=np.ones(shape))
    assert not list(tmp_path.iterdir())


def test_unwritable_file_leaves_nothing(tmp_path, magnitude):
    kspace = simulate_kspace(magnitude, matrix=64)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"a\.h5 cannot be written \(Not a directory\)"):
        write_fastmri(tmp_path / "file" / "a.h5", kspace, "T1", "p")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
