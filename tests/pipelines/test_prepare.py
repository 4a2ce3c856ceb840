"""recon-prepare: what it writes can be trained on."""

from __future__ import annotations

import nibabel
import numpy as np

from data_prep import FastMRIDataset
from pipelines.prepare import main


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
