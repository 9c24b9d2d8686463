"""Locks of the operating system, which gives them free however the process that has one ends."""

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from unet_jax.config import UserError


def lock(path: Path, *, taken: str, no_locks: str, say: Callable[[str], object]) -> AbstractContextManager[object]:
    """Keep other processes out of what a file stands for, which is made where it is missing.

    On a disk without locks, such as some NFS and Lustre, there is none, and `say` is told so.

    Args:
        path: of the file, in a folder that is there.
        taken: what to tell the person where another process has the lock.
        no_locks: what the note about such a disk says is kept out by nothing but the person.
        say: gets that note.

    Raises:
        UserError: another process has it.
    """
    try:
        # Not filelock's own way without locks: a file that a killed process leaves behind.
        return FileLock(path, fallback_to_soft=False).acquire(timeout=0)
    except Timeout:
        raise UserError(taken) from None
    except OSError as e:
        if e.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
        say(f"note: the disk of {path} grants no locks ({e.strerror}), so nothing but you keeps {no_locks}.")
        return nullcontext()
