"""Files and folders that appear whole or not at all, and errors of writing that name what could not be written."""

import csv
import errno
import io
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unet_jax.config import UserError


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
    """Tell whether space is what lacks: of the disk, a quota or a file."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_of_disk(error: OSError) -> bool:
    """Tell whether an error of writing a file will meet the next file too: the disk is full, gone or only readable."""
    gone = (errno.EROFS, errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ENOTCONN, errno.EMFILE, errno.ENFILE)
    return is_full(error) or error.errno in gone


@contextmanager
def writing_in(folder: Path, remedy: str) -> Iterator[None]:
    """Make a UserError with a remedy of an operating system's error, but of a full disk, of writing in a folder."""
    try:
        yield
    except OSError as e:
        if is_full(e):
            raise
        raise UserError(f"{folder} cannot be written to ({e.strerror}). {remedy}") from e


def check_writable(folder: Path, option: str) -> None:
    """Raise UserError unless files can be made in a folder, which need not be there yet; nothing is left there.

    Args:
        folder: where files are to be written, or the name for a new folder.
        option: the option that gives another one, such as --output.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    with writing_in(folder, f"Give another folder by {option}."), tempfile.TemporaryFile(dir=there):
        pass


def is_writable(folder: Path) -> bool:
    """Tell whether files can be made in a folder."""
    try:
        check_writable(folder, "")
    except UserError:
        return False
    return True


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Open a file that takes the name `path` once it is written; after an error the old one, if any, is as it was.

    Args:
        path: replaced if it exists.
        durable: bring the content to the disk before the name, and the name before this returns, so that a power cut
            leaves the old file or the new one.
    """
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with naming(path), part.open("xb") as f:
            yield f
            if durable:
                f.flush()
                os.fsync(f.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    if durable:
        sync(path.parent)


def is_unfinished(name: str) -> bool:
    """Tell whether a file is what a process that was killed left of `replacing`."""
    return re.fullmatch(r"\.[0-9a-f]{32}\.part", name) is not None


def write_text(path: Path, text: str, *, durable: bool = False) -> None:
    """Write a text file by `replacing`: UTF-8, line ends as given."""
    with replacing(path, durable=durable) as f:
        f.write(text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write JSON by `replacing`: indented, keys in the order given, floats in full, a last newline.

    NumPy scalars become Python's numbers.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
    """
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False, default=plain)
    write_text(path, text + "\n")


def plain(value: Any) -> Any:
    """Convert a NumPy scalar to the Python number that JSON can hold; for `json.dumps(default=...)`."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in JSON.")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV by `replacing`: a header line, UTF-8, `\\n` line ends, floats in full, None as an empty field.

    Raises:
        ValueError: no rows, or a row with other keys than the first.
    """
    if not rows:
        raise ValueError(f"no rows for {path}; expected at least one.")
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Make a new folder beside `target`, so on its file system; it is removed with all that is left in it.

    Raises:
        UserError: there can be none.
        OSError: the disk is full; it names `target`.
    """
    with writing_in(target, "Give another folder."):
        target.parent.mkdir(parents=True, exist_ok=True)
        outer = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        inner = outer / "new"
        inner.mkdir()  # unlike the outer one, with the permissions that the person's umask gives
        with naming(target):
            yield inner
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def replace_folder(target: Path, new: Path) -> None:
    """Put the folder `new` in the place of `target`, on disk before it is seen."""
    for path in (*new.iterdir(), new):
        sync(path)
    old = new.with_name("old")
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    sync(target.parent)


def sync(path: Path) -> None:
    """Bring a file's content, or the names in a folder, to the disk; of a folder where its disk can."""
    if path.is_dir():
        syncs_folders(path)
    else:
        _fsync(path, os.O_RDWR)  # Windows syncs only what is open for writing


def syncs_folders(folder: Path) -> bool:
    """Bring the names in a folder to the disk, and tell whether that can be asked of it.

    Shares of CIFS and of virtual machines refuse, and bring names to the disk by themselves. Windows opens no folder,
    nor does any system one that this user may write to but not list.
    """
    try:
        _fsync(folder, os.O_RDONLY)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES):
            raise
        return False
    return True


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
