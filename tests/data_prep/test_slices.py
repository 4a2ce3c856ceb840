"""What every data set of slices must be: one table of data sets, and the properties that each of them has."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import nibabel
import numpy as np
import pytest
import torch

from data_prep import (
    OUTSIDE,
    FastMRIDataset,
    HUDataset,
    LoDoPaBDataset,
    Sample,
    SliceDataset,
    center_crop,
    fit_center,
    open_hu,
)
from data_prep.projections.dataset import ScanDataset
from data_prep.slices.base import size_in_words
from data_prep.storage.nifti import nifti_description
from recon.errors import InputError
from recon.physics.ct import MU_MAX, hu_to_attenuation
from tests.data_prep.ct_files import write_pair
from tests.data_prep.files import write_volume
from tests.data_prep.hu_files import body, series, write_nifti, write_series

MASKS = {"mask_type": "random", "center_fractions": [0.08], "accelerations": [4], "challenge": "singlecoil"}
FILTERS = {"window": "hann", "frequency_scaling": 0.641}


def fastmri(folder: Path, padded: bool) -> FastMRIDataset:
    path = write_volume(folder / "scan.h5", image_size=(33, 32))
    return FastMRIDataset(path, None, image_size=(48, 37) if padded else None, progress=False)


def coils(folder: Path, padded: bool) -> FastMRIDataset:
    path = write_volume(folder / "scan.h5", n_coils=3, image_size=(33, 32))
    return FastMRIDataset(path, None, "multicoil", image_size=(20, 48) if padded else None, progress=False)


def lodopab(folder: Path, padded: bool) -> LoDoPaBDataset:
    return LoDoPaBDataset(write_pair(folder), None, image_size=(48, 37) if padded else None, progress=False)


def nifti(folder: Path, padded: bool) -> HUDataset:
    folder.mkdir()
    return HUDataset(open_hu(write_nifti(folder / "body.nii", body(rows=35))), 16 if padded else 1)


def dicom(folder: Path, padded: bool) -> HUDataset:
    return HUDataset(open_hu(write_series(folder / "body", series(body()))), 16 if padded else 1)


class Case(NamedTuple):
    """A row of the table.

    Attributes:
        make: opens one volume of three slices below a folder, padded or in its own size.
        settings: dataset.* of a run.
        says: what its description begins with.
        still: a move by nothing gives the sample itself.
        from_hdf5: what is written as HDF5, as the images were.
        from_nifti: the same of NIfTI.
    """

    make: Callable[[Path, bool], SliceDataset]
    settings: Mapping[str, Any]
    says: str
    still: bool
    from_hdf5: Callable[[Any, np.ndarray], np.ndarray]
    from_nifti: Callable[[Any, np.ndarray], np.ndarray]


def as_it_is(dataset: Any, values: np.ndarray) -> np.ndarray:
    return values


def attenuation(hu: np.ndarray) -> np.ndarray:
    return np.asarray(hu_to_attenuation(torch.from_numpy(hu))) / MU_MAX


MRI = Case(fastmri, MASKS, "random mask, acceleration 4, centre 8 %", True, as_it_is, lambda _, v: v.transpose(2, 1, 0))
CT = Case(
    lodopab, FILTERS, "FBP with hann filter at 0.641", False, as_it_is, lambda _, v: attenuation(v).transpose(2, 0, 1)
)
IN_HU = Case(
    nifti,
    FILTERS,
    CT.says,
    True,
    lambda dataset, values: dataset.volumes[0].as_axial(values.T),
    lambda dataset, values: dataset.volumes[0].as_axial(attenuation(values)),
)
CASES = {
    "fastmri": MRI,
    "several coils": MRI._replace(
        make=coils, settings=MASKS | {"challenge": "multicoil"}, says="random mask, acceleration 4, centre 8 %, several"
    ),
    "lodopab": CT,
    "nifti": IN_HU,
    "dicom": IN_HU._replace(make=dicom),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=[False, True], ids=["own size", "padded"])
def dataset(case, request, tmp_path):
    return case.make(tmp_path / "data", request.param)


def equal(a: Sample, b: Sample) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def random_images(dataset: SliceDataset, in_shape: tuple[int, ...] | None = None) -> torch.Tensor:
    """Of all slices, in (0, 1)."""
    shape = (len(dataset), *dataset.shapes[0][:2]) if in_shape is None else in_shape
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_what_it_says_of_itself(case, dataset):
    assert dataset.title
    assert dataset.baseline == next(iter(dataset.baselines))
    assert dataset.own_images in OUTSIDE
    assert isinstance(dataset.per_image, bool)
    assert isinstance(dataset.transposed, bool)
    assert dataset.what_moves().endswith(".")
    assert dataset.whose_mask(0) in ("", "the file's", "the run's")
    dataset.check()
    assert dataset.notes() == []
    volume = dataset.volumes[0]
    assert all((volume.name, volume.recon_key, volume.acquisition))
    assert volume.path in dataset.files


def test_its_description_is_words_that_end_with_the_size(case, dataset):
    described = type(dataset).describe(case.settings | {"image_size": [48, 37]})
    assert described.startswith(case.says)
    assert described.endswith(", 48 x 37 pixels")
    assert described.removesuffix(", 48 x 37 pixels") == type(dataset).describe(case.settings | {"image_size": None})
    assert size_in_words({}) == ""


def test_shapes_are_those_of_the_samples_and_files_exist(dataset):
    assert len(dataset) == len(dataset.slices) == len(dataset.shapes) == 3
    for index, (v, s) in enumerate(dataset.slices):
        sample = dataset[index]
        assert dataset.shapes[index] == (*sample.image.shape[1:], bool(sample.target.numel()))
        assert (int(sample.volume), int(sample.slice)) == (v, s)
        assert equal(sample, dataset[7, index]), "the same in every epoch, outside training"
    assert dataset.smallest_side == min(dataset.shapes[0][:2])
    assert all(path.exists() for path in dataset.files)
    assert dataset.volumes[0].n_slices == 3


def test_a_copy_in_another_process_gives_the_same(dataset):
    expected = dataset[1]
    assert equal(pickle.loads(pickle.dumps(dataset))[1], expected)
    assert equal(copy.deepcopy(dataset)[1], expected)


def test_targets_of_a_volume_are_those_of_its_samples(dataset):
    assert torch.equal(dataset.volume_target(0), torch.cat([dataset[index].target for index in range(3)]))


@pytest.mark.parametrize("size", [(20, 21), (21, 20), (48, 49), (49, 48), (20, 49), (49, 20)])
def test_without_padding_inverts_fit_center(dataset, size):
    own = dataset.volumes[0].image_size
    images = random_images(dataset, (2, 1, *own))
    kept = [min(pair) for pair in zip(own, size, strict=True)]
    found = dataset.without_padding(fit_center(images, size), 0)
    assert torch.equal(found, center_crop(images, kept))
    assert not torch.equal(dataset.without_padding(fit_center(images.roll(1, -1), size), 0), found), "control"


def test_padding_is_what_is_cropped_away(dataset):
    target = dataset.volume_target(0)
    inside = dataset.without_padding(target, 0)
    assert float(inside.sum()) == pytest.approx(float(target.sum()), rel=1e-5)
    rows, columns = dataset.in_view(0, (0, 0))
    assert torch.equal(target[:, rows, columns], inside)
    assert torch.equal(dataset.upright(target), target.mT if dataset.transposed else target)


def test_a_move_by_nothing(case, dataset):
    """LoDoPaB's own observation has another noise than one that is measured again."""
    sample, still = dataset[1], dataset.moved(1, (0, 0))
    assert torch.equal(still.image, sample.image) == case.still
    assert equal(still, dataset.moved(1, (0.0, 0.0)))
    assert still.target.shape == (1, 0, 0)
    assert (still.data_range, still.std.dtype) == (sample.data_range, sample.std.dtype)
    assert (still.volume, still.slice) == (sample.volume, sample.slice)
    with pytest.raises(InputError, match="two finite numbers"):
        dataset.moved(1, (0, float("nan")))


def test_a_move_by_whole_pixels_moves_the_image(dataset):
    """What is in view before and after is the same but for noise, aliasing and the projector's own grid."""
    shift = (2, -3)
    rows, columns = dataset.in_view(1, shift)
    still = dataset.moved(1, (0, 0))
    moved = dataset.moved(1, shift)
    still, moved = (x.image[0] * x.std + x.mean for x in (still, moved))

    def off(expected: torch.Tensor) -> float:
        return float((moved - expected)[rows, columns].norm() / still[rows, columns].norm())

    assert off(still.roll(shift, (0, 1))) < 0.35
    assert off(still.roll(shift, (0, 1))) < 0.5 * off(still), "control"


@pytest.mark.parametrize("suffix", [".h5", ".nii.gz"])
def test_what_is_written_reads_back(case, dataset, tmp_path, suffix):
    path, images = tmp_path / f"out{suffix}", random_images(dataset)
    dataset.write(path, images, "made by a test")
    kept = dataset.for_file(images)
    assert torch.equal(kept, dataset.for_file(kept)), "padding is cropped once"
    if suffix == ".h5":
        with h5py.File(path) as file:
            found, made_by = file["reconstruction"][()], file.attrs["made_by"]
        found = case.from_hdf5(dataset, found)
        np.testing.assert_array_equal(found, kept)
    else:
        image, made_by = nibabel.load(path), nifti_description(path)
        found = case.from_nifti(dataset, image.get_fdata())
        np.testing.assert_allclose(found, kept, atol=2e-7)
        assert sorted(image.header.get_zooms()) == pytest.approx(sorted(dataset.voxel_size_mm()), rel=1e-5)
    assert made_by == "made by a test"


def test_mri_keeps_padding_and_ct_does_not(tmp_path):
    sizes = [case.make(tmp_path / name, True).shapes[0][:2] for name, case in CASES.items()]
    kept = [
        tuple(dataset.for_file(random_images(dataset)).shape[1:])
        for dataset in (case.make(tmp_path / f"{name} again", True) for name, case in CASES.items())
    ]
    assert kept[:2] == sizes[:2]
    assert kept[2:] == [(32, 32), (32, 35), (32, 36)]


def test_baselines_are_images_of_all_slices(dataset):
    found = {key: list(images) for key, images in dataset.more_baselines(0, torch.device("cpu"))}
    one_coil = dataset.n_coils(0) == 1
    assert [dataset.baseline, *found] == [name for name in dataset.baselines if not (one_coil and name == "cg-sense")]
    for images in found.values():
        assert [image.shape for image in images] == [(1, *shape[:2]) for shape in dataset.shapes]


def test_panels_can_be_drawn(dataset):
    for panel in dataset.panels(1):
        assert panel.title
        assert panel.image.ndim == 2
        assert panel.image.isfinite().all()


def test_further_quality_is_per_image_and_perfect_for_the_target(case, dataset):
    target = dataset.without_padding(dataset.volume_target(0), 0)
    found = dataset.more_quality(target, target)
    assert list(found) == (["psnr_fr", "ssim_fr", "hu_lung", "hu_soft"] if dataset.per_image else [])
    for name, values in found.items():
        assert values.shape == (3,)
        perfect = torch.full_like(values, {"psnr_fr": np.inf, "ssim_fr": 1}.get(name, 0))
        torch.testing.assert_close(values, torch.where(values.isnan(), np.nan, perfect), equal_nan=True)


def test_the_sinogram_of_ct_is_what_was_measured(tmp_path):
    made = {name: case.make(tmp_path / name, True) for name, case in CASES.items()}
    titles = [[panel.title for panel in dataset.panels(0)] for dataset in made.values()]
    assert titles[:3] == [[], [], ["sinogram\n60 angles x 47 detectors"]]
    path = made["lodopab"].volumes[0].path
    with h5py.File(path) as file:
        np.testing.assert_array_equal(made["lodopab"].panels(1)[0].image, file["data"][1])


def members() -> dict[str, Any]:
    """All that a class declares to be a whole data set."""
    attributes = {"title": "toy", "baselines": {"raw": "raw"}, "own_images": "flat", "per_image": True}
    methods = dict.fromkeys(SliceDataset.__abstractmethods__, lambda *_: None)
    return attributes | {"transposed": False} | methods


@pytest.mark.parametrize("name", sorted(members()))
def test_a_class_that_leaves_something_out_cannot_be_made(name):
    whole = members()
    assert len(type("Whole", (SliceDataset,), whole)([], None)) == 0
    del whole[name]
    with pytest.raises(TypeError, match=name):
        type("Part", (SliceDataset,), whole)([], None)


def test_the_table_has_every_data_set_of_slices(tmp_path):
    """But a measured scan, which has no target: tests/pipelines/test_import_ct.py is about it."""

    def leaves(kind: type) -> set[type]:
        below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
        return set(below) if below else {kind}

    ours = {kind for kind in leaves(SliceDataset) if kind.__module__.startswith("data_prep")}
    assert ours - {ScanDataset} == {type(case.make(tmp_path / name, False)) for name, case in CASES.items()}
