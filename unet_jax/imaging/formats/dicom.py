"""Slices from DICOM files, by pydicom."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from unet_jax.imaging.content import beginning, is_dicom
from unet_jax.imaging.formats.medical import rescaled, upright
from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.imaging.scan import NO_TURN, Reading, Refused, Slices, Spacing, Turn, check_sides, one_line, spacing_of

MAX_BYTES = 2**29
"""Largest file, in bytes; a slice of the largest sides takes half of it."""
MAX_INFLATED_BYTES = 2**28 + 2**20
"""Largest size of a file that is deflated as a whole, unpacked: a slice of the largest sides, and what describes it."""

_HEADER: list[Any] = [
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
]
_WAYS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
"""Directions towards left, posterior and head of the letters of PatientOrientation."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNTOLD: dict[Any, Any] = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
"""Transfer syntaxes by whether they are implicit and little endian."""


def open_slices(path: Path, reading: Reading) -> Slices:
    """Read a DICOM file of one grey slice in the units of its modality.

    The modality's lookup table, or its rescale slope and intercept, are applied. MONOCHROME1, where white is the
    lowest value, is inverted within the range of its bits. What is stored as PixelPaddingValue, or from there to
    PixelPaddingRangeLimit, is masked.

    Returns:
        Image: integers where slope and intercept are whole, else float32. Spacing: PixelSpacing, ImagerPixelSpacing or
        NominalScannedPixelSpacing; without any PixelAspectRatio tells how high a pixel is. Upright by
        ImageOrientationPatient, or PatientOrientation.

    Raises:
        Refused: colour, several frames, or a compression that no installed package decodes.
        Exception: nearly any, of a file that is damaged.
    """
    if not is_dicom(beginning(path)):
        raise Refused("is no DICOM file; expected DICM at its byte 128, or elements of group 0002 or 0008 at its start")
    with path.open("rb") as file:
        return _read(path, Clamped(file), reading)


def _read(path: Path, file: Any, reading: Reading) -> Slices:
    # First as little as tells whether the rest may be read.
    size = path.stat().st_size
    syntax = _transfer_syntax(file)
    header = dcmread(file, stop_before_pixels=True, force=True, specific_tags=_HEADER)
    rows, columns = _check_header(header)
    if size > MAX_BYTES:
        raise Refused(f"is {size} bytes long; expected at most {MAX_BYTES} for one slice")
    compressed = getattr(syntax, "is_encapsulated", False)
    if compressed:
        _check_decoder(syntax)

    file.seek(0)
    dataset = dcmread(file, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        # Written alone, an object does not tell how; pydicom found out.
        dataset.file_meta.TransferSyntaxUID = _UNTOLD[dataset.original_encoding]
    if "PixelData" not in dataset:
        raise Refused("holds no pixels")
    expected = rows * columns * header.BitsAllocated // 8
    # A value of odd length is padded.
    if not compressed and len(dataset.PixelData) not in (expected, expected + expected % 2):
        raise Refused(f"holds {len(dataset.PixelData)} bytes of pixels; its header says {expected}")
    try:
        stored = pixel_array(dataset, raw=True)
    except Exception as e:
        if compressed:
            raise Refused(f"cannot be decoded as {syntax.name} ({one_line(e)})") from e
        raise
    spacing, turn = _spacing(dataset), _turn(dataset) if reading.upright else NO_TURN
    values, padding = _modality_values(dataset, stored), _padding(dataset, stored)
    if padding.any():
        values = np.ma.MaskedArray(values, padding)
    return Slices(values, spacing, aspect=None if spacing else _ratio(dataset), turn=turn)


def _transfer_syntax(file: Any) -> Any:
    """Read how the dataset is written from the part before it; the file is at its beginning before and after."""
    read_preamble(file, True)
    # Of the two that do this the public one opens the file by itself.
    syntax = _read_file_meta_info(file).get("TransferSyntaxUID")
    # pydicom unpacks what is deflated as a whole, up to 1,032 times as much, before it looks at the header.
    most = MAX_INFLATED_BYTES
    if syntax == _DEFLATED and len(zlib.decompressobj(-15).decompress(file.read(), most + 1)) > most:
        raise Refused(f"unpacks to over {most} bytes; expected at most those of one slice")
    file.seek(0)
    return syntax


def _check_header(header: Any) -> tuple[int, int]:
    """Return rows and columns of one grey slice, or refuse what is none."""
    if header.get("Rows") is None or header.get("Columns") is None:
        raise Refused("holds no picture")
    rows, columns = int(header.Rows), int(header.Columns)
    check_sides((rows, columns))
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise Refused(
            f"holds {frames} frames; expected one slice a file. Split it, or convert it to NIfTI (dcm2niix does)"
        )
    kind = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if int(header.get("SamplesPerPixel", 1)) != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise Refused(f"is in colour ({kind}); expected a grey slice, MONOCHROME1 or MONOCHROME2")
    if header.BitsAllocated not in (8, 16, 32):
        raise Refused(f"has {header.BitsAllocated} bits a pixel; expected 8, 16 or 32")
    # pydicom leaves out what old files keep in the bits above.
    bits = int(header.BitsStored)
    if not 1 <= bits <= header.BitsAllocated or int(header.get("HighBit", bits - 1)) != bits - 1:
        raise Refused(f"has values of {bits} bits up to bit {header.HighBit}; expected the lowest ones")
    return rows, columns


def _check_decoder(syntax: Any) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise Refused(f"is compressed as {syntax.name}, which pydicom does not know. Decompress it") from None
    if not decoder.is_available:
        packages = "; or ".join(decoder.missing_dependencies)
        raise Refused(f"is compressed as {syntax.name}, which takes another package ({packages}). Install it")


def _modality_values(dataset: Any, stored: np.ndarray) -> np.ndarray:
    inverted = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
    if dataset.get("ModalityLUTSequence"):
        # In wide integers, because pydicom subtracts the table's first value in the type that it is given.
        values = apply_modality_lut(stored.astype(np.int64), dataset)
        return np.iinfo(values.dtype).max - values if inverted else values
    if inverted:
        # The lowest value that the bits can hold becomes the highest.
        ends = -1 if stored.dtype.kind == "i" else 2 ** int(dataset.BitsStored) - 1
        stored = np.subtract(ends, stored, dtype=stored.dtype)
    given = ((dataset.get(name), default) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    slope, intercept = (float(default if value is None else value) for value, default in given)
    if slope == 0 or not (math.isfinite(slope) and math.isfinite(intercept)):
        raise Refused(f"has a rescale slope of {slope:g} and intercept of {intercept:g}")
    return rescaled(stored, slope, intercept)


def _padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """Mark what is no pixel of the scan."""
    signed = stored.dtype.kind == "i"
    ends = [_padding_value(dataset, name, signed) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(stored.shape, bool)
    low, high = sorted((ends[0], ends[0] if ends[1] is None else ends[1]))
    return (stored >= low) & (stored <= high)


def _padding_value(dataset: Any, name: str, signed: bool) -> int | None:
    try:
        value = int(dataset.get(name))
    except (TypeError, ValueError):
        return None
    # 16 bits, which many a program writes as unsigned where the pixels are signed, or the other way round.
    if signed and 2**15 <= value < 2**16:
        return value - 2**16
    return value + 2**16 if not signed and -(2**15) <= value < 0 else value


def _spacing(dataset: Any) -> Spacing | None:
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        if spacing := _pair(dataset, name):
            return spacing
    return None


def _ratio(dataset: Any) -> float | None:
    sides = _pair(dataset, "PixelAspectRatio")
    return sides and sides[0] / sides[1]


def _pair(dataset: Any, name: str) -> Spacing | None:
    values = _numbers(dataset, name, 2)
    return spacing_of(*values) if values else None


def _numbers(dataset: Any, name: str, count: int) -> list[float] | None:
    try:
        values = [float(value) for value in dataset.get(name)]
    except (TypeError, ValueError):
        return None
    return values if len(values) == count else None


def _turn(dataset: Any) -> Turn:
    """Find how to look at the slice upright; no turn where the file does not tell."""
    cosines = _numbers(dataset, "ImageOrientationPatient", 6)
    if cosines and all(abs(cosine) < 2 for cosine in cosines):  # which is false of NaN
        across, down = cosines[:3], cosines[3:]
    else:
        # Letters for left, posterior and head, and their opposites; more of them say how a slice is tilted.
        try:
            across, down = (_WAYS[str(way)[0].upper()] for way in dataset.get("PatientOrientation"))
        except (TypeError, ValueError, LookupError):
            return NO_TURN
    directions = np.array([down, across, np.cross(down, across)], np.float64).T
    # DICOM counts towards left and posterior.
    return upright(directions * [[-1], [-1], [1]]) or NO_TURN
