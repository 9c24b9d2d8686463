"""Names of files in a workdir, and the workdirs of a cross-validation."""

import json
from pathlib import Path

from unet_jax.config import Config, UserError
from unet_jax.data.tfds.source import PREFIX as TFDS


class Workdir:
    """The files of a run by name."""

    def __init__(self, path: Path):
        self.path = path
        self.config = path / "config.json"
        self.split = path / "split.json"
        self.initial = path / "initial.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.threshold = path / "threshold.json"
        self.postprocess = path / "postprocess.json"
        self.history = path / "history.png"
        self.gallery = path / "gallery.png"

    def data(self, config: Config) -> Path:
        """Give the folder of the converted dataset: `--data`, or the run's own, of the phantom or of `tfds:NAME`."""
        if config.data is None or config.data.startswith(TFDS):
            return self.path / "data"
        return Path(config.data)


def check_name(path: Path) -> None:
    """Raise UserError unless the whole path of a workdir is UTF-8, in which alone checkpoints are written and read."""
    whole = str(path.absolute())
    try:
        whole.encode()
    except UnicodeEncodeError:
        shown = whole.encode("utf-8", "backslashreplace").decode()
        raise UserError(f"{shown} is not UTF-8, and checkpoints need a path that is. Rename the folder.") from None


CROSSVAL = "crossval.json"
"""The file by which the folder of a cross-validation is known."""


def fold_folder(path: Path, fold: int) -> Path:
    """Give the workdir of one fold, counted from 1, in the folder of a cross-validation."""
    return path / f"fold-{fold}"


def run_folders(path: Path) -> list[Path]:
    """Give the workdirs that a folder stands for: itself, or the folds of a cross-validation.

    Raises:
        UserError: crossval.json is damaged, or a fold is missing.
    """
    try:
        folds = json.loads((path / CROSSVAL).read_text("utf-8"))["folds"]
    except (FileNotFoundError, NotADirectoryError):
        return [path]
    except (ValueError, TypeError, KeyError):
        folds = None
    if type(folds) is not int or folds < 1:
        raise UserError(f"{path / CROSSVAL} is damaged. Run the same `python -m unet_jax.crossval` again.")
    folders = [fold_folder(path, fold) for fold in range(1, folds + 1)]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is missing: the cross-validation is not finished. Run it again to go on.")
    return folders
