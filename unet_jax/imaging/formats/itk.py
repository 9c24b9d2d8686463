"""Volumes from NRRD and MetaImage files. Their masks are NIfTI, which the programs that write such files read as well.

SimpleITK tells what a header says of the volume. The voxels are read here, since it would open any other file that a
header names, and take what happens to be in memory for voxels that a damaged file lacks.
"""

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Image

from unet_jax.imaging.content import is_gzip
from unet_jax.imaging.formats.medical import nearest_axes
from unet_jax.imaging.formats.nifti import MAX_HEADER_BYTES, MAX_REST_BYTES, Volume, read_to_end, sides_of
from unet_jax.imaging.scan import Reading, Refused

_TYPES = {
    getattr(sitk, f"sitk{vector}{name}{bits}"): np.dtype(f"{kind}{bits // 8}")
    for name, kind, sizes in (("Int", "i", (8, 16, 32, 64)), ("UInt", "u", (8, 16, 32, 64)), ("Float", "f", (32, 64)))
    for bits in sizes
    for vector in ("", "Vector")
}
"""Types of numbers, by SimpleITK's numbers for voxels of one and of several."""
_TO_RAS = np.array([[-1.0], [-1.0], [1.0]])
"""ITK's axes point to the patient's left, back and head, those of NIfTI to the right, front and head."""
_PATIENT_SPACES = (
    *("right-anterior-superior", "left-anterior-superior", "left-posterior-superior"),
    *("ras", "las", "lps"),
)
"""Spaces of NRRD that SimpleITK turns into ITK's."""
_MILLIMETRES = ("", "mm", "millimeter", "millimetre", "millimeters", "millimetres")
"""Units of NRRD in which spacing is taken; one that is not told is millimetres too."""
_AXES = ("2", "3", "4", "5")
"""Numbers of axes for which SimpleITK has room; with more it writes beyond it."""
_MAX_LINE = 400
"""Longest line of NRRD, in characters, of which SimpleITK can say what is wrong; longer ones end the process."""
_LONG_LINES = ("content", "labels", "units")
"""Fields of NRRD that may be longer."""
_META_LISTS = {
    **dict.fromkeys(("DimSize", "ElementSpacing", "ElementSize", "Offset", "Position", "Origin"), 1),
    **dict.fromkeys(("TransformMatrix", "Rotation", "Orientation"), 2),
}
"""Fields of MetaImage that hold a number for each axis, or for each pair."""
_META_ONCE = {
    *(*_META_LISTS, "NDims", "ElementType", "ElementNumberOfChannels", "HeaderSize"),
    *("BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData"),
}
"""Fields of MetaImage that must not be given twice, since programs differ in which they take."""
_NRRD_PACKED = {"raw": False, "gzip": True, "gz": True}
"""Encodings of NRRD, and whether their voxels are packed."""
_SAID_FIRST = re.compile(r"(\[nrrd\]|ITK ERROR:|sitk::ERROR:)\s*(\w+(\(0x\w+\))?:\s*)*")
"""Library, function and address, which stand before the reason in an error of SimpleITK."""


@dataclass(frozen=True)
class _Layout:
    """Facts of a header besides those that SimpleITK tells."""

    reader: str
    """SimpleITK's for the format."""
    at: int | None
    """Place of the first voxel, in bytes; None where the voxels are the end of the file."""
    packed: bool
    big_endian: bool
    tells_place: bool
    """The directions of three axes are given, in a patient's space; or it is a picture, which lies as programs show
    it: x to the right, y down."""
    tells_millimetres: bool
    """The sides of a voxel are given, and in millimetres."""


@dataclass(frozen=True)
class _Header:
    """Facts of a volume that are known without its voxels."""

    layout: _Layout
    dtype: np.dtype
    sides: tuple[int, int, int]
    axis: int
    """The one to slice along."""
    image: Nifti1Image
    """Image of the same place, for the masks."""
    spacing: tuple[float, ...]


def open_slices(path: Path, reading: Reading) -> Volume:
    """Read a NRRD or MetaImage volume as `nifti.open_slices` reads a NIfTI one; a picture of two axes is one slice.

    Raises:
        Refused: as that one; or voxels are in another file, are text, or are damaged in their packing.
        Exception: nearly any, of a file that is damaged.
    """
    with path.open("rb") as f:
        header = _read_header(path, f, reading.axis)
        layout, size = header.layout, math.prod(header.sides) * header.dtype.itemsize
        f.seek(path.stat().st_size - size if layout.at is None else layout.at)
        voxels = _unpacked(f, size) if layout.packed else f.read(size)
    if len(voxels) < size:
        raise Refused(f"ends after {len(voxels)} of its {size} bytes of voxels")
    stored = np.frombuffer(voxels, header.dtype).reshape(header.sides, order="F")
    volume = Volume(header.image, stored, header.axis, reading, tells_place=layout.tells_place)
    if not layout.tells_millimetres:
        volume.spacing = None
    if not _are_lengths(header.spacing):
        volume.spacing = None
        volume.set_aspect(None)
        volume.warnings.append(f"has voxels of {' x '.join(map(str, header.spacing))}, which are no lengths")
    return volume


def count_slices(path: Path, reading: Reading) -> int:
    """Count the slices that `open_slices` finds, by the header alone."""
    with path.open("rb") as f:
        header = _read_header(path, f, reading.axis)
    return header.sides[header.axis]


def _unpacked(f: Any, size: int) -> bytes:
    """Unpack that many bytes, or what there are, of gzip's or zlib's; all is read, since the checksum is at the end."""
    start = f.tell()
    by_gzip = is_gzip(f.read(3))
    f.seek(start)
    if by_gzip:
        with gzip.GzipFile(fileobj=f) as packed:
            voxels = packed.read(size)
            read_to_end(packed)
        return voxels
    unpack = zlib.decompressobj()
    voxels = unpack.decompress(f.read(), size)
    if len(unpack.decompress(unpack.unconsumed_tail, MAX_REST_BYTES)) == MAX_REST_BYTES:
        raise Refused(f"goes on for {MAX_REST_BYTES} bytes and more after its voxels")
    if not unpack.eof:
        raise Refused(f"ends, or is damaged, within its packed voxels: {len(voxels)} of {size} bytes are there")
    return voxels


def _read_header(path: Path, f: Any, axis: int | None) -> _Header:
    # Before SimpleITK looks at the file, which headers that it cannot read may make crash.
    layout = _nrrd_layout(f) if f.read(4) == b"NRRD" else _meta_layout(f)
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError as e:
        # It would end the process.
        raise Refused("has a path that is not UTF-8, which SimpleITK cannot open. Rename it") from e
    header = sitk.ImageFileReader()
    header.SetFileName(str(path))
    header.SetImageIO(layout.reader)
    try:
        header.ReadImageInformation()
    except RuntimeError as e:
        # The last line has the cause, unless it is that of the system's last call.
        lines = [line for line in str(e).strip().splitlines() if not line.startswith("Reason: ")]
        raise Refused(f"has a header that SimpleITK cannot read: {_SAID_FIRST.sub('', lines[-1])}") from e
    kind, n = header.GetPixelIDValue(), header.GetNumberOfComponents()
    if kind not in _TYPES or n != 1:
        raise Refused(f"holds voxels of {n} values ({sitk.GetPixelIDValueAsString(kind)}); expected one number each")
    dtype = _TYPES[kind].newbyteorder(">" if layout.big_endian else "<")
    sides, axis = sides_of(header.GetSize(), dtype, axis, path, layout.packed)
    spacing = tuple(header.GetSpacing())[:3]
    return _Header(layout, dtype, sides, axis, _image_of_place(header, sides, spacing), spacing)


def _image_of_place(header: Any, sides: tuple[int, int, int], spacing: tuple[float, ...]) -> Nifti1Image:
    """Make a NIfTI image that lies where a header says, without voxels; the third of two axes is ITK's."""
    n, given = header.GetDimension(), len(spacing)
    directions, steps, origin = np.eye(3), np.ones(3), np.zeros(3)
    directions[:given, :given] = np.reshape(header.GetDirection(), (n, n))[:given, :given]
    steps[:given], origin[:given] = spacing if _are_lengths(spacing) else 1.0, header.GetOrigin()[:given]
    affine = np.eye(4)
    affine[:3] = _TO_RAS * np.column_stack((directions * steps, origin))
    lies = np.isfinite(affine).all() and nearest_axes(affine[:3, :3]) is not None
    image = Nifti1Image(np.broadcast_to(np.uint8(0), sides), affine if lies else None)
    if not lies:
        image.header.set_zooms(np.abs(steps).tolist())
    image.header.set_xyzt_units("mm")
    return image


def _are_lengths(spacing: tuple[float, ...]) -> bool:
    """Tell whether no side is zero or no number; ITK takes one below zero for an axis that runs the other way."""
    return all(math.isfinite(side) and side != 0 for side in spacing)


def _nrrd_layout(f: Any) -> _Layout:
    """Read the header of a NRRD file up to the empty line that ends it."""
    lines, fields = _lines(f), dict[str, str]()
    if not re.fullmatch("NRRD000[1-6]", magic := next(lines)):
        raise Refused(f"begins with {magic[:20]!r}; expected NRRD0001 to NRRD0006")
    for line in lines:
        if not line:
            break
        name, _, value = line.partition(": ")
        if line.startswith("#") or ":=" in name:
            continue
        name = name.replace(" ", "").lower()
        if len(line) > _MAX_LINE and name not in _LONG_LINES:
            raise Refused(f"has a header with a line of {len(line)} characters; expected at most {_MAX_LINE}")
        fields[name] = value.strip()
    if "datafile" in fields:
        raise Refused(f"has its voxels in another file, {fields['datafile']}; write both to one .nrrd")
    if (n := fields.get("dimension", "none")) not in _AXES:
        raise Refused(f"has {n} axes; expected one volume of three")
    encoding = fields.get("encoding", "none").lower()
    if encoding not in _NRRD_PACKED:
        raise Refused(f"has voxels of encoding {encoding}; expected {' or '.join(_NRRD_PACKED)}")
    if (lines_skipped := fields.get("lineskip", "0")) != "0":
        raise Refused(f"has {lines_skipped} lines between its header and its voxels; expected none")
    units = re.findall('"([^"]*)"', fields.get("spaceunits", fields.get("units", "")))
    return _Layout(
        "NrrdImageIO",
        _place(fields.get("byteskip", "0"), _NRRD_PACKED[encoding], f),
        _NRRD_PACKED[encoding],
        fields.get("endian", "little").lower() == "big",
        n == "2" or (fields.get("space", "").lower() in _PATIENT_SPACES and "spacedirections" in fields),
        bool({"spacedirections", "spacings"} & fields.keys()) and all(unit in _MILLIMETRES for unit in units[:3]),
    )


def _meta_layout(f: Any) -> _Layout:
    """Read the header of a MetaImage file up to the field that ends it, ElementDataFile."""
    fields = dict[str, str]()
    for line in _lines(f):
        name, _, value = (part.strip() for part in line.replace(":", "=").partition("="))
        if name in _META_LISTS and "NDims" not in fields:
            raise Refused(f"gives {name} before NDims, the number of axes")
        if fields.setdefault(name, value) != value and name in _META_ONCE:
            raise Refused(f"gives {name} twice")
        if "ElementDataFile" in fields:
            break
    if "ElementType" not in fields:
        raise Refused("is neither NRRD nor MetaImage")
    if (n := fields.get("NDims", "no number of")) not in _AXES:
        raise Refused(f"has {n} axes; expected one volume of three")
    for name, value in {"DimSize": "", **fields}.items():
        if name in _META_LISTS and len(value.split()) != (expected := int(n) ** _META_LISTS[name]):
            raise Refused(f"has {name} = {value[:99]}; expected {expected} numbers, for {n} axes")
    if fields["ElementDataFile"] not in ("LOCAL", "Local", "local"):
        raise Refused(f"has its voxels in another file, {fields['ElementDataFile']}; write both to one .mha")
    if not _is_true(fields.get("BinaryData", "False")):
        raise Refused("has voxels that are text; expected BinaryData = True")
    packed = _is_true(fields.get("CompressedData", "False"))
    return _Layout(
        "MetaImageIO",
        _place(fields.get("HeaderSize", "0"), packed, f),
        packed,
        _is_true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))),
        n == "2" or bool({"TransformMatrix", "Rotation", "Orientation"} & fields.keys()),
        bool({"ElementSpacing", "ElementSize"} & fields.keys()),
    )


def _place(skipped: str, packed: bool, f: Any) -> int | None:
    """Return the place of the voxels behind a header that was just read, None if they are the end of the file."""
    if skipped == "-1" and not packed:
        return None
    if skipped != "0":
        raise Refused(f"has {skipped} bytes between its header and its voxels; expected none")
    return f.tell()


def _is_true(value: str) -> bool:
    return value[:1] in ("T", "t", "1")


def _lines(f: Any) -> Iterator[str]:
    f.seek(0)
    while (left := MAX_HEADER_BYTES - f.tell()) > 0 and (line := f.readline(left)):
        if b"\0" in line:
            raise Refused("has a header with bytes of zero")
        yield line.decode("latin-1").rstrip("\r\n")
    raise Refused("has a header without an end")
