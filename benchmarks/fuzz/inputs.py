"""Tiny valid inputs in the true schemas, and runs trained on them."""

from __future__ import annotations

import gzip
import pickle
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from benchmarks.fastmri_files import write_volumes
from data_prep import write_lodopab
from pipelines.commands import evaluate, train
from pipelines.tuning.ledger import COMPLETE, Ledger, Trial

SIDE = 32
SHORT = [
    *("--dataset.batch_size=2", "--dataset.n_workers=0", "--threads=1", "--trainer.max_epochs=1"),
    *("--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"),
    *("--trainer.devices=1", "--trainer.enable_progress_bar=false", "--evaluation.shifts=1", "--evaluation.split=val"),
]
UNET = ["--network.widths=[4,6]", "--network.norm=instance", *SHORT]
RESNET = ["--network.architecture=resnet20", "--network.form=cifar", "--evaluation.max_shift=4", *SHORT]
OF_TASK = {"mri": UNET, "ct": [*UNET, f"--dataset.image_size=[{SIDE},{SIDE}]"], "cifar10": RESNET}
OF_TASK |= {
    "fashion_mnist": RESNET,
    "imagenet": [*RESNET, "--dataset.resize=36", f"--dataset.image_size=[{SIDE},{SIDE}]"],
}


def write_mri(folder: Path) -> None:
    """Two slices of single-coil k-space each, to train on and to validate on."""
    for split in ("train", "val"):
        write_volumes(folder / f"singlecoil_{split}", 1, 2, (SIDE, SIDE), (SIDE, SIDE))


def write_multicoil(folder: Path) -> None:
    """The same with three coils."""
    for split in ("train", "val"):
        write_volumes(folder / f"multicoil_{split}", 1, 2, (SIDE, SIDE), (SIDE, SIDE), n_coils=3)


def write_ct(folder: Path) -> None:
    """Discs in LoDoPaB's schema: 32 x 32 pixels of 26 cm, 30 angles, 47 detectors, integrals divided by MU_MAX."""
    folder.mkdir(parents=True)
    detector = np.abs(np.arange(47) - 23) * 0.26 * 2**0.5 / 47
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    radii = (0.06, 0.08)
    images = np.stack([0.2 * (np.hypot(y, x) * 0.26 / SIDE < radius) for radius in radii])
    lines = np.stack([0.4 * np.sqrt(np.maximum(radius**2 - detector**2, 0)) for radius in radii])
    sinograms = np.repeat(lines[:, None], 30, axis=1)
    for split in ("train", "val"):
        write_lodopab(folder, split, 0, images.astype(np.float32), sinograms.astype(np.float32))


def hounsfield() -> np.ndarray:
    """(slices, rows, columns) int16: a disc of tissue in air."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    return np.stack([np.where(np.hypot(y, x) < SIDE / n, 40, -1000) for n in (3, 4)]).astype(np.int16)


def write_nifti(folder: Path) -> None:
    """One volume in HU, plain and packed."""
    folder.mkdir(parents=True)
    image = nibabel.Nifti1Image(hounsfield().transpose(2, 1, 0), np.diag([-5.0, -5.0, 3.0, 1.0]))
    image.header.set_xyzt_units("mm")
    for name in ("chest.nii", "packed.nii.gz"):
        nibabel.save(image, folder / name)


def write_dicom(folder: Path) -> None:
    """A series of two axial slices."""
    folder.mkdir(parents=True)
    series = generate_uid()
    for number, hu in enumerate(hounsfield()):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid()
        header = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        header.Modality, header.SeriesInstanceUID, header.PatientID = "CT", series, "0"
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.ImagePositionPatient, header.ImageOrientationPatient = [0, 0, 3 * number], [1, 0, 0, 0, 1, 0]
        header.PixelSpacing, header.SliceThickness = [5, 5], 3
        header.RescaleSlope, header.RescaleIntercept, header.RescaleType = 1, -1024, "HU"
        header.Rows, header.Columns = hu.shape
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation = 15, 0
        header.PixelData = (hu.astype(np.int32) + 1024).astype("<u2").tobytes()
        pydicom.dcmwrite(folder / f"slice{number}.dcm", header, enforce_file_format=True)


def write_cifar(folder: Path) -> None:
    """CIFAR-10's batches, 2 images in each; protocol 3, which keeps the pixels as bytes as Python 2 did."""
    root, random = folder / "cifar-10-batches-py", np.random.default_rng(0)
    root.mkdir(parents=True)
    meta = {"label_names": ["airplane", *(f"name{i}" for i in range(9))], "num_vis": 3072}
    (root / "batches.meta").write_bytes(pickle.dumps(meta, 3))
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        data = random.integers(0, 256, (2, 3072)).astype(np.uint8)
        labels = [(2 * number) % 10, (2 * number + 1) % 10]
        batch = {"batch_label": name, "labels": labels, "data": data, "filenames": ["a.png", "b.png"]}
        (root / name).write_bytes(pickle.dumps(batch, 3))


def write_fashion_mnist(folder: Path) -> None:
    """The four IDX files, packed."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part in ("train", "t10k"):
        for kind, shape in (("images-idx3", (10, 28, 28)), ("labels-idx1", (10,))):
            values = random.integers(0, 256, shape) if "3" in kind else np.arange(10)
            head = bytes((0, 0, 8, len(shape))) + b"".join(n.to_bytes(4, "big") for n in shape)
            content = head + values.astype(np.uint8).tobytes()
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))


def write_class_folders(folder: Path) -> None:
    """Two classes of two images, in each split."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("n00000001", "n00000002"):
            (folder / split / name).mkdir(parents=True)
            for number, suffix in enumerate(("JPEG", "png")):
                image = Image.fromarray(random.integers(0, 256, (40, 44, 3)).astype(np.uint8))
                image.save(folder / split / name / f"{number}.{suffix}")


class Inputs:
    """All inputs, each written when it is first asked for.

    Args:
        folder: for them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def _written(self, name: str, write: Callable[[Path], None]) -> Path:
        if not (self.folder / name).exists():
            write(self.folder / name)
        return self.folder / name

    def copy(self, name: str, folder: Path) -> Path:
        """A copy of an input, to be damaged.

        Args:
            name: mri, multicoil, ct, nifti, dicom, cifar10, fashion_mnist or imagenet.
            folder: not there yet.
        """
        return Path(shutil.copytree(self.data(name), folder))

    def data(self, name: str) -> Path:
        """The input itself, to be read only."""
        return self._written(name, WRITERS[name])

    def run(self, task: str) -> Path:
        """A run folder, trained on the input of the same name, which is its data for ever."""
        flags = [f"--task={task}", f"--data={self.data(task)}", *OF_TASK[task]]
        return self._written(f"{task}_run", lambda folder: _must(train.main([*flags, f"--out={folder}"])))

    @cached_property
    def evaluation(self) -> Path:
        """An evaluation of the run on MRI whose parts are there, but not what is made of them."""
        folder = self.folder / "evaluation"
        flags = ["--protocols", "plain", "equivariance", "--shifts=1", f"--out={folder}"]
        kept, evaluate._write = evaluate._write, _interrupt  # type: ignore[assignment]
        try:
            evaluate.main([str(self.run("mri")), *flags])
        finally:
            evaluate._write = kept
        return folder

    @cached_property
    def sweep(self) -> Path:
        """The folder of a sweep whose only two trials have ended, one of them as a run on MRI."""
        folder = self.folder / "sweep"
        folder.mkdir()
        write_sweep(folder, self.run("mri"), self.data("mri"))
        return folder


def write_sweep(folder: Path, run: Path, data: Path) -> None:
    """What recon-tune keeps, with a trained run as its first trial."""
    from pipelines.commands import tune
    from pipelines.tuning.request import make_request

    (folder / "space.yaml").write_text("optimizer.lr: {choice: [0.001, 0.002]}\nsweep: {samples: 2}\n")
    arguments, others = tune.build_parser().parse_known_args(
        [f"--space={folder / 'space.yaml'}", "--task=mri", f"--data={data}", *UNET]
    )
    request = make_request(vars(arguments), others)
    tune._store(folder, request)
    ledger = Ledger(folder)
    ledger.write(Trial(0, {"optimizer.lr": 0.001}, COMPLETE))
    ledger.write(Trial(1, {"optimizer.lr": 0.002}, "failed", "out of memory"))
    shutil.copytree(run, ledger.run_folder(0))


def _interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def _must(code: int) -> None:
    if code:
        raise RuntimeError(f"a valid training ended with exit code {code}")


WRITERS: dict[str, Callable[[Path], None]] = {
    "mri": write_mri,
    "multicoil": write_multicoil,
    "ct": write_ct,
    "nifti": write_nifti,
    "dicom": write_dicom,
    "cifar10": write_cifar,
    "fashion_mnist": write_fashion_mnist,
    "imagenet": write_class_folders,
}
