"""recon-predict: the evaluation's reconstructions as files, in the right place of the world, and easy to go on with."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

import fastmri.evaluate
import h5py
import nibabel
import numpy as np
import pytest
import torch

from data_prep import FastMRIDataset, fit_center
from data_prep.fastmri import inputs
from pipelines.commands import evaluate, predict
from pipelines.commands.predict import main, open_network, plan
from pipelines.reconstruction import volumes as reconstruction
from pipelines.reconstruction.inputs import Input
from pipelines.reconstruction.task import ReconstructionTask, batch_of
from tests.data_prep.files import write_volume
from tests.pipelines.test_bad_input import refuse

KSPACE = (48, 40)  # of write_volume; its images are the central 32 x 32
VOXEL = (280 / 48, 162.8 / 40, 4.5)  # of the header it writes: row, column, slice


@pytest.fixture
def volumes(data: Path) -> Path:
    """Three volumes with targets, 3 slices of 32 x 32 each."""
    return data / "singlecoil_val"


def predict_to(out: Path, run: Path, *argv: str | Path) -> Path:
    assert main([str(token) for token in (run, *argv, "--out", out)]) == 0
    return out


def read(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        assert list(file) == ["reconstruction"]
        assert file["reconstruction"].dtype == np.float32
        return file["reconstruction"][()]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_reconstructions_are_those_that_recon_evaluate_saves(run, volumes, tmp_path):
    flags = ["--protocols", "plain", "--save-reconstructions", "--out", str(tmp_path / "e")]
    assert evaluate.main([str(run), *flags]) == 0
    one = predict_to(tmp_path / "one", run, volumes)
    all_together = predict_to(tmp_path / "all", run, volumes, "--batch-size", "3")
    assert names(one) == ["file0.h5", "file1.h5", "file2.h5"]
    for name in names(one):
        expected = read(tmp_path / "e" / "reconstructions" / run.name / name)
        np.testing.assert_array_equal(read(one / name), expected)
        np.testing.assert_allclose(read(all_together / name), expected, atol=1e-6 * expected.max())


def test_the_table_and_fastmri_agree(run, volumes, tmp_path, capsys):
    capsys.readouterr()
    out = predict_to(tmp_path / "out", run, volumes / "file0.h5", volumes / "file2.h5")
    rows = re.findall(r"│ (file\d) +│ the run's +│ +3 │ 32 x 32 │ +([\d.]+) │ +([\d.]+) │", capsys.readouterr().out)
    assert [name for name, *_ in rows] == ["file0", "file2"]
    for name, psnr, ssim in rows:
        with h5py.File(volumes / f"{name}.h5") as file:
            target = file["reconstruction_esc"][()]
        preds = read(out / f"{name}.h5")
        assert float(psnr) == pytest.approx(fastmri.evaluate.psnr(target, preds), abs=0.00501)
        assert float(ssim) == pytest.approx(fastmri.evaluate.ssim(target, preds), abs=0.0000501)


def test_fastmri_evaluates_the_folder(run, volumes, tmp_path):
    out = predict_to(tmp_path / "out", run, volumes)
    arguments = argparse.Namespace(target_path=volumes, predictions_path=out, acquisition=None, acceleration=None)
    found = fastmri.evaluate.evaluate(arguments, "reconstruction_esc").means()
    dataset = FastMRIDataset(volumes, None)
    preds = [torch.from_numpy(read(out / f"{volume.name}.h5")) for volume in dataset.volumes]
    psnrs = [
        float(reconstruction.psnr(preds[i], dataset.volume_target(i), volume.maximum))
        for i, volume in enumerate(dataset.volumes)
    ]
    assert np.mean(psnrs) == pytest.approx(float(np.squeeze(found["PSNR"])), abs=1e-6)


def by_hand(run: Path, path: Path, mask: np.ndarray) -> np.ndarray:
    """The network's output for a file under a mask, with numpy up to the network."""
    with h5py.File(path) as file:
        kspace = file["kspace"][()] * mask
    axes = (-2, -1)
    image = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)[..., 8:40, 4:36]
    magnitude = np.linalg.norm(image, axis=1) if image.ndim == 4 else np.abs(image)
    mean, std = (f(magnitude, axis=(1, 2), keepdims=True) for f in (np.mean, lambda x, **k: np.std(x, ddof=1, **k)))
    with torch.no_grad():
        output = open_network(run).task.eval()(batch_of(torch.from_numpy((magnitude - mean) / std).float()[:, None]))[
            :, 0
        ]
    return output.numpy() * std + mean


def test_coils_are_found_in_each_file(run, tmp_path, capsys):
    write_volume(tmp_path / "data" / "several.h5", n_coils=3, seed=1)
    write_volume(tmp_path / "data" / "single.h5", seed=1)
    out = predict_to(tmp_path / "out", run, tmp_path / "data")
    assert names(out) == ["several.h5", "single.h5"]
    assert "no target" not in capsys.readouterr().out
    mask = FastMRIDataset(tmp_path / "data" / "several.h5", None, "multicoil").mask(0).numpy()
    expected = by_hand(run, tmp_path / "data" / "several.h5", mask)
    np.testing.assert_allclose(read(out / "several.h5"), expected, atol=1e-5 * expected.max())


def test_a_file_with_a_mask_and_no_target_is_masked_with_its_own(run, tmp_path, capsys):
    mask = np.arange(40) % 3 == 0
    mask[17:23] = True
    path = write_volume(tmp_path / "data" / "secret.h5", target=False, mask=mask)
    out = predict_to(tmp_path / "out", run, path)
    expected = by_hand(run, path, mask)
    np.testing.assert_allclose(read(out / "secret.h5"), expected, atol=1e-5 * expected.max())
    table = capsys.readouterr().out
    assert "no target" in table
    assert "the file's" in table


def test_nifti_holds_the_same_numbers_and_the_headers_voxels(run, volumes, tmp_path):
    expected = read(predict_to(tmp_path / "h5", run, volumes / "file0.h5") / "file0.h5")
    out = predict_to(tmp_path / "nifti", run, volumes / "file0.h5", "--format", "nifti")
    image = nibabel.load(out / "file0.nii.gz")
    assert names(out) == ["file0.nii.gz"]
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asanyarray(image.dataobj).transpose(2, 1, 0), expected)
    assert image.header.get_zooms() == pytest.approx((VOXEL[1], VOXEL[0], VOXEL[2]))
    assert image.header.get_xyzt_units()[0] == "mm"
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    for affine, code in (image.get_sform(coded=True), image.get_qform(coded=True)):
        assert code > 0
        np.testing.assert_allclose(affine, image.affine, atol=1e-5)
    middle = (16, 16, 1)
    np.testing.assert_allclose(nibabel.affines.apply_affine(image.affine, middle), 0, atol=1e-5)
    again = predict_to(tmp_path / "again", run, volumes / "file0.h5", "--format", "nifti")
    assert (again / "file0.nii.gz").read_bytes() == (out / "file0.nii.gz").read_bytes()


@pytest.mark.parametrize("size", [(32, 32), (24, 28), (36, 48), (31, 33), (25, 41)])
def test_a_marked_pixel_is_where_it_was_however_the_image_is_cropped(run, volumes, tmp_path, size):
    """Row 27, column 13, slice 2 of the acquired 48 x 40 field, in mm from its centre."""
    marked = torch.zeros(3, *KSPACE)
    marked[2, 27, 13] = 1
    images = fit_center(marked[:, 8:40, 4:36], size)  # the file's own crop, then the run's
    job = plan(open_network(run), Input(volumes / "file0.h5", inputs.KSPACE), tmp_path, "nifti")
    job.dataset.write(job.path, images.contiguous(), job.made_by)
    image = nibabel.load(job.path)
    voxel = np.argwhere(np.asanyarray(image.dataobj) == 1)
    world = nibabel.affines.apply_affine(image.affine, voxel)
    np.testing.assert_allclose(world, [[(20 - 13) * VOXEL[1], (24 - 27) * VOXEL[0], VOXEL[2]]], rtol=1e-5)


def test_another_image_size(run, volumes, tmp_path):
    whole = predict_to(tmp_path / "whole", run, volumes / "file0.h5", "--format=nifti")
    cropped = predict_to(
        tmp_path / "crop", run, volumes / "file0.h5", "--format=nifti", "--dataset.image_size=[24, 40]"
    )
    before, after = (nibabel.load(folder / "file0.nii.gz") for folder in (whole, cropped))
    assert after.shape == (40, 24, 3)
    np.testing.assert_allclose(np.linalg.inv(before.affine) @ after.affine @ [0, 0, 0, 1], [-4, 4, 0, 1], atol=1e-5)


def test_a_header_without_an_extent_gives_voxels_of_1_mm_and_says_so(run, tmp_path, capsys):
    path = write_volume(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        text = file["ismrmrd_header"][()]
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = text.replace(b"fieldOfView_mm", b"else")
    out = predict_to(tmp_path / "out", run, path, "--format", "nifti")
    assert nibabel.load(out / "scan.nii.gz").header.get_zooms() == (1, 1, 1)
    assert "voxels of 1 mm, because the header tells no size: scan.nii.gz" in capsys.readouterr().err
    predict_to(tmp_path / "h5", run, path)
    assert "1 mm" not in capsys.readouterr().err


@pytest.mark.parametrize("file_format", ["hdf5", "nifti"])
def test_what_is_done_is_skipped(run, volumes, tmp_path, capsys, file_format):
    flags = ["--format", file_format]
    out = predict_to(tmp_path / "out", run, volumes, *flags)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    capsys.readouterr()
    predict_to(out, run, volumes, *flags)
    output = capsys.readouterr()
    assert "skipped" in output.err
    assert "file0.h5, file1.h5, file2.h5" in output.err
    assert output.out == ""
    first, *others = sorted(before)
    content = first.read_bytes()
    first.unlink()
    predict_to(out, run, volumes, *flags)
    assert "Written: 1 of 3 volumes" in capsys.readouterr().out
    assert first.read_bytes() == content
    assert [path.stat().st_mtime_ns for path in others] == [before[path] for path in others]


def test_ctrl_c_leaves_whole_files_and_the_same_command_goes_on(run, volumes, tmp_path, capsys, monkeypatch):
    out, forward, calls = tmp_path / "out", ReconstructionTask.forward, []

    def stop(task: ReconstructionTask, image: torch.Tensor) -> torch.Tensor:
        calls.append(image)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return forward(task, image)

    with monkeypatch.context() as patch:
        patch.setattr(ReconstructionTask, "forward", stop)
        assert main([str(run), str(volumes), "--out", str(out)]) == 130
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said == "interrupted: 1 of 3 volumes are written, each whole; the same command goes on with the others"
    assert names(out) == ["file0.h5"]
    predict_to(out, run, volumes)
    whole = predict_to(tmp_path / "whole", run, volumes)
    assert {path.name: read(path).tobytes() for path in out.iterdir()} == {
        path.name: read(path).tobytes() for path in whole.iterdir()
    }


def test_files_that_this_job_did_not_write_are_neither_skipped_nor_overwritten(run, volumes, tmp_path, capsys):
    inputs = Path(shutil.copytree(volumes, tmp_path / "data"))
    content = (inputs / "file0.h5").read_bytes()
    sentence = refuse(capsys, main, run, inputs / "file0.h5", "--out", inputs)  # onto its own input
    assert "file0.h5 would be written over" in sentence
    assert "give another --out" in sentence
    assert (inputs / "file0.h5").read_bytes() == content
    out = predict_to(tmp_path / "out", run, inputs)
    assert "not what this run makes of" in refuse(
        capsys, main, run, inputs, "--out", out, "--dataset.image_size=[24, 24]"
    )
    trained_on = Path(shutil.copytree(run, tmp_path / "run"))
    checkpoint = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    next(iter(checkpoint["state_dict"].values())).mul_(2)
    torch.save(checkpoint, trained_on / "checkpoints" / "best.ckpt")
    assert "not what this run makes of" in refuse(capsys, main, trained_on, inputs, "--out", out)
    write_volume(inputs / "file1.h5", seed=99)
    assert "file1.h5 is there already" in refuse(capsys, main, run, inputs, "--out", out)
    (out / "file1.h5").write_bytes(b"no HDF5")
    assert "file1.h5" in refuse(capsys, main, run, inputs, "--out", out)
    (tmp_path / "file0.nii.gz").write_bytes(b"no NIfTI")
    flags = ["--format", "nifti", "--out", tmp_path]
    assert "not a readable NIfTI volume" in refuse(capsys, main, run, inputs / "file0.h5", *flags)


def test_a_checkpoint_can_be_named(run, volumes, tmp_path):
    best = predict_to(tmp_path / "best", run, volumes / "file0.h5")
    same = predict_to(tmp_path / "same", run / "checkpoints" / "best.ckpt", volumes / "file0.h5")
    np.testing.assert_array_equal(read(best / "file0.h5"), read(same / "file0.h5"))


def test_files_are_open_one_at_a_time(run, volumes, tmp_path, monkeypatch):
    mask = np.ones(40, bool)
    write_volume(tmp_path / "masked.h5", mask=mask)
    counts, write = [], FastMRIDataset.write

    def count(*arguments: object) -> None:
        counts.append(h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE))
        write(*arguments)

    monkeypatch.setattr(FastMRIDataset, "write", count)
    predict_to(tmp_path / "out", run, volumes, tmp_path / "masked.h5")
    assert len(counts) == 4
    assert len(set(counts)) == 1


def test_inputs_that_cannot_be(capsys, run, volumes, tmp_path):
    def says(*inputs: str | Path) -> str:
        sentence = refuse(capsys, main, run, *inputs, "--out", tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return sentence

    assert "there is no file or folder" in says(volumes, tmp_path / "nowhere")
    assert "cannot be empty" in says("")
    (tmp_path / "empty").mkdir()
    assert "holds no fastMRI files" in says(volumes, tmp_path / "empty")
    assert "give the folder that does, such as " in says(volumes.parent)  # of several splits
    (tmp_path / "text.h5").write_text("no HDF5")
    assert "text.h5" in says(volumes, tmp_path / "text.h5")
    (tmp_path / "empty" / "gone.h5").symlink_to(tmp_path / "nowhere")
    assert "gone.h5" in says(tmp_path / "empty")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(3)
    assert "not a fastMRI file" in says(volumes, tmp_path / "other.h5")
    write_volume(tmp_path / "again" / "file1.h5")
    assert re.search(r"singlecoil_val/file1.h5 and .*again/file1.h5 have one name", says(volumes, tmp_path / "again"))
    assert "have one name" in says(volumes, volumes / "file0.h5")


def test_sizes_that_the_network_cannot_take(capsys, run, volumes, tmp_path):
    path = write_volume(tmp_path / "odd.h5", image_size=(32, 30))
    sentence = refuse(capsys, main, run, volumes, path, "--out", tmp_path / "out")
    assert "odd.h5" in sentence
    assert "width 30" in sentence
    assert "--dataset.image_size '[32, 28]'" in sentence
    assert not (tmp_path / "out").exists()
    predict_to(tmp_path / "out", run, volumes, path, "--dataset.image_size", "[32, 28]")  # what it says helps
    flags = ["--dataset.image_size=[4, 8]", "--out", tmp_path / "small"]
    assert "smaller than the 7 x 7 window" in refuse(capsys, main, run, volumes, *flags)


def test_k_space_that_is_not_finite(capsys, run, volumes, tmp_path):
    path = write_volume(tmp_path / "holes.h5")
    with h5py.File(path, "a") as file:
        file["kspace"][1] = np.nan
    sentence = refuse(capsys, main, run, volumes, path, "--out", tmp_path / "out", "--batch-size", "2")
    assert "holes.h5: its reconstruction is not finite in slice 1" in sentence
    assert names(tmp_path / "out") == ["file0.h5", "file1.h5", "file2.h5"]


def test_too_little_memory(capsys, run, volumes, tmp_path, monkeypatch):
    def exhausted(task: ReconstructionTask, image: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(ReconstructionTask, "forward", exhausted)
    sentence = refuse(capsys, main, run, volumes, "--out", tmp_path / "out", "--batch-size", "2")
    assert "too little memory for 2 slices" in sentence


FLAGS = {
    "no argument": ([], "RUN"),
    "no input": (["{run}"], "INPUT"),
    "no out": (["{run}", "{volumes}"], "--out"),
    "an empty out": (["{run}", "{volumes}", "--out="], "cannot be empty"),
    "a mistyped format": (["{run}", "{volumes}", "--out=o", "--format=nfti"], "did you mean 'nifti'"),
    "a mistyped flag": (["{run}", "{volumes}", "--out=o", "--batchsize=2"], "--batchsize"),
    "no batch": (["{run}", "{volumes}", "--out=o", "--batch-size=0"], "--batch-size: '0' is not a whole number from 1"),
    "no device": (["{run}", "{volumes}", "--out=o", "--device=abacus"], "no device 'abacus'"),
    "no size": (["{run}", "{volumes}", "--out=o", "--dataset.image_size=320"], "is not a size"),
    "an impossible size": (["{run}", "{volumes}", "--out=o", "--dataset.image_size=[0, 4]"], "'[0, 4]' is not a size"),
    "no such run": (["nowhere", "{volumes}", "--out=o"], "there is no run folder nowhere"),
    "no run folder": (["{volumes}", "{volumes}", "--out=o"], "no config.yaml"),
    "no such checkpoint": (["{run}/checkpoints/none.ckpt", "{volumes}", "--out=o"], "there is no checkpoint"),
    "a checkpoint alone": (["alone.ckpt", "{volumes}", "--out=o"], "is not a run folder"),
    "out is a file": (["{run}", "{volumes}", "--out=file"], "cannot write to file"),
    "out is below a file": (["{run}", "{volumes}", "--out=file/o"], "cannot write to file/o"),
}


@pytest.mark.parametrize(("argv", "says"), FLAGS.values(), ids=FLAGS)
def test_flags(capsys, run, volumes, here, argv, says):
    (here / "file").touch()
    (here / "alone.ckpt").touch()
    assert says in refuse(capsys, main, *(token.format(run=run, volumes=volumes) for token in argv))
    assert names(here) == ["alone.ckpt", "file"]


def test_a_mask_that_cannot_be_made_is_refused_before_anything_runs(capsys, run, volumes, tmp_path):
    """A fifth of 40 columns leaves some to place, a fifth of 8 does not."""
    other = Path(shutil.copytree(run, tmp_path / "run"))
    config = (run / "config.yaml").read_text()
    changed = config.replace("mask_type: random", "mask_type: equispaced_fraction").replace("- 0.08", "- 0.2")
    (other / "config.yaml").write_text(changed)
    narrow = write_volume(tmp_path / "narrow.h5", size=(48, 8), image_size=(8, 8))
    sentence = refuse(capsys, main, other, volumes, narrow, "--out", tmp_path / "out")
    assert "narrow.h5 cannot have the run's mask" in sentence
    assert not (tmp_path / "out").exists()


def test_help_states_the_conventions(capsys):
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("taken as fully sampled", "the orientation is a convention", "never overwritten", "fastmri.evaluate"):
        assert part in text
    assert predict.SUFFIXES.keys() == {"hdf5", "nifti"}
