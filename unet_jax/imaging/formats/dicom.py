"""Slices from DICOM files, by pydicom."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_modality_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from unet_jax.imaging.content import beginning, is_dicom
from unet_jax.imaging.formats import dicom_geometry as geometry
from unet_jax.imaging.formats.medical import rescaled
from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.imaging.scan import NO_TURN, Frames, Reading, Refused, Slices, check_sides, one_line

MAX_BYTES = 2**29
"""Largest file, in bytes, and so many of pixels; a slice of the largest sides takes half of it."""
MAX_INFLATED_BYTES = 2**28 + 2**20
"""Largest size of a file that is deflated as a whole, unpacked: a slice of the largest sides, and what describes it."""

_HEADER: list[Any] = [
    *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ImageType"),
]
_KINDS = {1: ("MONOCHROME1", "MONOCHROME2"), 3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")}
"""Photometric interpretations by channels; three are grey where they are equal."""
_OF_A_FRAME = (
    *("PhotometricInterpretation", "BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "RescaleType"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"),
    *("ImageOrientationPatient", "PatientOrientation"),
)
"""Elements that decide what becomes of a frame."""
_GROUPS = ("PixelMeasuresSequence", "PixelValueTransformationSequence", "PlaneOrientationSequence")
"""Functional groups of enhanced objects that hold such."""
_BY_DEFAULT = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
"""Values that are taken for elements which must be there and are not."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
_UNTOLD: dict[Any, Any] = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}
"""Transfer syntaxes by whether they are implicit and little endian."""


def open_slices(path: Path, reading: Reading) -> Slices:
    """Read a DICOM file of grey slices in the units of its modality; three equal channels are grey.

    The modality's lookup table, or its rescale slope and intercept, are applied. MONOCHROME1, where white is the
    lowest value, is inverted within the range of its bits. What is stored as PixelPaddingValue, or from there to
    PixelPaddingRangeLimit, is masked. Of several frames each is as the functional groups of enhanced objects say, its
    own before those of all frames.

    Returns:
        Image: integers where slope and intercept are whole, else float32. Spacing: PixelSpacing, ImagerPixelSpacing or
        NominalScannedPixelSpacing; without any PixelAspectRatio tells how high a pixel is. Upright by
        ImageOrientationPatient, or PatientOrientation.

    Raises:
        Refused: colour, or a compression that no installed package decodes.
        Exception: nearly any, of a file that is damaged.
    """
    if not is_dicom(beginning(path)):
        raise Refused("is no DICOM file; expected DICM at its byte 128, or elements of group 0002 or 0008 at its start")
    with path.open("rb") as file:
        dataset, stored, warnings = _read(path, Clamped(file))
    frames = [_slice(_told(dataset, i), frame, reading) for i, frame in enumerate(stored)]
    frames[0].warnings[:0] = warnings
    return frames[0] if len(frames) == 1 else Frames(frames)


def count_slices(path: Path, reading: Reading) -> int:
    """Count the frames, by the header alone."""
    return max(1, int(_header(path, "NumberOfFrames").get("NumberOfFrames") or 1))


def holds_picture(path: Path) -> bool:
    """Tell by the header alone whether there is a picture, which reports, protocols and makers' own objects lack."""
    return _header(path, "Rows").get("Rows") is not None


def _header(path: Path, *names: Any) -> Any:
    """Read these elements of what stands before the pixels."""
    with path.open("rb") as f:
        file: Any = Clamped(f)
        _transfer_syntax(file)
        return dcmread(file, stop_before_pixels=True, force=True, specific_tags=list(names))


def _slice(told: Any, stored: np.ndarray, reading: Reading) -> Slices:
    spacing, warnings = geometry.spacing(told)
    turn = geometry.turn(told) if reading.upright else NO_TURN
    values, padding = _modality_values(told, stored), _padding(told, stored)
    if padding.any():
        values = np.ma.MaskedArray(values, padding)
    aspect = None if spacing else geometry.ratio(told)
    return Slices(values, spacing, aspect=aspect, turn=turn, warnings=warnings)


def _told(dataset: Any, index: int) -> Any:
    """Return what is told of a frame: by its functional groups, else by those of all frames, else by the object."""
    of_all, of_each = (dataset.get(f"{which}FunctionalGroupsSequence") or [] for which in ("Shared", "PerFrame"))
    if not (of_all or of_each):
        return dataset
    told = Dataset()
    for name in _OF_A_FRAME:
        if name in dataset:
            # Only the object knows the sign of pixels, by which some representations go.
            told.add(dataset[name])
    for groups in (*of_all[:1], *of_each[index : index + 1]):
        for name in _GROUPS:
            for group in groups.get(name) or []:
                told.update(group)
    return told


def _read(path: Path, file: Any) -> tuple[Any, np.ndarray, list[str]]:
    """Return the object, its frames as stored, and warnings."""
    # First as little as tells whether the rest may be read.
    size = path.stat().st_size
    syntax = _transfer_syntax(file)
    header = dcmread(file, stop_before_pixels=True, force=True, specific_tags=_HEADER)
    shape = _check_header(header)
    expected = math.prod(shape) * header.BitsAllocated // 8
    if max(size, expected) > MAX_BYTES:
        raise Refused(f"takes {max(size, expected)} bytes; expected at most {MAX_BYTES}")
    compressed = _is_compressed(syntax)
    if compressed:
        _check_decoder(syntax)

    file.seek(0)
    dataset = dcmread(file, force=True)
    if not dataset.file_meta.get("TransferSyntaxUID"):
        # Written alone, an object does not tell how; pydicom found out.
        dataset.file_meta.TransferSyntaxUID = _UNTOLD[dataset.original_encoding]
    if "PixelData" not in dataset:
        raise Refused("holds no pixels")
    if dataset["PixelData"].is_undefined_length and not compressed:
        # Pixels that are not compressed have a length (PS3.5 A.4).
        raise Refused(f"has compressed pixels, though it says they are {syntax.name}. Write it anew")
    for name, value in _BY_DEFAULT.items():
        if not dataset.get(name):
            setattr(dataset, name, value)
    warnings = [] if compressed else _drop_rest(dataset, expected)
    try:
        return dataset, _pixels(dataset, shape), warnings
    except Refused:
        raise
    except Exception as e:
        if compressed:
            reason = "fewer frames than it says" if isinstance(e, StopIteration) else one_line(e)
            raise Refused(f"cannot be decoded as {syntax.name} ({reason})") from e
        raise


def _drop_rest(dataset: Any, expected: int) -> list[str]:
    """Drop what lies behind the pixels, as PS3.5 8.1.1 wants, and warn unless it is a byte or zeros."""
    pixels = dataset.PixelData
    if len(pixels) < expected:
        raise Refused(f"holds {len(pixels)} bytes of pixels; its header says {expected}")
    rest = pixels[expected:]
    if len(rest) > 1:
        dataset.PixelData = pixels[:expected] + rest[: expected % 2]
    return [f"has {len(rest)} bytes behind its pixels, which were left out"] if len(rest) > 1 and any(rest) else []


def _pixels(dataset: Any, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Return the pixels as stored, frame by frame; of three equal channels the first."""
    bits, most = int(dataset.BitsStored), int(dataset.BitsAllocated)
    high = int(dataset.get("HighBit", bits - 1))
    apart = high != bits - 1
    if apart:
        # pydicom takes the lowest bits.
        dataset.BitsStored, dataset.HighBit = most, most - 1
    # In colours of JPEG three equal channels are no three equal channels.
    stored = pixel_array(dataset, raw=shape[3] == 1, allow_excess_frames=False)
    if apart:
        dataset.BitsStored = bits
        stored = stored << (most - 1 - high) >> (most - bits)
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False).reshape(shape)
    if not (stored[..., 1:] == stored[..., :1]).all():
        raise Refused(f"is in colour ({dataset.PhotometricInterpretation}); expected a grey slice")
    return stored[..., 0]


def _transfer_syntax(file: Any) -> Any:
    """Read how the dataset is written from the part before it; the file is at its beginning before and after."""
    read_preamble(file, True)
    # Of the two that do this the public one opens the file by itself.
    syntax = _read_file_meta_info(file).get("TransferSyntaxUID") or None
    # pydicom unpacks what is deflated as a whole, up to 1,032 times as much, before it looks at the header.
    most = MAX_INFLATED_BYTES
    if syntax == _DEFLATED and len(zlib.decompressobj(-15).decompress(file.read(), most + 1)) > most:
        raise Refused(f"unpacks to over {most} bytes; expected at most those of one slice")
    file.seek(0)
    return syntax


def _check_header(header: Any) -> tuple[int, int, int, int]:
    """Return frames, rows, columns and channels of what may be grey slices, or refuse what is none."""
    if header.get("Rows") is None or header.get("Columns") is None:
        raise Refused("holds no picture")
    rows, columns = int(header.Rows), int(header.Columns)
    check_sides((rows, columns))
    # Enhanced objects, whose slices lie apart, may say so still.
    if "MOSAIC" in (header.get("ImageType") or ()) and "NumberOfFrames" not in header:
        raise Refused("is a mosaic of slices; expected one slice. Convert it to NIfTI (dcm2niix does)")
    channels, kind = (header.get(name) or default for name, default in _BY_DEFAULT.items())
    if kind not in _KINDS.get(channels, ()):
        raise Refused(f"is in colour ({kind}); expected a grey slice, MONOCHROME1 or MONOCHROME2")
    for name in ("BitsAllocated", "BitsStored"):
        if header.get(name) is None:
            raise Refused(f"has no {name}; expected pixels of whole numbers, and of how many bits they are")
    if header.BitsAllocated not in (8, 16, 32):
        raise Refused(f"has {header.BitsAllocated} bits a pixel; expected 8, 16 or 32")
    bits = int(header.BitsStored)
    high = int(header.get("HighBit", bits - 1))
    if not 1 <= bits <= high + 1 <= header.BitsAllocated:
        raise Refused(f"has values of {bits} bits up to bit {high}; expected them within {header.BitsAllocated}")
    return max(1, int(header.get("NumberOfFrames") or 1)), rows, columns, channels


def _is_compressed(syntax: Any) -> bool:
    try:
        return getattr(syntax, "is_encapsulated", False)
    except ValueError:
        raise Refused(f"is written in a way, {syntax}, which pydicom does not know. Write it anew") from None


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
    slope = geometry.number(dataset, "RescaleSlope", 1.0)
    intercept = geometry.number(dataset, "RescaleIntercept", 0.0)
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
