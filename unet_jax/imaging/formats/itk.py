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
from jaxtyping import Float
from nibabel.nifti1 import Nifti1Image

from unet_jax.imaging.content import is_gzip
from unet_jax.imaging.formats.medical import nearest_axes
from unet_jax.imaging.formats.nifti import MAX_HEADER_BYTES, MAX_REST_BYTES, Volume, read_to_end, sides_of
from unet_jax.imaging.scan import Reading, Refused

_TYPES = {
    **{sitk.sitkInt8: "i1", sitk.sitkInt16: "i2", sitk.sitkInt32: "i4", sitk.sitkInt64: "i8"},
    **{sitk.sitkUInt8: "u1", sitk.sitkUInt16: "u2", sitk.sitkUInt32: "u4", sitk.sitkUInt64: "u8"},
    **{sitk.sitkFloat32: "f4", sitk.sitkFloat64: "f8"},
}
"""Types of voxels of one value, by SimpleITK's numbers."""
_TO_RAS = np.array([[-1.0], [-1.0], [1.0]])
"""ITK's axes point to the patient's left, back and head, those of NIfTI to the right, front and head."""
_PATIENT_SPACES = (
    *("right-anterior-superior", "left-anterior-superior", "left-posterior-superior"),
    *("ras", "las", "lps"),
)
"""Spaces of NRRD that SimpleITK turns into ITK's."""
_MILLIMETRES = ("", "mm", "millimeter", "millimetre", "millimeters", "millimetres")
_META_AXES = ("2", "3", "4", "5")
"""Numbers of axes that SimpleITK reads."""
_NRRD_PACKED = {"raw": False, "gzip": True, "gz": True}
"""Whether voxels of an encoding of NRRD are packed."""
_SAID_FIRST = re.compile(r"(\[nrrd\]|ITK ERROR:|sitk::ERROR:)\s*(\w+(\(0x\w+\))?:\s*)*")
"""What stands before the reason in an error of SimpleITK: library, function and address."""


@dataclass(frozen=True)
class _Layout:
    """What a header says besides that which SimpleITK tells."""

    reader: str
    """SimpleITK's for the format."""
    at: int
    """Place of the first voxel, in bytes."""
    packed: bool
    big_endian: bool
    tells_place: bool
    """The directions of three axes are given, in a patient's space."""
    tells_millimetres: bool
    """The sides of a voxel are given, and in millimetres."""


def open_slices(path: Path, reading: Reading) -> Volume:
    """Read a NRRD or MetaImage volume as `nifti.open_slices` reads a NIfTI one; a picture of two axes is one slice.

    Raises:
        Refused: as that one; or voxels are in another file, are text, or are damaged in their packing.
        Exception: nearly any, of a file that is damaged.
    """
    with path.open("rb") as f:
        image, dtype, sides, axis, layout = _read_header(path, f, reading.axis)
        size = math.prod(sides) * dtype.itemsize
        f.seek(layout.at)
        voxels = _unpacked(f, size) if layout.packed else f.read(size)
    if len(voxels) < size:
        raise Refused(f"ends after {len(voxels)} of its {size} bytes of voxels")
    volume = Volume(image, np.frombuffer(voxels, dtype).reshape(sides, order="F"), axis, reading)
    if not layout.tells_millimetres:
        volume.spacing = None
    return volume


def count_slices(path: Path, reading: Reading) -> int:
    """Count the slices that `open_slices` finds, by the header alone."""
    with path.open("rb") as f:
        _, _, sides, axis, _ = _read_header(path, f, reading.axis)
        return sides[axis]


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


def _read_header(
    path: Path, f: Any, axis: int | None
) -> tuple[Nifti1Image, np.dtype, tuple[int, int, int], int, _Layout]:
    """Return a NIfTI image of the same place, without voxels; their type and sides; the axis to slice along."""
    # Before SimpleITK looks at the file.
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
    kind = header.GetPixelIDValue()
    if kind not in _TYPES:
        raise Refused(f"holds voxels of type {sitk.GetPixelIDValueAsString(kind)}; expected one number each")
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if layout.big_endian else "<")
    sides, axis = sides_of(header.GetSize(), dtype, axis, path, layout.packed)
    affine = _affine(header)
    # A picture lies as programs show it: x to the right, y down.
    told = (layout.tells_place or header.GetDimension() == 2) and nearest_axes(affine[:3, :3]) is not None
    image = Nifti1Image(np.broadcast_to(np.uint8(0), sides), affine if told else None)
    image.header.set_zooms(np.nan_to_num(np.linalg.norm(affine[:3, :3], axis=0), posinf=0.0))
    image.header.set_xyzt_units("mm")
    return image, dtype, sides, axis, layout


def _affine(header: sitk.ImageFileReader) -> Float[np.ndarray, "4 4"]:
    """Compute the way from voxels to a patient's right, front and head, in mm; of two axes the third is ITK's."""
    n = header.GetDimension()
    given = min(n, 3)
    directions, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    directions[:given, :given] = np.reshape(header.GetDirection(), (n, n))[:given, :given]
    spacing[:given], origin[:given] = header.GetSpacing()[:given], header.GetOrigin()[:given]
    affine = np.eye(4)
    affine[:3] = _TO_RAS * np.column_stack((directions * spacing, origin))
    return affine


def _nrrd_layout(f: Any) -> _Layout:
    """Read the header of a NRRD file up to the empty line that ends it."""
    fields = {}
    for line in _lines(f):
        if not line:
            break
        name, _, value = line.partition(": ")
        fields[name.replace(" ", "").lower()] = value.strip()
    if "datafile" in fields:
        raise Refused(f"has its voxels in another file, {fields['datafile']}; write both to one .nrrd")
    encoding = fields.get("encoding", "none").lower()
    if encoding not in _NRRD_PACKED:
        raise Refused(f"has voxels of encoding {encoding}; expected {' or '.join(_NRRD_PACKED)}")
    if any(fields.get(name, "0") != "0" for name in ("lineskip", "byteskip")):
        raise Refused("has something between its header and its voxels; write it without line skip and byte skip")
    units = re.findall('"([^"]*)"', fields.get("spaceunits", fields.get("units", "")))
    return _Layout(
        "NrrdImageIO",
        f.tell(),
        _NRRD_PACKED[encoding],
        fields.get("endian", "little").lower() == "big",
        fields.get("space", "").lower() in _PATIENT_SPACES and "spacedirections" in fields,
        bool({"spacedirections", "spacings"} & fields.keys()) and all(unit in _MILLIMETRES for unit in units),
    )


def _meta_layout(f: Any) -> _Layout:
    """Read the header of a MetaImage file up to the field that ends it, ElementDataFile."""
    fields = {}
    for line in _lines(f):
        name, _, value = line.replace(":", "=").partition("=")
        if fields.setdefault(name.strip(), value.strip()) != value.strip():
            raise Refused(f"gives {name.strip()} twice")
        if "ElementDataFile" in fields:
            break
    if "ElementType" not in fields:
        raise Refused("is neither NRRD nor MetaImage")
    if fields.get("NDims") not in _META_AXES:
        # SimpleITK writes beyond its memory for many.
        raise Refused(f"has {fields.get('NDims', 'no number of')} axes; expected one volume of three")
    sides = fields.get("DimSize", "none").split()
    if len(sides) != int(fields["NDims"]) or not all(side.isdecimal() for side in sides):
        raise Refused(f"has DimSize = {' '.join(sides)}; expected a whole number for each of {fields['NDims']} axes")
    if fields["ElementDataFile"] not in ("LOCAL", "Local", "local"):
        raise Refused(f"has its voxels in another file, {fields['ElementDataFile']}; write both to one .mha")
    if not _is_true(fields.get("BinaryData", "False")):
        raise Refused("has voxels that are text; expected BinaryData = True")
    if fields.get("HeaderSize", "0") != "0":
        raise Refused("has something between its header and its voxels; write it without HeaderSize")
    return _Layout(
        "MetaImageIO",
        f.tell(),
        _is_true(fields.get("CompressedData", "False")),
        _is_true(fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False"))),
        bool({"TransformMatrix", "Rotation", "Orientation"} & fields.keys()),
        bool({"ElementSpacing", "ElementSize"} & fields.keys()),
    )


def _is_true(value: str) -> bool:
    return value[:1] in ("T", "t", "1")


def _lines(f: Any) -> Iterator[str]:
    f.seek(0)
    while (left := MAX_HEADER_BYTES - f.tell()) > 0 and (line := f.readline(left)):
        if b"\0" in line:
            raise Refused("has a header with bytes of zero")
        yield line.decode("latin-1").rstrip("\r\n")
    raise Refused("has a header without an end")
