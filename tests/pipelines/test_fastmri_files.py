"""fastMRI files of all kinds at the command line: the right numbers, or one sentence that says what is wrong."""

from __future__ import annotations

import fcntl
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import fastmri.evaluate
import h5py
import nibabel
import numpy as np
import pytest
from monai.apps.reconstruction.fastmri_reader import FastMRIReader
from monai.transforms import LoadImaged

from data_prep import FastMRIDataset, make_mask
from pipelines.commands import evaluate, predict, prepare, train
from tests.conftest import TINY
from tests.data_prep.files import header, write_volume
from tests.pipelines.test_bad_input import refuse


def predict_to(out: Path, run: Path, *argv: str | Path) -> Path:
    assert predict.main([str(token) for token in (run, *argv, "--out", out)]) == 0
    return out


def read(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["reconstruction"][()]


def replace(key: str, value: object, **attributes: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            if key in file:
                del file[key]
            if value is not None:
                file[key] = value
            file.attrs.update(attributes)

    return change


def group(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file.create_group("mask")


def declared(shape: tuple[int, ...], **layout: object) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with h5py.File(path, "a") as file:
            del file["kspace"]
            file.create_dataset("kspace", shape, np.complex64, **layout)

    return change


def view_of_a_lost_file(path: Path) -> None:
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((3, 48, 40), np.complex64)
        layout[:] = h5py.VirtualSource("gone.h5", "kspace", (3, 48, 40))
        del file["kspace"]
        file.create_virtual_dataset("kspace", layout)


def unknown_filter(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["kspace"]
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((1, 48, 40))
        settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        kind, space = h5py.h5t.py_create(np.dtype(np.complex64)), h5py.h5s.create_simple((3, 48, 40))
        dataset = h5py.h5d.create(file.id, b"kspace", kind, space, settings)
        for number in range(3):
            dataset.write_direct_chunk((number, 0, 0), b"packed", 0)


def zero_where_measured(path: Path) -> None:
    mask = np.arange(40) % 4 == 0
    with h5py.File(path, "a") as file:
        file["mask"] = mask
        file["kspace"][...] = file["kspace"][()] * ~mask


def without_fields(path: Path) -> None:
    replace("reconstruction_esc", np.ones((3, 96, 96), np.float32))(path)
    replace("ismrmrd_header", header((48, 40), (96, 96)).replace(b"fieldOfView_mm", b"else"))(path)


def interpolated(path: Path) -> None:
    """Twice the pixels on the same field of view."""
    text = header((48, 40), (48, 40)).partition(b"<reconSpace>")
    more = text[2].replace(b"<x>48<", b"<x>96<").replace(b"<y>40<", b"<y>80<")
    replace("ismrmrd_header", b"".join((*text[:2], more)))(path)
    replace("reconstruction_esc", np.ones((3, 96, 80), np.float32))(path)


ONES = np.ones(40)
BAD = {
    "probabilities": (replace("mask", ONES / 2), "'mask' (float64) holds other values than 0 and 1"),
    "nan": (replace("mask", ONES * np.nan), "'mask' (float64) holds other values than 0 and 1"),
    "signs": (replace("mask", np.where(np.arange(40) % 3, -1, 1)), "holds other values than 0 and 1"),
    "words": (replace("mask", np.array([b"yes"] * 40)), "holds other values than 0 and 1"),
    "no line": (replace("mask", ONES > 2), "has no measured column"),
    "attribute": (replace("mask", None, mask=ONES), "'mask' is an attribute"),
    "group": (group, "'mask' is a group, expected a dataset"),
    "lost mask": (replace("mask", h5py.SoftLink("/nowhere")), "'mask' is a link to '/nowhere', which cannot be found"),
    "zero": (replace("kspace", np.zeros((3, 48, 40), "c8")), "'kspace' is zero everywhere"),
    "zero where measured": (zero_where_measured, "'kspace' is zero in all columns that 'mask' calls measured"),
    "never written": (declared((3, 48, 40), chunks=(1, 48, 40)), "'kspace' is zero everywhere"),
    "a billion columns": (declared((3, 48, 10**9), chunks=(1, 48, 40)), "larger than any scanner's"),
    "a billion slices": (declared((10**9, 48, 40), chunks=(1, 48, 40)), "larger than any scanner's"),
    "lost view": (view_of_a_lost_file, "'kspace' is a view of 'kspace' in gone.h5, which cannot be found: restore"),
    "lost link": (replace("kspace", h5py.ExternalLink("gone.h5", "/k")), "a link to '/k' of gone.h5, which cannot be"),
    "endless link": (replace("kspace", h5py.SoftLink("/kspace")), "a link to '/kspace', which cannot be found"),
    "unknown filter": (unknown_filter, "compressed with a filter that is not installed"),
    "interpolated": (interpolated, "target's pixels are 2.92 x 2.04 mm, those of k-space 5.83 x 4.07 mm"),
    "no fields": (without_fields, "target of 96 x 96 has more pixels than 'kspace' of 48 x 40"),
    "big target": (replace("reconstruction_esc", np.ones((3, 32, 40000), "f4")), "larger than any scanner's"),
    "many headers": (replace("ismrmrd_header", np.array([b"<a/>"] * 2)), "it is not one text"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-99]), "is truncated"),
    "text": (lambda path: path.write_text("NRRD0004"), "not a readable HDF5 file"),
}


@pytest.mark.parametrize(("change", "says"), BAD.values(), ids=BAD)
def test_bad_files(capsys, run, tmp_path, change, says):
    path = write_volume(tmp_path / "scan.h5")
    change(path)
    sentence = refuse(capsys, predict.main, run, path, "--out", tmp_path / "out")
    assert says in sentence
    assert str(path) in sentence
    assert "remove" not in sentence
    assert not (tmp_path / "out").exists()


def test_files_that_others_hold(capsys, run, tmp_path):
    path = write_volume(tmp_path / "scan.h5")
    with path.open("rb+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert "is locked by a program" in refuse(capsys, predict.main, run, path, "--out", tmp_path / "out")
    (tmp_path / "scan.nrrd").write_text("NRRD0004")
    sentence = refuse(capsys, predict.main, run, tmp_path / "scan.nrrd", "--out", tmp_path / "out")
    assert "give a fastMRI (*.h5) or LoDoPaB file" in sentence
    content = path.read_bytes()
    sentence = refuse(capsys, predict.main, run, path, "--out", tmp_path)
    assert "would be written over with its own reconstruction: give another --out" in sentence
    assert "remove" not in sentence
    assert path.read_bytes() == content


def test_a_source_that_is_lost_after_the_index_was_made(capsys, run, tmp_path):
    folder = tmp_path / "data" / "singlecoil_val"
    source = write_volume(tmp_path / "raw.h5")
    path = write_volume(folder / "scan.h5")
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((3, 48, 40), np.complex64)
        layout[:] = h5py.VirtualSource("../../raw.h5", "kspace", (3, 48, 40))
        del file["kspace"]
        file.create_virtual_dataset("kspace", layout)
    assert prepare.main(["index", str(tmp_path / "data")]) == 0
    dataset = FastMRIDataset(folder, None, progress=False)
    assert dataset[0].image.any()
    source.unlink()
    dataset = FastMRIDataset(folder, None, progress=False)
    with pytest.raises(ValueError, match=r"raw\.h5, which cannot be found"):
        dataset[0]


@pytest.mark.parametrize("dtype", [">c8", ">c16", "c32"])
def test_other_types_of_complex_numbers(run, tmp_path, dtype):
    paths = [write_volume(tmp_path / name / "scan.h5", n_coils=2) for name in ("plain", "other")]
    with h5py.File(paths[1], "a") as file:
        values = file["kspace"][()]
        del file["kspace"]
        file["kspace"] = values.astype(dtype)
    plain, other = (read(predict_to(path.parent / "out", run, path) / "scan.h5") for path in paths)
    np.testing.assert_array_equal(other, plain)
    maps = np.full((2, 48, 40), 0.5**0.5, dtype)
    for path, kind in zip(paths, ("c8", dtype), strict=True):
        replace("sensitivity_maps", maps.astype(kind))(path)
    plain, other = (FastMRIDataset(path, None, "multicoil").moved(1, (2.5, 1)).image for path in paths)
    np.testing.assert_allclose(other, plain, atol=1e-5)


def test_a_lost_link_to_coil_maps(tmp_path):
    path = write_volume(tmp_path / "scan.h5", n_coils=2)
    replace("sensitivity_maps", h5py.SoftLink("/maps"))(path)
    with pytest.raises(ValueError, match="'sensitivity_maps' is a link to '/maps', which cannot be found"):
        FastMRIDataset(path, None, "multicoil").moved(0, (1, 0))


def test_voxels_and_view_are_those_of_k_space_where_the_header_interpolates(run, tmp_path):
    """k-space of 2 mm, an image of 38 x 38 pixels of 1.68 mm: 64 mm are shown, in 32 x 32 pixels of 2 mm."""
    path = write_volume(tmp_path / "scan.h5", target=False)
    text = header((48, 40), (38, 38)).decode()
    for old, new in ((r"<x>280.0<", "<x>96<"), (r"<y>162.8\d*<", "<y>80<")):
        text = re.sub(old, new, text, count=1)
    recon = text.partition("<reconSpace>")
    fields = re.sub(r"<fieldOfView_mm><x>[\d.]+</x><y>[\d.]+<", "<fieldOfView_mm><x>64</x><y>64<", recon[2])
    replace("ismrmrd_header", (recon[0] + recon[1] + fields).encode())(path)
    image = nibabel.load(predict_to(tmp_path / "out", run, path, "--format=nifti") / "scan.nii.gz")
    assert image.header.get_zooms() == pytest.approx((2, 2, 4.5))
    assert image.shape == (32, 32, 3)


def test_padding_does_not_count_in_the_table(run, data, tmp_path, capsys):
    path = data / "singlecoil_val" / "file0.h5"
    out = predict_to(tmp_path / "out", run, path, "--dataset.image_size=[48, 64]")
    printed = re.search(r"│ +3 │ 48 x 64 │ +([\d.]+) │ +([\d.]+) │", capsys.readouterr().out)
    preds = read(out / "file0.h5")[:, 8:40, 16:48]
    with h5py.File(path) as file:
        target = file["reconstruction_esc"][()]
    assert float(printed[1]) == pytest.approx(fastmri.evaluate.psnr(target, preds), abs=0.00501)
    assert float(printed[2]) == pytest.approx(fastmri.evaluate.ssim(target, preds), abs=0.0000501)


def test_a_file_that_seems_undersampled_is_told_once(run, tmp_path, capsys):
    for name in ("a.h5", "b.h5"):
        path = write_volume(tmp_path / "data" / name)
        with h5py.File(path, "a") as file:
            file["kspace"][..., 5:9] = 0
    padded = write_volume(tmp_path / "padded.h5")
    with h5py.File(padded, "a") as file:
        file["kspace"][..., :4] = 0
    predict_to(tmp_path / "out", run, tmp_path / "data", padded)
    told = [line for line in capsys.readouterr().err.splitlines() if "undersampled already" in line]
    assert len(told) == 1
    assert "a.h5 and 1 more without a mask" in told[0]
    predict_to(tmp_path / "out2", run, padded)
    assert "undersampled" not in capsys.readouterr().err


def test_names_in_any_case(capsys, run, tmp_path):
    for name in ("a.h5", "b.H5", "c.hdf5"):
        write_volume(tmp_path / "data" / "singlecoil_val" / name, n_slices=1)
    folder = tmp_path / "data" / "singlecoil_val"
    out = predict_to(tmp_path / "out", run, folder)
    assert sorted(path.name for path in out.iterdir()) == ["a.h5", "b.h5", "c.h5"]
    assert [volume.name for volume in FastMRIDataset(folder, None).volumes] == ["a", "b", "c"]
    write_volume(folder / "b.h5")
    assert "have one name" in refuse(capsys, prepare.main, "index", tmp_path / "data")


def test_index_of_other_folders(capsys, tmp_path):
    write_volume(tmp_path / "multicoil_val" / "a.h5", n_coils=2)
    assert "give --challenge multicoil" in refuse(capsys, prepare.main, "index", tmp_path)
    write_volume(tmp_path / "singlecoil_val" / "a.h5")
    (tmp_path / "singlecoil_test.tar.gz").write_bytes(b"an archive")
    assert prepare.main(["index", str(tmp_path)]) == 0
    assert "singlecoil_val" in capsys.readouterr().out


def test_sizes_that_nothing_is_left_of_are_not_advised(capsys, run, data, tmp_path):
    flags = ["--dataset.image_size=[3, 32]", "--out", tmp_path / "out"]
    sentence = refuse(capsys, predict.main, run, data / "singlecoil_val", *flags)
    assert "total stride 4; pad with --dataset.image_size '[4, 36]'" in sentence


def test_resume_with_another_task(capsys, run):
    assert "is a run of the task mri: leave out --task" in refuse(capsys, train.main, "--resume", run, "--task", "ct")


def test_a_mask_that_cannot_be_made_names_the_file_before_a_training(capsys, data, tmp_path):
    copy = Path(shutil.copytree(data, tmp_path / "data"))
    write_volume(copy / "singlecoil_train" / "narrow.h5", size=(48, 8), image_size=(8, 8))
    flags = [
        "--dataset.mask_type=equispaced_fraction",
        "--dataset.center_fractions=[0.2]",
        "--dataset.accelerations=[4]",
    ]
    out = tmp_path / "run"
    sentence = refuse(capsys, train.main, "--task=mri", f"--data={copy}", f"--out={out}", *TINY, *flags)
    assert "narrow.h5 cannot have the run's mask" in sentence
    assert not out.exists()


class TestSimulate:
    @pytest.fixture
    def image(self, tmp_path):
        values = np.zeros((2, 30, 28), np.float32)
        values[:, 8:20, 9:22] = 1 + np.arange(13)
        np.save(tmp_path / "brain.npy", values)
        return tmp_path / "brain.npy"

    def simulate(self, image: Path, out: Path, *flags: str) -> Path:
        assert prepare.main(["simulate", str(image), "--out", str(out), "--matrix", "32", *flags]) == 0
        return next(out.glob("*/brain.h5"))

    @pytest.mark.parametrize("coils", [0, 3])
    def test_undersampled_files_are_as_fastmris_test_files(self, image, tmp_path, coils):
        whole = self.simulate(image, tmp_path / "whole", f"--coils={coils}")
        flags = (f"--coils={coils}", "--split=test", "--acceleration=4", "--center-fraction=0.1")
        path = self.simulate(image, tmp_path / "part", *flags)
        assert path.parent.name == f"{'multi' if coils else 'single'}coil_test"
        with h5py.File(whole) as complete, h5py.File(path) as file:
            assert set(file) == {"kspace", "mask", "ismrmrd_header"} | ({"sensitivity_maps"} if coils else set())
            mask = file["mask"][()]
            assert np.array_equal(mask, make_mask("random", 32, (0.1,), (4,), tuple(map(ord, "brain.h5"))))
            assert np.array_equal(file["kspace"], complete["kspace"] * mask)
            assert (file.attrs["acceleration"], file.attrs["num_low_frequency"]) == (4, 3)
        ours = FastMRIDataset(path, None, "multicoil" if coils else "singlecoil")
        assert ours.volumes[0].has_mask
        assert not ours.volumes[0].has_target

    @pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")  # of DICOM, a thing of MONAI's
    @pytest.mark.parametrize("flags", [(), ("--coils=3",), ("--acceleration=4",)])
    def test_monai_reads_them(self, image, tmp_path, flags):
        path = self.simulate(image, tmp_path / "out", *flags)
        loaded = LoadImaged(keys=["kspace"], reader=FastMRIReader, image_only=False, dtype=np.complex64)(
            {"kspace": str(path)}
        )
        with h5py.File(path) as file:
            np.testing.assert_array_equal(np.asarray(loaded["kspace"]), file["kspace"])
            if "mask" in file:
                np.testing.assert_array_equal(np.ravel(loaded["kspace_meta_dict"]["mask"]), file["mask"])
            else:
                key = "reconstruction_rss" if "--coils=3" in flags else "reconstruction_esc"
                assert {type(file.attrs[name]) for name in ("max", "norm")} == {np.float64}
                assert loaded["kspace_meta_dict"]["max"] == file[key][()].max()

    @pytest.mark.parametrize("dtype", [">f4", ">i2", "f2", "g"])
    def test_other_types_of_numbers(self, image, tmp_path, dtype):
        plain = self.simulate(image, tmp_path / "plain")
        np.save(image, np.load(image).astype(dtype))
        with h5py.File(plain) as one, h5py.File(self.simulate(image, tmp_path / "other")) as two:
            assert np.array_equal(one["kspace"], two["kspace"])

    @pytest.mark.parametrize(
        ("flags", "says"),
        [
            (["--noise=inf"], "--noise: 'inf' is not a number from 0 to 1000000.0"),
            (["--noise=nan"], "--noise: 'nan' is not a number"),
            (["--matrix=16"], "brain.npy: the image of 30 x 28 is larger than matrix 16"),
            (["--band-limit=99"], "brain.npy: band_limit is 99"),
            (["--matrix=1000000"], "'1000000' is not a whole number from 1 to 16384"),
            (["--coils=1000000"], "'1000000' is not a whole number from 0 to 256"),
            (["--acceleration=0"], "accelerations holds 0"),
            (["--mask-type=magic"], "give --acceleration too"),
            (["--task=ct", "--acceleration=4"], "--acceleration is for --task mri"),
        ],
    )
    def test_bad_flags(self, capsys, image, tmp_path, flags, says):
        capsys.readouterr()
        matrix = [] if "matrix" in flags[0] or "ct" in flags[0] else ["--matrix=32"]
        out = tmp_path / "out"
        assert prepare.main(["simulate", str(image), "--out", str(out), *matrix, *flags]) == 2
        assert says in capsys.readouterr().err
        assert not list(out.rglob("*.h5"))


def test_the_table_is_recon_evaluates(run, data, tmp_path, capsys):
    """A run trained with padding: both commands measure the same."""
    other = Path(shutil.copytree(run, tmp_path / "run"))
    config = (other / "config.yaml").read_text()
    assert "image_size: null" in config
    (other / "config.yaml").write_text(config.replace("image_size: null", "image_size: [48, 64]", 1))
    assert evaluate.main([str(other), "--protocols=plain", "--out", str(tmp_path / "evaluation")]) == 0
    measured = (tmp_path / "evaluation" / "results.csv").read_text()
    capsys.readouterr()
    predict_to(tmp_path / "out", other, data / "singlecoil_val")
    printed = re.findall(r"│ +3 │ 48 x 64 │ +([\d.]+) │", capsys.readouterr().out)
    found = re.findall(r"plain,file\d,[^\n]*?,psnr,([\d.]+)", measured)
    assert len(printed) == 3
    assert [float(value) for value in printed] == pytest.approx([float(value) for value in found], abs=0.00501)
