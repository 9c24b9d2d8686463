"""`.npy` files of version 1.0 whose type and shape are known, read without trusting what they say of them."""

import io
import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from unet_jax.imaging.formats.grey import to_grey
from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.imaging.scan import ImageError, check_sides, one_line

MAX_HEADER_BYTES = 2**16 + 10


def open_npy(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
    """Map a file into memory, for reading.

    Raises:
        ValueError: not of this type and shape.
        OSError: as the system has it.
    """
    with path.open("rb") as f:
        _check_header(f, dtype, shape)
        start = f.tell()
    length, size = path.stat().st_size - start, math.prod(shape) * dtype.itemsize
    if length != size:
        raise ValueError(f"{length} bytes of values; expected {size}")
    return np.memmap(path, dtype, "r", start, shape)


def read_packed(archive: zipfile.ZipFile, number: int, height: int, width: int) -> UInt8[np.ndarray, "h bytes"]:
    """Read `<number>.npy`, a mask of which `np.packbits(mask, axis=1)` made eight pixels of a row a byte.

    Args:
        archive: opened for reading.
        number: the slice's.
        height, width: its own; a header that says otherwise costs no memory.

    Raises:
        ValueError: not of this shape.
        Exception: nearly any, of an archive that is damaged.
    """
    member, shape = archive.getinfo(f"{number}.npy"), (height, math.ceil(width / 8))
    size = math.prod(shape)
    if member.file_size > size + MAX_HEADER_BYTES:
        raise ValueError(f"{member.file_size} bytes; expected {size} and a header")
    content = io.BytesIO(archive.read(member))
    _check_header(content, np.dtype(np.uint8), shape)
    return np.frombuffer(content.read(), np.uint8).reshape(shape)


def _check_header(file: Any, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    try:
        version = np.lib.format.read_magic(file)
        found = np.lib.format.read_array_header_1_0(file) if version == (1, 0) else None
    except Exception as e:  # it is Python text, of which parsing raises nearly anything
        raise ValueError(f"no header of an .npy file ({' '.join(str(e).split())})") from e
    if found != (shape, False, dtype):
        shown = f"version {version}" if found is None else f"{found[2]} {found[0]}"
        raise ValueError(f"{shown}; expected {dtype} {shape}")


def read_npy(path: Path) -> np.ndarray:
    # The header says how much the file must hold, so it is checked before anything of that size is made.
    with path.open("rb") as f:
        try:
            # Version 3 is for names of fields, which an array of numbers does not have.
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read_header[np.lib.format.read_magic(start := Clamped(f))](start)
        except Exception as e:
            # The header is Python text: besides ValueError, parsing it raises SyntaxError, TokenError, TypeError, ...
            raise ImageError(path, f"is no .npy file of plain numbers ({one_line(e)})") from e
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise ImageError(path, f"holds {dtype}; expected integers or real numbers of up to 64 bits")
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
            raise ImageError(path, f"has shape {shape}; expected (height, width), or that with 1, 3 or 4 channels")
        check_sides(path, shape)
        expected, size = f.tell() + int(np.prod(shape)) * dtype.itemsize, os.fstat(f.fileno()).st_size
        if size != expected:
            raise ImageError(path, f"is {size} bytes long; its header says {expected}")
        array = np.fromfile(f, dtype).reshape(shape, order="F" if fortran else "C")
    if array.ndim == 2:
        return array
    return array[..., 0] if shape[2] == 1 else to_grey(len(array), lambda rows: array[rows])
