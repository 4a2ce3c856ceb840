"""Images in HU and magnitudes: DICOM series and NIfTI volumes."""

from __future__ import annotations

import contextlib
import gzip
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, generate_uid

from benchmarks.fuzz.damage import Random, copy_beside, damage_any, number_or_text, rename
from benchmarks.fuzz.inputs import Inputs
from benchmarks.fuzz.judge import Command
from pipelines.commands import predict, prepare

ELEMENTS = (
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"),
    *("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept", "ImagePositionPatient"),
    *("ImageOrientationPatient", "PixelPaddingValue", "PixelPaddingRangeLimit", "NumberOfFrames", "RescaleType"),
    *("Modality", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "ImageType", "PhotometricInterpretation"),
    *("SpecificCharacterSet", "PatientName", "PixelAspectRatio", "WindowCenter", "SpacingBetweenSlices", "PixelData"),
)
SYNTAXES = (ImplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless, "1.2.840.10008.1.2.2", "1.2.3", "")


def dicom(inputs: Inputs, folder: Path, random: Random) -> Command:
    """A series, one of whose slices is damaged, among what else may lie in such a folder."""
    data = inputs.copy("dicom", folder / "data")
    path = random.choice(sorted(data.iterdir()))
    kind = random.randrange(10)
    if kind < 6:
        for _ in range(random.choice((1, 1, 2))):
            change_element(path, random)
    elif kind < 9:
        damage_any(path, random)
    else:
        _beside(path, random)
    return _command(inputs, folder, data, random)


_REFUSED = (ValueError, TypeError, AttributeError, KeyError, OverflowError, struct.error, NotImplementedError)
"""What pydicom raises where it does not write a value: the slice stays as it was."""


def change_element(path: Path, random: Random) -> None:
    """Another value of one element, or none, in a file that is whole."""
    with warnings.catch_warnings(action="ignore"), contextlib.suppress(*_REFUSED):
        header = pydicom.dcmread(path)
        name = random.choice(ELEMENTS)
        if name == "PixelData" and random.random() < 0.7:
            header.PixelData = random.choice((header.PixelData[:-3], b"", header.PixelData * 2, b"\xff" * 2048))
        elif random.random() < 0.15:
            header.file_meta.TransferSyntaxUID = pydicom.uid.UID(random.choice(SYNTAXES))
        elif random.random() < 0.25:
            delattr(header, name)
        else:
            old = getattr(header, name, None)
            n = len(old) if isinstance(old, (list, pydicom.multival.MultiValue)) else 1
            setattr(header, name, _values(name, random, n))
        pydicom.dcmwrite(path, header, enforce_file_format=False)


def _values(name: str, random: Random, n: int) -> object:
    if name.endswith("UID"):
        return random.choice((generate_uid(), "1.2.3", "", "x" * 64, pydicom.uid.CTImageStorage))
    count = random.choice((n, n, n, 1, 0, n + 1))
    found = [number_or_text(random) for _ in range(count)]
    if name in ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel"):
        return random.choice((0, 1, 8, 16, 31, 32, 64, 1000, 65535))
    if name in ("PixelSpacing", "SliceThickness", "RescaleSlope", "RescaleIntercept") or name.startswith("Image"):
        found = [str(value)[:16] if isinstance(value, (int, float)) else value for value in found]
    return found if n > 1 else found[0] if found else ""


def _beside(path: Path, random: Random) -> None:
    """More files in the folder."""
    folder = path.parent
    kind = random.randrange(5)
    if kind == 0:
        copy_beside(path, random)
    elif kind == 1:
        (folder / random.choice(("README", "DICOMDIR", "notes.txt", ".DS_Store", "x.dcm"))).write_bytes(b"text\n" * 40)
    elif kind == 2:
        (folder / "other").mkdir()
        copy_beside(path, random).rename(folder / "other" / "slice.dcm")
    elif kind == 3:
        rename(path, random)
    else:
        path.unlink()


FIELDS = {
    "sizeof_hdr": (0, "i", 1),
    "dim": (40, "h", 8),
    "intent": (68, "h", 1),
    "datatype": (70, "h", 1),
    "bitpix": (72, "h", 1),
    "pixdim": (76, "f", 8),
    "vox_offset": (108, "f", 1),
    "scl_slope": (112, "f", 1),
    "scl_inter": (116, "f", 1),
    "xyzt_units": (123, "B", 1),
    "descrip": (148, "B", 80),
    "qform_code": (252, "h", 1),
    "sform_code": (254, "h", 1),
    "quatern": (256, "f", 6),
    "srow": (280, "f", 12),
    "magic": (344, "B", 4),
    "extension": (348, "B", 4),
}
"""Offset, type and number of NIfTI-1's header fields."""


def nifti(inputs: Inputs, folder: Path, random: Random) -> Command:
    """A volume with a damaged header, checksum or content."""
    data = inputs.copy("nifti", folder / "data")
    path, other = random.sample(sorted(data.iterdir()), 2)
    if random.random() < 0.8:
        other.unlink()
    if random.random() < 0.55:
        packed = path.suffix == ".gz"
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        content = change_field(content, random)
        path.write_bytes(gzip.compress(content) if packed else content)
    elif random.random() < 0.2:
        dtype = random.choice(("f4", "c8", "?", "i1", "O"))
        path.unlink()
        np.save(
            data / "volume.npy",
            np.ones(random.choice(((2, 32, 32), (32, 32), (), (0, 3, 3))), dtype),
            allow_pickle=True,
        )
    else:
        damage_any(path, random)
    return _command(inputs, folder, data, random)


def change_field(content: bytes, random: Random) -> bytes:
    """One or two numbers of the header."""
    found = bytearray(content)
    for _ in range(random.choice((1, 1, 2))):
        start, kind, n = FIELDS[random.choice(list(FIELDS))]
        size = struct.calcsize(kind)
        at = start + size * random.randrange(n)
        if kind == "f":
            values = (0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30, 3e38, 352.0, 400.0, 10.0, 1e6)
            found[at : at + size] = struct.pack("<f", random.choice(values))
        else:
            bits = 8 * size
            odd = (0, 1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 128, 256, 512, 768, 1536, 2304, 2**15, 2**16 - 1, 2**31, 32767)
            found[at : at + size] = (random.choice(odd) % 2**bits).to_bytes(size, "little")
    return bytes(found)


def _command(inputs: Inputs, folder: Path, data: Path, random: Random) -> Command:
    out = folder / "out"
    named = [path for path in data.iterdir() if path.suffix in (".nii", ".gz", ".npy")]
    what = str(named[0] if named and random.random() < 0.8 else data)
    kind = random.choices(("predict", "mri", "ct"), (6, 3, 1))[0]
    if kind == "predict":
        argv = [str(inputs.run("ct")), what, f"--out={out}", f"--format={random.choice(('hdf5', 'nifti'))}"]
        return Command("recon-predict", predict.main, argv, out, data, all_or_nothing=True)
    more = ["--matrix=32", f"--coils={random.choice((0, 0, 2))}"] if kind == "mri" else []
    argv = ["simulate", what, f"--task={kind}", f"--out={out}", *more]
    return Command("recon-prepare", prepare.main, argv, out, data, all_or_nothing=True)
