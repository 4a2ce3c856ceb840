"""ISMRMRD files (HDF5): the lines that a Cartesian 2-D scan measured, each put at its place in k-space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_prep.fastmri.headers import HeaderText
from data_prep.raw.opening import open_raw
from data_prep.raw.volume import RawVolume, checked
from recon.errors import InputError

CHUNK = 256  # lines that are read at once
CALIBRATION, AND_IMAGING, REVERSE = 20, 21, 22  # flags, as ismrmrd.h counts their bits
# noise, navigators, phase correction, feedback, dummies, the surface coils' correction, phase stabilisation
LEFT_OUT = (19, 23, 24, 26, 27, 28, 29, 30, 31)
REVERSED = "holds lines read in reverse (EPI, bipolar echoes): correct them first, and give the array with --axes"
PARTS = ("contrast", "phase", "repetition", "set")  # counters that tell volumes apart


def ismrmrd_groups(path: Path) -> list[str]:
    """Return the groups of an HDF5 file that hold ISMRMRD data: a header and acquisitions.

    Raises:
        InputError: the file cannot be read.
    """
    with open_raw(path) as file:
        return [name for name, item in file.items() if isinstance(item, h5py.Group) and {"xml", "data"} <= item.keys()]


def read_ismrmrd(path: Path, group: str) -> list[RawVolume]:
    """Read k-space of Cartesian 2-D imaging: one volume for each contrast, cardiac phase, repetition and set.

    A line of step e goes to column e - center + columns // 2, with the center that the encoding limits tell and the
    columns of the encoded matrix; its sample s to row s - center_sample + rows // 2. Lines measured several times are
    averaged. Lines of noise, navigators and other scans are left out, and calibration lines are, too, but where the
    header calls them embedded. Then the readout's oversampling is cropped away in the image.

    Args:
        path: the file.
        group: of the data, such as dataset.

    Raises:
        InputError: the package ismrmrd is not installed; the file cannot be read, is damaged, or holds another kind of
            imaging: non-Cartesian, 3-D, several bands at once, EPI with reversed lines, several encodings.

    Source: the ISMRM raw data format, Inati et al., Magnetic Resonance in Medicine 77, 411 (2017).
    """
    with open_raw(path) as file:
        header = _header(file[group], path, f"{group}/xml")
        lines = [line for line in _acquisitions(file[group], path) if not any(map(line.is_flag_set, LEFT_OUT))]
    notes = []
    if header.text("encoding/parallelImaging/calibrationMode") != "embedded":
        kept = [line for line in lines if not line.is_flag_set(CALIBRATION) or line.is_flag_set(AND_IMAGING)]
        if len(kept) < len(lines):
            notes.append(
                f"{len(lines) - len(kept)} calibration lines were left out, which the header does not call embedded"
            )
        lines = kept
    _check_lines(lines, path)
    parts: dict[tuple[int, ...], list[Any]] = {}
    for line in lines:
        parts.setdefault(tuple(getattr(line.idx, counter) for counter in PARTS), []).append(line)
    several = [len({key[i] for key in parts}) > 1 for i in range(len(PARTS))]
    return [
        _volume(parts[key], header, path, _part(key, several), notes)
        for key in sorted(parts)
    ]  # fmt: skip


def _part(key: Sequence[int], several: Sequence[bool]) -> str:
    return "-".join(f"{name}{n}" for name, n, many in zip(PARTS, key, several, strict=True) if many)


def _header(group: h5py.Group, path: Path, key: str) -> HeaderText:
    """The header of imaging that can be read."""
    found = group["xml"]
    texts = np.asarray(found[()]).ravel().tolist() if isinstance(found, h5py.Dataset) else []
    header = HeaderText(texts[0] if texts else b"", path, key)
    trajectory = header.text("encoding/trajectory")
    if trajectory == "epi":
        raise InputError(f"{path} {REVERSED}")
    if trajectory != "cartesian":
        raise InputError(
            f"{path} has a trajectory {trajectory}: grid its k-space first, and give the array with --axes"
        )
    steps = header.number("encoding/encodedSpace/matrixSize/z", 1)
    steps = max(steps, 1 + header.number("encoding/encodingLimits/kspace_encoding_step_2/maximum", 0))
    if steps > 1:
        raise InputError(
            f"{path} is a 3-D scan of {steps} steps along the third axis: transform its k-space along that one first, "
            "and give the array with --axes"
        )
    bands = header.number("encoding/parallelImaging/multiband/multiband_factor", 1)
    if bands > 1:
        raise InputError(f"{path} measured {bands} slices at once: separate them first, and give the array with --axes")
    return header


def _acquisitions(group: h5py.Group, path: Path) -> Iterable[Any]:
    try:
        from ismrmrd.file import Container
    except ImportError:
        raise InputError(
            f"{path} is an ISMRMRD file, for which the package ismrmrd is needed: install "
            "'shift-equivariant-recon[import]'"
        ) from None
    try:
        acquisitions = Container(group).acquisitions
        for start in range(0, len(acquisitions), CHUNK):
            yield from acquisitions[start : start + CHUNK]
    except (ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: the acquisitions are damaged, or are none ({error}): copy the file again") from error


def _check_lines(lines: Sequence[Any], path: Path) -> None:
    if not lines:
        raise InputError(f"{path} holds no lines of an image, but noise or calibration alone: give another file")
    if any(line.is_flag_set(REVERSE) for line in lines):
        raise InputError(f"{path} {REVERSED}")
    if any(line.encoding_space_ref for line in lines):
        raise InputError(f"{path} holds lines of several encodings: give a file for each")
    if any(line.idx.kspace_encode_step_2 for line in lines):
        raise InputError(f"{path} is a 3-D scan: transform its k-space along the third axis first, and give the array")
    coils = sorted({line.active_channels for line in lines})
    if len(coils) > 1 or 0 in coils:
        raise InputError(f"{path} holds lines of {' and '.join(map(str, coils))} coils: give a file for each")


def _volume(lines: Sequence[Any], header: HeaderText, path: Path, part: str, notes: Sequence[str]) -> RawVolume:
    sizes = header.sizes()
    rows, columns = sizes.encoded_size[:2]
    center = header.number("encoding/encodingLimits/kspace_encoding_step_1/center", columns // 2)
    kspace, measured, read = _place(lines, (rows, columns), center, path)
    notes = list(notes)
    if not read.all():
        notes.append(
            f"{np.sum(~read)} of {rows} samples along the readout were not measured (asymmetric echo) and are zero"
        )
    shown = _shown_rows(sizes.recon_field_of_view_mm, sizes.encoded_field_of_view_mm, rows)
    x, y = (sizes.encoded_field_of_view_mm or (0.0, 0.0))[:2]
    return RawVolume(
        path,
        checked(path, crop_readout(kspace, shown)),
        measured,
        field_of_view_mm=(x * shown / rows, y),
        thickness_mm=(sizes.recon_field_of_view_mm or (0.0,))[-1],
        resonance_hz=header.number("experimentalConditions/H1resonanceFrequency_Hz", 0),
        part=part,
        notes=tuple(notes),
    )


def _place(
    lines: Sequence[Any], size: tuple[int, int], center: int, path: Path
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """k-space (slices, coils, rows, columns), which columns were measured, and which rows."""
    rows, columns = size
    slices = sorted({line.idx.slice for line in lines})
    place = {number: s for s, number in enumerate(slices)}
    kspace = np.zeros((len(slices), lines[0].active_channels, rows, columns), np.complex64)
    times, read = np.zeros((len(slices), columns), int), np.zeros(rows, bool)
    for line in lines:
        column = line.idx.kspace_encode_step_1 - center + columns // 2
        samples = line.data[:, line.discard_pre : line.number_of_samples - line.discard_post]
        middle = line.center_sample
        if middle == 0 and line.number_of_samples == rows:  # left out by the program that wrote the file
            middle = rows // 2
        first = line.discard_pre - middle + rows // 2
        last = first + samples.shape[1]
        if not (0 <= column < columns and 0 <= first < last <= rows):
            raise InputError(
                f"{path}: line {line.idx.kspace_encode_step_1} with samples {first} to {last - 1} does not fit into "
                f"the encoded matrix of {rows} x {columns} (centre {center}): correct matrixSize or the centres in its "
                "header"
            )
        s = place[line.idx.slice]
        kspace[s, :, first:last, column] += samples
        times[s, column] += 1
        read[first:last] = True
    measured = times[0] > 0
    for s, of_slice in enumerate(times > 0):
        if (of_slice != measured).any():
            raise InputError(
                f"{path}: slice {slices[s]} was measured on {of_slice.sum()} columns and slice {slices[0]} on "
                f"{measured.sum()} or on others: a fastMRI file has one mask for all, give a file for each"
            )
    return kspace / np.maximum(times, 1)[:, None, None].astype(np.float32), measured, read


def _shown_rows(
    recon_mm: tuple[float, float, float] | None, encoded_mm: tuple[float, float, float] | None, rows: int
) -> int:
    """How many rows the reconstructed field of view has; all where the header does not tell."""
    if recon_mm is None or encoded_mm is None:
        return rows
    return min(rows, max(1, round(recon_mm[0] / encoded_mm[0] * rows)))


def crop_readout(kspace: np.ndarray, shown: int) -> np.ndarray:
    """Return the k-space of the middle rows of the image, whose pixels stay as they are.

    Args:
        kspace: complex (..., rows, columns), the centre at rows // 2.
        shown: how many rows; the image's centre, rows // 2, becomes shown // 2.

    Returns:
        complex64 (..., shown, columns).
    """
    rows = kspace.shape[-2]
    if shown == rows:
        return kspace
    first = rows // 2 - shown // 2
    cropped = np.empty((*kspace.shape[:-2], shown, kspace.shape[-1]), np.complex64)
    for number, image in enumerate(kspace):  # one by one, in float64
        lines = np.fft.ifftshift(image.astype(complex), -2)
        lines = np.fft.fftshift(np.fft.ifft(lines, axis=-2, norm="ortho"), -2)[..., first : first + shown, :]
        lines = np.fft.fft(np.fft.ifftshift(lines, -2), axis=-2, norm="ortho")
        cropped[number] = np.fft.fftshift(lines, -2)
    return cropped
