"""Newest finished run of a folder, for a command that was given none."""

from collections.abc import Iterator
from pathlib import Path

from unet_jax.config import UserError, read_config
from unet_jax.runs.records import is_over, read_records
from unet_jax.runs.workdir import CROSSVAL, Workdir


def newest_finished(folder: Path) -> Path | None:
    """Find the workdir below a folder whose training was finished last; None where there is none.

    The folds of a cross-validation are none of these, nor are runs that cannot be read.
    """
    finished = {path: time for path in _workdirs(folder) if (time := _finished(Workdir(path))) is not None}
    return max(finished, key=lambda path: (finished[path], path), default=None)


def _workdirs(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if (path / "config.json").is_file():
            yield path
        elif not path.is_symlink() and not (path / CROSSVAL).exists():
            yield from _workdirs(path)


def _finished(workdir: Workdir) -> int | None:
    """Tell when the last checkpoint of a run was saved; None where the run is not finished."""
    try:
        over = is_over(read_records(workdir), read_config(workdir.config).optim)
        # What comes later, such as a look at the run, leaves them alone.
        saved = [manifest.stat().st_mtime_ns for manifest in workdir.checkpoints.glob("*.json")]
    except (UserError, OSError, KeyError, TypeError):
        return None
    return max(saved, default=None) if over else None
