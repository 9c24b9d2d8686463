"""Errors of writing, for the person whose disk it is."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have an operating system's error name `path` where it names nothing, as that of a write to a full disk."""
    try:
        yield
    except OSError as e:
        # What is made of a message alone, such as a ConnectionError of the project's own, says what it means.
        if e.filename is not None or e.errno is None:
            raise
        raise OSError(e.errno, e.strerror, str(path)) from e


def is_full(error: OSError) -> bool:
    """Whether it is space that lacks, of the disk, a quota or a file."""
    return error.errno in _FULL
