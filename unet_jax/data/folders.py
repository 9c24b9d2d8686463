"""A folder that appears when it is whole, or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unet_jax.config import UserError
from unet_jax.data.disk import is_full, naming


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A new folder beside `target`, so on its file system; removed with all that is left in it.

    Raises:
        UserError: there can be none.
        OSError: the disk is full; it names `target`.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        outer = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as e:
        if is_full(e):
            raise
        raise UserError(f"{target} cannot be written to ({e.strerror}). Give another folder.") from e
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
        _sync(path)
    old = new.with_name("old")
    if target.exists():
        target.rename(old)
    try:
        new.rename(target)
    except BaseException:
        if old.exists():
            old.rename(target)
        raise
    _sync(target.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
