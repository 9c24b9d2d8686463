"""Image files written without the project, and what reading one must give."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

from unet_jax.imaging import read
from unet_jax.imaging.scan import ImageError, Reading

RAMP = np.arange(20 * 17).reshape(20, 17)
"""Not square, no symmetry, over 255: a transposed, mirrored or truncated picture differs from it."""

EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"


def same(path: Path, expected: np.ndarray) -> None:
    """Check that a file is read as that picture, and in that type."""
    image = read.read_image(path)
    assert image.dtype == expected.dtype
    assert image.flags.c_contiguous and image.dtype.isnative
    np.testing.assert_array_equal(np.ma.getmaskarray(image), np.ma.getmaskarray(expected))
    np.testing.assert_array_equal(np.ma.filled(image, 0), np.ma.filled(expected, 0))


def refused(path: Path, reason: str, **reading: Any) -> None:
    """Check that a file is refused in one line, which holds a text."""
    with pytest.raises(ImageError) as e, read.silent_readers():
        read.open(path, Reading(**reading))
    assert e.value.path == path
    assert reason in e.value.reason
    assert str(e.value) == f"{path}: {e.value.reason}"
    assert "\n" not in str(e.value)


def chunk(name: bytes, data: bytes) -> bytes:
    """Make a chunk of a PNG, with its right checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_bytes(h: int, w: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """Make a PNG of compressed rows; more chunks come before them."""
    header = struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), *more, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def png_file(path: Path, samples: np.ndarray, depth: int, colour: int, *more: bytes) -> Path:
    """Write a PNG of the given bit depth and colour type, without an image library."""
    rows = np.packbits(samples, axis=1) if depth == 1 else samples.astype(">u2" if depth == 16 else "u1")
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    path.write_bytes(png_bytes(*samples.shape[:2], depth, colour, packed, *more))
    return path


def dicom_file(path: Path, stored: np.ndarray, syntax: str = EXPLICIT, **changes: Any) -> Path:
    """Write a grey slice; each change is the value of an element, or None to leave it out."""
    elements = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "SOPInstanceUID": "1.2.3",
        "Modality": "MR",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": stored.shape[0],
        "Columns": stored.shape[1],
        "BitsAllocated": 8 * stored.dtype.itemsize,
        "BitsStored": 8 * stored.dtype.itemsize,
        "HighBit": 8 * stored.dtype.itemsize - 1,
        "PixelRepresentation": int(stored.dtype.kind == "i"),
        "PixelData": stored.astype(stored.dtype.newbyteorder(">" if syntax == BIG_ENDIAN else "<")).tobytes(),
    }
    elements.update(changes)
    data = Dataset()
    for name, value in elements.items():
        if value is not None:
            setattr(data, name, value + bytes(len(value) % 2) if name == "PixelData" else value)
    if "PixelData" in data:
        data["PixelData"].VR = "OB" if stored.dtype.itemsize == 1 else "OW"
        data["PixelData"].is_undefined_length = syntax.startswith("1.2.840.10008.1.2.4")
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
