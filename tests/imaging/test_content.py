"""Files told by their beginnings, whatever their names."""

import gzip
import os
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from tests.helpers.images import EXPLICIT, RAMP, dicom_file
from unet_jax.imaging.content import beginning, is_dicom, is_gzip, is_picture

IMPLICIT, DEFLATED, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
IMAGE = RAMP.astype(np.uint16)


def data_set_alone(data: pydicom.Dataset, *, implicit: bool) -> bytes:
    """Write the elements of an object without preamble and file meta group."""
    file = DicomBytesIO()
    file.is_little_endian, file.is_implicit_VR = True, implicit
    write_dataset(file, data)
    return file.getvalue()


class TestDicom:
    @pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, DEFLATED, BIG_ENDIAN])
    def test_with_and_without_a_preamble(self, tmp_path, syntax):
        start = beginning(dicom_file(tmp_path / "a", IMAGE, syntax))
        assert is_dicom(start) and is_dicom(start[132:])

    @pytest.mark.parametrize("implicit", [True, False])
    def test_elements_alone(self, tmp_path, implicit):
        data = pydicom.dcmread(dicom_file(tmp_path / "a", IMAGE))
        assert is_dicom(data_set_alone(data, implicit=implicit))
        data.SpecificCharacterSet = "ISO_IR 100"
        assert is_dicom(data_set_alone(data, implicit=implicit))

    @pytest.mark.parametrize(
        "start",
        [
            b"",
            b"DICM",
            bytes(2048),
            b"\x08\0\x05\0CS\n\0ISO_IR 100",  # one element, which may be anything
            b"\x08\0\x16\0UI\4\x001.2\0\x08\0\x05\0CS\4\0abcd\0\0\0\0",  # out of order
            b"\x08\0\x05\0CS\4\0abcd\x10\0\x10\0PN\4\0abcd\0\0\0\0",  # the second of another group
            b"\x08\0\x05\0\xff\xff\xff\x7f" + b"abcd" * 20,  # longer than it can be
            b"\x89PNG\r\n\x1a\n" + bytes(200),
            b"GIF89a" + bytes(200),
        ],
    )
    def test_what_is_none(self, start):
        assert not is_dicom(start)

    @pytest.mark.parametrize(
        ("kind", "expected"),
        [
            ("1.2.840.10008.5.1.4.1.1.88.11", False),  # basic text report
            ("1.2.840.10008.5.1.4.1.1.88.59", False),  # key object selection
            ("1.2.840.10008.5.1.4.1.1.11.1", False),  # grey-scale presentation state
            ("1.2.840.10008.5.1.4.1.1.104.1", False),  # PDF
            ("1.2.840.10008.5.1.4.1.1.66", False),  # raw data
            ("1.2.840.10008.5.1.4.1.1.66.4", False),  # segmentation
            ("1.2.840.10008.5.1.4.1.1.481.2", False),  # dose
            ("1.2.840.10008.5.1.4.1.1.481.1", True),  # picture of radiotherapy
            ("1.2.840.10008.5.1.4.1.1.4", True),  # MR
            ("1.2.840.10008.5.1.4.1.1.4.1", True),  # enhanced MR
            ("1.2.840.10008.5.1.4.1.1.7", True),  # secondary capture
            ("1.3.12.2.1107.5.9.1", None),  # a maker's own
            ("1.2.840.10008.5.1.4.1.1.6.1", None),  # ultrasound, seldom among these
        ],
    )
    @pytest.mark.parametrize("implicit", [True, False])
    def test_kinds_that_are_a_picture_or_none(self, tmp_path, kind, expected, implicit):
        path = dicom_file(tmp_path / "a", IMAGE, IMPLICIT if implicit else EXPLICIT, SOPClassUID=kind)
        assert is_picture(beginning(path)) is expected
        data = pydicom.dcmread(path)
        assert is_picture(data_set_alone(data, implicit=implicit)) is expected


def test_gzip():
    packed = BytesIO()
    with gzip.GzipFile("", "wb", 9, packed) as f:
        f.write(b"abc")
    assert is_gzip(packed.getvalue()) and not is_gzip(b"\x1f\x8b") and not is_gzip(b"abc")


def test_what_cannot_be_looked_at_has_no_beginning(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # which is not waited for
    assert [beginning(tmp_path / name) for name in (".", "pipe", "gone")] == [b""] * 3
