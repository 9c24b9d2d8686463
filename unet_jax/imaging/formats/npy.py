"""`.npy` files, also in archives, which must hold exactly the numbers that their headers say."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped, UInt8

from unet_jax.imaging.formats.grey import opaque_value, to_grey
from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.imaging.scan import Reading, Refused, Slices, check_sides, one_line

MAX_HEADER_BYTES = 2**16 + 10
MAX_MEMBER_BYTES = 2**29
"""Largest array in an archive, in bytes; a file of a thousandth may hold one."""

_Header = tuple[np.dtype, tuple[int, ...], Literal["C", "F"]]
"""Type, shape, and order of the axes in memory."""


def open_slices(path: Path, reading: Reading) -> Slices:
    """Read a slice: (h, w), (h, w, 1), (h, w, 3) or (h, w, 4), integers or real numbers of up to 64 bits.

    A fourth channel is opacity, as `opaque_value` tells, or does not matter. An `.npz` holds such an array alone.
    """
    if path.suffix.lower() == ".npz":
        return Slices(_grey(_read_only_member(path)))
    with path.open("rb") as f:
        dtype, shape, order = _read_header(f, path.stat().st_size)
        _check_shape(shape)
        # Not mapped into memory: a mapped file that somebody cuts short ends the process.
        array = np.fromfile(f, dtype).reshape(shape, order=order)
    return Slices(_grey(array))


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
        raise Refused(f"has shape {shape}; expected (height, width), or that with 1, 3 or 4 channels")
    check_sides(shape)


def _grey(array: Shaped[np.ndarray, "h w *channels"]) -> Shaped[np.ndarray, "h w"]:
    if array.ndim == 2:
        return array
    if array.shape[2] == 1:
        return array[..., 0]
    opaque = opaque_value(array[..., 3]) if array.shape[2] == 4 else None
    return to_grey(len(array), lambda rows: array[rows], opaque)


def _read_only_member(path: Path) -> Shaped[np.ndarray, "h w *channels"]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) != 1:
            raise Refused(f"holds {len(members)} arrays; expected one. Save the slice alone")
        size = members[0].file_size
        if size > MAX_MEMBER_BYTES:
            raise Refused(f"holds {size} bytes; expected at most {MAX_MEMBER_BYTES} for one slice")
        with archive.open(members[0]) as f:
            dtype, shape, order = _read_header(f, size)
            _check_shape(shape)
            # Its checksum is compared at the end.
            content = f.read(size)
    return np.frombuffer(content, dtype).reshape(shape, order=order)


def open_npy(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
    """Map a file into memory, for reading.

    Raises:
        ValueError: not of this type and shape.
        OSError: as the system has it.
    """
    with path.open("rb") as f:
        _expect((dtype, shape, "C"), f, path.stat().st_size)
        return np.memmap(f, dtype, "r", f.tell(), shape)


def read_packed(archive: zipfile.ZipFile, number: int, height: int, width: int) -> UInt8[np.ndarray, "h bytes"]:
    """Read `<number>.npy`, a mask of which `np.packbits(mask, axis=1)` made eight pixels of a row a byte.

    A header that says otherwise than `height` and `width` costs no memory.

    Raises:
        ValueError: not of this shape.
        Exception: nearly any, of an archive that is damaged.
    """
    member, shape = archive.getinfo(f"{number}.npy"), (height, math.ceil(width / 8))
    if member.file_size > math.prod(shape) + MAX_HEADER_BYTES:
        raise ValueError(f"is {member.file_size} bytes long; expected {math.prod(shape)} and a header")
    content = io.BytesIO(archive.read(member))
    _expect((np.dtype(np.uint8), shape, "C"), content, len(content.getbuffer()))
    return np.frombuffer(content.read(), np.uint8).reshape(shape)


def read_member(archive: zipfile.ZipFile, name: str, most: int) -> Shaped[np.ndarray, "..."]:
    """Read an array of plain numbers, its rows one after the other, out of an archive.

    Args:
        archive: such as an .npz file.
        name: of the member.
        most: bytes that it may have.

    Raises:
        ValueError: larger, or no such array.
        Exception: nearly any, of an archive that is damaged.
    """
    member = archive.getinfo(name)
    if member.file_size > most:
        raise ValueError(f"{name} is {member.file_size} bytes long; expected at most {most}")
    content = io.BytesIO(archive.read(member))
    try:
        dtype, shape, order = _read_header(content, len(content.getbuffer()))
    except Refused as e:
        raise ValueError(f"{name} {e}") from e
    if order == "F" and len(shape) > 1:
        raise ValueError(f"{name} is stored by columns")
    return np.frombuffer(content.read(), dtype).reshape(shape)


def _expect(wanted: _Header, file: Any, size: int) -> None:
    try:
        found = _read_header(file, size)
    except Refused as e:
        raise ValueError(str(e)) from e
    if found != wanted:
        columns_first = " by columns" if found[2] == "F" else ""
        raise ValueError(f"{found[0]} {found[1]}{columns_first}; expected {wanted[0]} {wanted[1]}")


def _read_header(file: Any, size: int) -> _Header:
    """Read the header of a file of that many bytes, and stop before the values."""
    # Version 3 is for names of fields, which an array of numbers does not have.
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        clamped = Clamped(file, size)
        shape, fortran, dtype = readers[np.lib.format.read_magic(clamped)](clamped)
    except Exception as e:
        # The header is Python text: besides ValueError, parsing it raises SyntaxError, TokenError, TypeError, ...
        raise Refused(f"is no .npy file of plain numbers ({one_line(e)})") from e
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Refused(f"holds {dtype}; expected integers or real numbers of up to 64 bits")
    expected = file.tell() + math.prod(shape) * dtype.itemsize
    if size != expected or min(shape, default=0) < 0:
        raise Refused(f"is {size} bytes long; its header says {expected}")
    return dtype, shape, "F" if fortran else "C"
