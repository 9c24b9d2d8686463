"""Volumes from FreeSurfer's MGH and MGZ files. Their masks are NIfTI, which FreeSurfer reads as well."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.nifti1 import Nifti1Image

from unet_jax.imaging.formats.nifti import Volume, opened, read_to_end, sides_of
from unet_jax.imaging.scan import Reading, Refused

_HEADER, _VOXELS = 90, 284
"""Bytes of the header's fields, and the place of the first voxel."""
_TOLD = slice(28, 30)
"""Place of the flag that says whether the header tells where voxels are."""
_TYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
"""Types of voxels by their number in a header."""
_FOOTER = 20
"""Bytes of the fields behind the voxels that nibabel counts among the header's; they say how the picture was taken."""


def open_slices(path: Path, reading: Reading) -> Volume:
    """Read an MGH volume, packed (`.mgz`) or not, as `nifti.open_slices` reads a NIfTI one; raises as that one."""
    with opened(path) as f:
        image, dtype, sides, axis = _read_header(path, f, reading.axis)
        f.read(_VOXELS - _HEADER)
        size = math.prod(sides) * dtype.itemsize
        voxels = f.read(size)
        if len(voxels) < size:
            raise Refused(f"ends after {len(voxels)} of its {size} bytes of voxels")
        read_to_end(f)
    return Volume(image, np.frombuffer(voxels, dtype).reshape(sides, order="F"), axis, reading)


def count_slices(path: Path, reading: Reading) -> int:
    """Count the slices that `open_slices` finds, by the header alone."""
    with opened(path) as f:
        _, _, sides, axis = _read_header(path, f, reading.axis)
        return sides[axis]


def _read_header(path: Path, f: Any, axis: int | None) -> tuple[Any, np.dtype, tuple[int, int, int], int]:
    """Return a NIfTI image of the same place, without voxels; their type and sides; the axis to slice along."""
    block = f.read(_HEADER)
    if len(block) < _HEADER or block[:4] != b"\0\0\0\1":
        raise Refused("is no MGH file")
    header: Any = MGHHeader(block + bytes(_FOOTER), check=False)
    shape = tuple(int(n) for n in header["dims"])
    if min(shape) < 1:
        raise Refused(f"has shape {shape}; expected sides of at least 1")
    kind = int(header["type"])
    if kind not in _TYPES:
        raise Refused(f"holds voxels of type {kind}; expected one of {', '.join(map(str, _TYPES))}")
    dtype = np.dtype(_TYPES[kind])
    sides, axis = sides_of(shape, dtype, axis, path, isinstance(f, gzip.GzipFile))
    # nibabel puts defaults in the place of a geometry that is not told, so that the header itself would not show it.
    affine = header.get_affine() if int.from_bytes(block[_TOLD], "big", signed=True) > 0 else None
    image = Nifti1Image(np.broadcast_to(np.uint8(0), sides), affine)
    image.header.set_xyzt_units("mm")
    return image, dtype, sides, axis
