"""`.npy` files of version 1.0 whose type and shape are known, read without trusting what they say of them."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

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
