"""Newest finished run of a folder, for a command that was given none."""

import os
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
    for root, names, files in os.walk(folder):
        if "config.json" in files or CROSSVAL in files:
            names.clear()  # what is in there are its parts
        if "config.json" in files:
            yield Path(root)
        # Folders behind links are not walked through; a run may be one.
        links = [Path(root, name) for name in names if os.path.islink(Path(root, name))]
        yield from (path for path in links if os.path.isfile(path / "config.json"))


def _finished(workdir: Workdir) -> int | None:
    """Tell when the last checkpoint of a run was saved; None where the run is not finished."""
    try:
        over = is_over(read_records(workdir), read_config(workdir.config).optim)
        # What comes later, such as a look at the run, leaves them alone.
        saved = [manifest.stat().st_mtime_ns for manifest in workdir.checkpoints.glob("*.json")]
    except (UserError, OSError, KeyError, TypeError):
        return None
    return max(saved, default=None) if over else None
