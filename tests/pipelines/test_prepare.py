"""recon-prepare: what it writes can be trained on."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch

from data_prep import FastMRIDataset, LoDoPaBDataset
from data_prep.lodopab import fbp_cache
from pipelines.commands.prepare import main
from recon.physics.ct import MU_MAX, attenuation_to_hu
from tests.data_prep.ct_files import write_ct


def test_nifti_volumes_become_fastmri_files_with_noise_of_their_own(tmp_path):
    image = np.zeros((40, 30, 3), np.float32)
    image[10:30, 8:22] = 1 + np.arange(3)
    paths = [tmp_path / name for name in ("a.nii.gz", "b.nii.gz")]
    for path in paths:
        nibabel.save(nibabel.Nifti1Image(image, np.diag([1.5, 1.0, 4.0, 1])), path)
    out = tmp_path / "out"
    assert main(["simulate", *map(str, paths), "--out", str(out), "--matrix", "48", "--split", "val"]) == 0
    dataset = FastMRIDataset(out, "val")
    assert [volume.name for volume in dataset.volumes] == ["a", "b"]
    first, second = dataset.volume_target(0), dataset.volume_target(1)
    assert first.shape == (3, 48, 48)
    centre = first[:, 20:28, 20:28].mean((1, 2)).numpy()
    np.testing.assert_allclose(centre, (1 + np.arange(3)) / 3, atol=0.01)
    background = [target[:, :4].flatten().numpy() for target in (first, second)]
    assert abs(np.corrcoef(background)[0, 1]) < 0.2
    assert main(["index", str(out)]) == 0


def test_the_bundled_sample_as_files(tmp_path):
    assert main(["simulate", "--out", str(tmp_path / "sample")]) == 0
    assert [len(FastMRIDataset(tmp_path / "sample", split).volumes) for split in ("train", "val", "test")] == [2, 1, 1]


class TestCT:
    @pytest.fixture
    def folder(self, tmp_path):
        return write_ct(tmp_path / "data", {"train": 2, "val": 1, "test": 1})

    def test_the_cache_is_what_a_training_starts_from(self, folder, monkeypatch, capsys):
        assert main(["cache", "--task", "ct", "--data", str(folder), "--dataset.window", "cosine"]) == 0
        shown = capsys.readouterr().out
        assert [line.split()[1:5] for line in shown.splitlines() if "60 x 47" in line] == [
            ["train", "│", "2", "│"],
            ["val", "│", "1", "│"],
            ["test", "│", "1", "│"],
        ]
        monkeypatch.setattr(fbp_cache, "fbp", None)
        for split in ("train", "val", "test"):
            assert len(LoDoPaBDataset(folder, split, window="cosine", image_size=None)) in (3, 6)
        with pytest.raises(TypeError):
            LoDoPaBDataset(folder, "val")

    def test_one_split_alone(self, folder, monkeypatch):
        assert main(["cache", "--data", str(folder), "--split", "val", "--split", "test"]) == 0
        monkeypatch.setattr(fbp_cache, "fbp", None)
        LoDoPaBDataset(folder, "test")
        LoDoPaBDataset(folder, "val")
        with pytest.raises(TypeError):
            LoDoPaBDataset(folder, "train")

    def test_index(self, folder, capsys):
        assert main(["index", str(folder), "--task", "ct"]) == 0
        assert "32 x 32" in capsys.readouterr().out

    def test_nifti_volumes_become_lodopab_files(self, tmp_path):
        hu = np.full((400, 370, 1), -1000, np.int16)  # from right to left, from back to front, in a LAS file
        hu[150:250, 150:200] = 0
        hu[200:210, 160:165] = 1000
        paths = [tmp_path / name for name in ("a.nii.gz", "b.nii.gz")]
        for path in paths:
            nibabel.save(nibabel.Nifti1Image(hu, np.diag([-0.7, 0.7, 2.0, 1])), path)
        out = tmp_path / "out"
        arguments = ["simulate", "--task", "ct", *map(str, paths), "--out", str(out), "--split", "val"]
        assert main([*arguments, "--photons", "10000"]) == 0
        data = LoDoPaBDataset(out, "val", image_size=None)
        assert [(v.name, v.n_slices, v.n_photons) for v in data.volumes] == [
            ("validation_000", 1, 10000),
            ("validation_001", 1, 10000),
        ]
        found = attenuation_to_hu(data.volume_target(0)[0] * MU_MAX)
        expected = torch.from_numpy(hu[19:381, 4:366, 0].astype(np.float32)).flip(1)  # then from front to back
        torch.testing.assert_close(found, expected + 0.5, atol=0.51, rtol=0)
        assert not torch.equal(data[0].image, data[1].image), "noise of its own"
        assert main(arguments) == 2, "not written over"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("cache --data nowhere", "nowhere cannot be read"),
            ("cache --data {tmp}/data --dataset.window han", "unknown window 'han'"),
            ("cache --data {tmp}/data --dataset.windows hann", "--dataset.windows"),
            ("index {tmp} --task ct", "has no files observation_train_*.hdf5"),
            ("simulate --task ct {tmp}/small.nii --out {tmp}/out", "shape (361, 362, 2): give axial"),
            ("simulate --task ct {tmp}/air.nii --out {tmp}/out", "air.nii, to be written as train_000"),
            ("simulate --task ct {tmp}/none.nii --out {tmp}/out", "not a readable NIfTI volume"),
            ("simulate --task ct --out {tmp}/out --photons 9", "leave the other flags out"),
            ("simulate --task ct a.nii --out {tmp}/out --band-limit 9", "--band-limit is for --task mri"),
            ("simulate a.nii --out {tmp}/out --photons 9", "--photons is for --task ct"),
        ],
    )
    def test_bad_input(self, folder, tmp_path, capsys, arguments, message):
        for name, shape in (("small", (361, 362, 2)), ("air", (362, 362, 1))):
            nibabel.save(nibabel.Nifti1Image(np.full(shape, -1024, np.int16), np.eye(4)), tmp_path / f"{name}.nii")
        assert main(arguments.format(tmp=tmp_path).split()) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error
