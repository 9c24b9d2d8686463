"""Files and folders on systems that sync less than Linux does."""

import errno
import fcntl
import os

import pytest

from unet_jax.shared.files import replace_folder, staged_folder, syncs_folders, write_text
from unet_jax.training.checkpoints import manifest


@pytest.fixture
def as_on_windows(monkeypatch):
    """Folders cannot be opened, and nothing is synced that is open for reading alone."""
    opened, fsync = os.open, os.fsync

    def open_no_folder(path, flags, *mode, **at):
        if not isinstance(path, int) and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags, *mode, **at)

    def sync_what_is_written(descriptor):
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        fsync(descriptor)

    monkeypatch.setattr(os, "open", open_no_folder)
    monkeypatch.setattr(os, "fsync", sync_what_is_written)


def test_files_folders_and_checkpoints_are_kept_where_folders_cannot_be_opened(as_on_windows, tmp_path):
    assert not syncs_folders(tmp_path)
    write_text(tmp_path / "a.txt", "old")
    write_text(tmp_path / "a.txt", "new", durable=True)
    assert (tmp_path / "a.txt").read_text() == "new"
    with staged_folder(tmp_path / "d") as new:
        (new / "b.txt").write_text("b")
        replace_folder(tmp_path / "d", new)
    assert manifest.take(tmp_path / "d", 3, None).files["b.txt"][0] == 1


def test_folders_are_synced_where_they_can_be(tmp_path):
    assert syncs_folders(tmp_path)
