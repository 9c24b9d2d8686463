"""DICOM files without what must be there, or with what contradicts the rest."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from tests.helpers.images import RAMP, dicom_file, refused, same
from unet_jax.imaging import read

STORED = RAMP.astype(np.uint16)
SYNTAX = b"1.2.840.10008.1.2.1\0"


def changed(path: Path, before: bytes, after: bytes) -> Path:
    content = path.read_bytes()
    assert content.count(before) == 1 and len(before) == len(after)
    path.write_bytes(content.replace(before, after))
    return path


@pytest.mark.parametrize("name", ["SamplesPerPixel", "PhotometricInterpretation"])
def test_one_grey_channel_where_nothing_else_is_said(tmp_path, name):
    same(dicom_file(tmp_path / "a.dcm", STORED, **{name: None}), STORED)


@pytest.mark.parametrize("name", ["BitsAllocated", "BitsStored"])
def test_bits_must_be_told(tmp_path, name):
    refused(dicom_file(tmp_path / "a.dcm", STORED, **{name: None}), f"has no {name}; expected pixels of whole numbers")


def test_an_empty_transfer_syntax_is_found_out(tmp_path):
    same(changed(dicom_file(tmp_path / "a.dcm", STORED), SYNTAX, bytes(len(SYNTAX))), STORED)


def test_a_transfer_syntax_of_nobody(tmp_path):
    path = changed(dicom_file(tmp_path / "a.dcm", STORED), SYNTAX, b"1.3.840.10008.1.2.1\0")
    refused(path, "is written in a way, 1.3.840.10008.1.2.1, which pydicom does not know")


def test_compressed_pixels_that_are_said_to_be_none(tmp_path):
    # Longer than the pixels that the header says, so that their length does not give them away.
    stream = encapsulate([b"\xff\x4f\xff\x51" + bytes(900)])
    path = dicom_file(tmp_path / "a.dcm", STORED, JPEG2000Lossless, PixelData=stream)
    changed(path, JPEG2000Lossless.encode(), b"1.2.840.10008.1.2.1\0\0\0")
    refused(path, "has compressed pixels, though it says they are Explicit VR Little Endian")


def test_a_slope_with_a_decimal_comma(tmp_path):
    path = dicom_file(tmp_path / "a.dcm", STORED, RescaleSlope="1234567", RescaleIntercept="7654321")
    changed(changed(path, b"1234567 ", b"0,5     "), b"7654321 ", b"1       ")
    same(path, (STORED / 2 + 1).astype(np.float32))
    changed(path, b"0,5     ", b"a half  ")
    refused(path, "has a RescaleSlope of a half; expected a number")


def test_bytes_that_cannot_be_seen_are_escaped(tmp_path):
    path = dicom_file(tmp_path / "a.dcm", STORED, PixelSpacing=[111, 2222])
    changed(path, b"111.0\\2222.0", b"\x1b[2J\x01\xff anend")
    with read.silent_readers():
        (warning,) = read.open(path).warnings
    assert warning.isprintable() and warning.startswith("has a PixelSpacing of \\x1b[2J\\x01")
