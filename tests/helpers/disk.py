"""Disks that are full, and folders that cannot be written to."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file grow beyond that many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def unwritable(folder: Path) -> Path:
    """A folder in which nobody makes anything, not even root."""
    if os.geteuid() != 0:
        closed = folder / "closed"
        closed.mkdir(mode=0o555)
        return closed
    if not Path("/proc/self").exists():
        pytest.skip("root can write anywhere but in /proc, which is not here")
    return Path("/proc")


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Names of all files and folders in a folder, when they were changed, and what is in them."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def only_readable(folder: Path) -> Iterator[None]:
    """Let nobody but root write to a folder and what is in it, and check that nobody did."""
    before = contents(folder)
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert contents(folder) == before


def work_was_done(*args: object, **kwargs: object) -> None:
    """Stand for the work that a refusal comes before."""
    raise AssertionError("work was done")


def full(*args: object, **kwargs: object) -> None:
    """Stand for a write to a disk that is full."""
    raise OSError(28, "No space left on device")
