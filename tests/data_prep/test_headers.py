from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from data_prep import Header, parse_header, write_header
from recon.errors import InputError
from tests.data_prep.files import header

PATH = Path("somewhere/file7.h5")


def test_round_trip():
    text = write_header((256, 192), (200, 150), (280.0, 210.0), 5.0)
    found = parse_header(text, PATH)
    assert found[:2] == ((256, 192, 1), (200, 150, 1))
    assert found.voxel_size_mm == pytest.approx((280 / 256, 210 / 192, 5.0))  # the crop keeps the pixels


def test_fastmri_reads_ours():
    from fastmri.data.mri_data import et_query

    root = ElementTree.fromstring(write_header((256, 192), (200, 150), (280.0, 210.0), 5.0))
    expected = {
        "encodedSpace/matrixSize/x": 256,
        "encodedSpace/matrixSize/y": 192,
        "encodedSpace/matrixSize/z": 1,
        "encodedSpace/fieldOfView_mm/y": 210.0,
        "reconSpace/matrixSize/x": 200,
        "reconSpace/matrixSize/y": 150,
        "reconSpace/fieldOfView_mm/x": 280.0 * 200 / 256,
        "reconSpace/fieldOfView_mm/z": 5.0,
        "encodingLimits/kspace_encoding_step_1/center": 96,
        "encodingLimits/kspace_encoding_step_1/maximum": 191,
    }
    for steps, value in expected.items():
        assert float(et_query(root, ["encoding", *steps.split("/")])) == value


def test_reads_a_scanners():
    found = parse_header(header((640, 368), (320, 320)), PATH)
    assert found[:2] == ((640, 368, 1), (320, 320, 1))
    assert found.recon_field_of_view_mm == pytest.approx((140.0, 162.8 * 320 / 368, 4.5))
    assert found.encoded_field_of_view_mm == pytest.approx((280.0, 162.8, 4.5))
    assert found.voxel_size_mm == pytest.approx((280.0 / 640, 162.8 / 368, 4.5))


GOOD = header((640, 368), (320, 320)).decode()


@pytest.mark.parametrize("extent", ["", "many", "0", "-4.5", "nan", "inf"])
def test_an_extent_that_is_not_told_leaves_the_voxel_size_open(extent):
    found = parse_header(GOOD.replace("<z>4.5</z>", f"<z>{extent}</z>"), PATH)
    assert found == Header((640, 368, 1), (320, 320, 1))
    assert found.voxel_size_mm is None
    assert parse_header(GOOD.replace("fieldOfView_mm", "other"), PATH).voxel_size_mm is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is not XML"),
        ("no xml at all", "it is not XML"),
        (b"\xff\xfe\x00", "it is not XML"),
        ("<html/>", "its root element is 'html'"),
        (GOOD.replace("ISMRMRD", "else"), "its root element is '{http://www.ismrm.org/else}"),
        (GOOD.replace("reconSpace", "other"), "encoding/reconSpace/matrixSize/x is None"),
        (GOOD.replace("<x>320</x>", "<x>many</x>"), "encoding/reconSpace/matrixSize/x is 'many'"),
    ],
)
def test_bad_headers_name_the_file_and_the_reason(text, reason):
    with pytest.raises(InputError) as caught:
        parse_header(text, PATH)
    assert str(PATH) in str(caught.value)
    assert reason in str(caught.value)
