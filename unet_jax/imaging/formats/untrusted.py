"""Checks of what a file's reader takes on trust."""

import os
import struct
import zlib
from pathlib import Path
from typing import Any

MAX_JPEG_SCANS = 50
"""Largest number of scans of a JPEG; a progressive one has a dozen, and each goes over the whole picture."""

_PNG_SIGNATURE_BYTES = 8
_PIECE = 1 << 20


class Clamped:
    """An open file of which no more is read at a time than there is, or than `most` bytes.

    Python makes room for as many bytes as are asked for before it looks for them, and readers ask for as many as a
    damaged header says.
    """

    def __init__(self, file: Any, most: int | None = None):
        self._file = file
        self._most = os.fstat(file.fileno()).st_size if most is None else most

    def read(self, size: int | None = -1) -> bytes:
        """Read at most that many bytes; all there are, up to the limit, for -1 or None."""
        return self._file.read(self._most if size is None or size < 0 else min(size, self._most))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def picture_damage(path: Path, format: str) -> str | None:
    """Say what Pillow would not notice about a picture that it can open; None if nothing is wrong.

    Args:
        path: the file.
        format: Pillow's name of the format. A PNG is looked at for its checksums: Pillow does not verify those of
            pixels when it reads them, and its `verify` not that of the last chunk. A JPEG is looked at for scans
            without end.
    """
    if format == "PNG":
        return _png_damage(path)
    if format == "JPEG" and (scans := _count(path, b"\xff\xda")) > MAX_JPEG_SCANS:
        return f"has {scans} scans; expected at most {MAX_JPEG_SCANS}"
    return None


def _png_damage(path: Path) -> str | None:
    with path.open("rb") as f:
        f.seek(_PNG_SIGNATURE_BYTES)
        while len(start := f.read(8)) == 8:
            length, name = struct.unpack(">I4s", start)
            checksum = zlib.crc32(name)
            while length and (piece := f.read(min(length, _PIECE))):
                checksum = zlib.crc32(piece, checksum)
                length -= len(piece)
            if f.read(4) != struct.pack(">I", checksum):
                return f"is damaged: the checksum of its chunk {name.decode('latin-1')!r} is wrong"
            if name == b"IEND":
                return None
    return "is cut off"


def _count(path: Path, marker: bytes) -> int:
    # Where it is in a JPEG, it is a marker: compressed data have a zero after each such first byte.
    found, last = 0, b""
    with path.open("rb") as f:
        while piece := f.read(_PIECE):
            found += (last + piece).count(marker)
            last = piece[-len(marker) + 1 :]
    return found
