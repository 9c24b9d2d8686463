"""A file of which no more memory is asked for than it can fill."""

import os
from typing import Any


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

    def write(self, data: bytes) -> int:
        """Write to the file; from Python 3.12 on, nibabel looks for this method and sees none that is given below."""
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
