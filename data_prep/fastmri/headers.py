"""The ISMRMRD header of a fastMRI file: what we read of it, and a minimal true one for simulated data."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from recon.errors import InputError

NAMESPACE = "http://www.ismrm.org/ISMRMRD"
SAME_PIXELS = 0.03  # sizes that differ by less are equal but for rounding
RESONANCE_HZ = 63_870_000  # hydrogen at 1.5 T: nominal, the bundled images do not tell their scanner


class Header(NamedTuple):
    """The part of the header that reconstruction needs; x is the readout axis (rows), y the phase axis (columns).

    Attributes:
        encoded_size: matrix (x, y, z) of k-space.
        recon_size: matrix (x, y, z) of the image; (x, y) is what is cropped to when a file has no target.
        recon_field_of_view_mm: extent (x, y, z) of the image in mm; None where the header does not tell three
            positive numbers.
        encoded_field_of_view_mm: the same, of the image that the whole of k-space gives.
    """

    encoded_size: tuple[int, int, int]
    recon_size: tuple[int, int, int]
    recon_field_of_view_mm: tuple[float, float, float] | None = None
    encoded_field_of_view_mm: tuple[float, float, float] | None = None

    @property
    def voxel_size_mm(self) -> tuple[float, float, float] | None:
        """Extent of a voxel of the image that k-space gives, along (x, y, z); None where that is not known.

        In the plane encoded_field_of_view_mm / encoded_size, and recon_field_of_view_mm / recon_size across it. Where
        the header does not tell the former, the latter is taken for both.
        """
        voxel, encoded = self.recon_voxel_mm, self.encoded_voxel_mm
        return voxel if voxel is None or encoded is None else (encoded[0], encoded[1], voxel[2])

    @property
    def same_pixels(self) -> bool | None:
        """Whether the reconstructed image's pixels have the size of k-space's image's; None where that is not known."""
        voxel, encoded = self.recon_voxel_mm, self.encoded_voxel_mm
        if voxel is None or encoded is None:
            return None
        return all(abs(n / m - 1) < SAME_PIXELS for n, m in zip(voxel[:2], encoded[:2], strict=True))

    @property
    def shown_size(self) -> tuple[int, int]:
        """The reconstructed image's field of view (x, y) in pixels of k-space's image; recon_size if not known."""
        fields, encoded = self.recon_field_of_view_mm, self.encoded_voxel_mm
        if fields is None or encoded is None:
            return self.recon_size[:2]
        return max(1, round(fields[0] / encoded[0])), max(1, round(fields[1] / encoded[1]))

    @property
    def recon_voxel_mm(self) -> tuple[float, float, float] | None:
        """recon_field_of_view_mm / recon_size; None where that is not known."""
        return _divide(self.recon_field_of_view_mm, self.recon_size)

    @property
    def encoded_voxel_mm(self) -> tuple[float, float, float] | None:
        """encoded_field_of_view_mm / encoded_size; None where that is not known."""
        return _divide(self.encoded_field_of_view_mm, self.encoded_size)


def _divide(extent: tuple[float, float, float] | None, size: tuple[int, int, int]) -> tuple[float, float, float] | None:
    if extent is None or min(size) < 1:
        return None
    x, y, z = (mm / n for mm, n in zip(extent, size, strict=True))
    return x, y, z


class HeaderText:
    """ISMRMRD XML (http://www.ismrm.org/ISMRMRD), and what stands in its elements.

    Args:
        text: the XML.
        path: the file that it stands in, for the message.
        key: what it is called there.

    Raises:
        InputError: the text is not XML, or is another document.
    """

    def __init__(self, text: bytes | str, path: Path, key: str = "ismrmrd_header") -> None:
        self._path, self._key = path, key
        try:
            self._root = ElementTree.fromstring(text)
        except (ElementTree.ParseError, ValueError) as error:
            raise self.unusable(f"it is not XML ({error})") from error
        if self._root.tag != f"{{{NAMESPACE}}}ismrmrdHeader":
            raise self.unusable(f"its root element is {self._root.tag!r}")

    def count(self, element: str) -> int:
        """Return how many elements there are at a path such as encoding/trajectory."""
        return len(self._root.findall(_steps(element)))

    def text(self, element: str) -> str | None:
        """Return the text of the first element at a path; None where there is none."""
        return self._root.findtext(_steps(element))

    def number(self, element: str, default: int | None = None) -> int:
        """Return a whole number; of an element that is not there, the default.

        Raises:
            InputError: it is none, or is not there and there is no default.
        """
        found = self.text(element)
        if found is None and default is not None:
            return default
        try:
            return int(found or "")
        except ValueError as error:
            raise self.unusable(f"{element} is {found!r:.40}, not a whole number") from error

    def sizes(self) -> Header:
        """Return the matrix sizes and the image's extent.

        Raises:
            InputError: one of the matrix sizes is not there.
        """

        def matrix(space: str) -> tuple[int, int, int]:
            x, y, z = (self.number(f"encoding/{space}/matrixSize/{axis}") for axis in "xyz")
            return x, y, z

        def extent(space: str) -> tuple[float, float, float] | None:
            return _positive([self.text(f"encoding/{space}/fieldOfView_mm/{axis}") for axis in "xyz"])

        spaces = "encodedSpace", "reconSpace"
        return Header(*map(matrix, spaces), *map(extent, reversed(spaces)))

    def unusable(self, why: str) -> InputError:
        """Return the sentence on a header that cannot be used."""
        return InputError(
            f"{self._path}: {self._key!r} is not a usable ISMRMRD header, {why}; correct it or leave the file out (it "
            "is the scanner's XML)."
        )


def _steps(element: str) -> str:
    return "/".join(f"{{{NAMESPACE}}}{step}" for step in element.split("/"))


def parse_header(text: bytes | str, path: Path) -> Header:
    """Read the matrix sizes and the image's extent from ISMRMRD XML.

    Args:
        text: the XML.
        path: the file that it stands in, for the message.

    Raises:
        InputError: the text is not XML, is another document, or lacks one of the matrix sizes.
    """
    return HeaderText(text, path).sizes()


def write_header(
    encoded_size: Sequence[int],
    recon_size: Sequence[int],
    field_of_view_mm: Sequence[float],
    thickness_mm: float,
    resonance_hz: int = RESONANCE_HZ,
) -> bytes:
    """Write a minimal ISMRMRD header of a fully sampled Cartesian 2-D acquisition.

    Args:
        encoded_size: (rows, columns) of k-space.
        recon_size: (rows, columns) of the image.
        field_of_view_mm: (rows, columns) extent of the encoded image in mm; the reconstructed one has the same
            pixels, hence its extent is in proportion. 0 where it is not known, as for the next two.
        thickness_mm: extent of one slice in mm.
        resonance_hz: hydrogen's frequency in the scanner's field.

    Returns:
        UTF-8 XML that `parse_header` and fastMRI's `et_query` read.
    """
    ElementTree.register_namespace("", NAMESPACE)
    root = ElementTree.Element(f"{{{NAMESPACE}}}ismrmrdHeader")
    _add(root, "experimentalConditions/H1resonanceFrequency_Hz", resonance_hz)
    encoding = ElementTree.SubElement(root, f"{{{NAMESPACE}}}encoding")
    for space, size in (("encodedSpace", encoded_size), ("reconSpace", recon_size)):
        extent = [mm * n / whole for mm, n, whole in zip(field_of_view_mm, size, encoded_size, strict=True)]
        for axis, n in zip("xyz", (*size, 1), strict=True):
            _add(encoding, f"{space}/matrixSize/{axis}", n)
        for axis, mm in zip("xyz", (*extent, thickness_mm), strict=True):
            _add(encoding, f"{space}/fieldOfView_mm/{axis}", float(mm))
    columns = encoded_size[1]
    for limit, n in (("minimum", 0), ("maximum", columns - 1), ("center", columns // 2)):
        _add(encoding, f"encodingLimits/kspace_encoding_step_1/{limit}", n)
    _add(encoding, "trajectory", "cartesian")
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def _positive(texts: Sequence[str | None]) -> tuple[float, float, float] | None:
    """Three positive numbers, or None."""
    try:
        x, y, z = (float(text or "") for text in texts)
    except ValueError:
        return None
    return (x, y, z) if all(math.isfinite(mm) and mm > 0 for mm in (x, y, z)) else None


def _add(parent: ElementTree.Element, steps: str, value: object) -> None:
    """Write a value at a path below the parent, making the elements on the way that are not there yet."""
    for step in steps.split("/"):
        tag = f"{{{NAMESPACE}}}{step}"
        found = parent.find(tag)
        parent = ElementTree.SubElement(parent, tag) if found is None else found
    parent.text = str(value)
