"""What lies in a workdir, and how a run opens it: configuration, data, split, records."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from unet_jax.config import DEMO_CONVERT, Config, ConvertConfig, PhantomConfig, UserError, flatten, read_config, to_json
from unet_jax.data.arrays import Arrays, build, open_arrays
from unet_jax.data.phantom import write_phantom
from unet_jax.data.splits import Split, load_split, make_split
from unet_jax.data.tfds_source import PREFIX as TFDS
from unet_jax.data.tfds_source import build_from_tfds

Say = Callable[[str], None]
Record = dict[str, Any]
"""A line of metrics.jsonl."""

MAY_CHANGE = ("data", "loader.pipeline")
"""Options that a resumed run may have otherwise: data are compared by digest, pipelines give the same batches."""


@dataclass(frozen=True)
class Workdir:
    """The files of a run by name."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def split(self) -> Path:
        return self.path / "split.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def threshold(self) -> Path:
        return self.path / "threshold.json"

    @property
    def postprocess(self) -> Path:
        return self.path / "postprocess.json"

    @property
    def history(self) -> Path:
        return self.path / "history.png"

    @property
    def gallery(self) -> Path:
        return self.path / "gallery.png"

    def data(self, config: Config) -> Path:
        """Folder of the converted dataset: `--data`, or the run's own, of the phantom or of `--data tfds:NAME`."""
        if config.data is None or config.data.startswith(TFDS):
            return self.path / "data"
        return Path(config.data)


CROSSVAL = "crossval.json"
"""The file by which the folder of a cross-validation is known."""


def fold_folder(path: Path, fold: int) -> Path:
    """The workdir of one fold, counted from 1, in the folder of a cross-validation."""
    return path / f"fold-{fold}"


def run_folders(path: Path) -> list[Path]:
    """The workdirs that a folder stands for: itself, or the folds of a cross-validation.

    Raises:
        UserError: crossval.json is damaged, or a fold is missing.
    """
    try:
        folds = json.loads((path / CROSSVAL).read_text())["folds"]
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


@contextmanager
def lock(workdir: Workdir) -> Iterator[None]:
    """Keep other trainings out of a workdir; the operating system gives it free however this process ends.

    Raises:
        UserError: another one is in it.
    """
    held = FileLock(workdir.path / "train.lock")
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"{workdir.path} is being trained by another process. Wait for it to end, or use another --workdir."
        ) from None
    try:
        yield
    finally:
        held.release()


def settle_config(workdir: Workdir, config: Config) -> None:
    """Make the workdir of a new run, or make sure that a resumed one has the same configuration.

    It is stored later, by `open_split`: options that the data do not allow must not be left behind as those of a run
    that never began, and would then refuse the mended ones.

    Raises:
        UserError: the workdir holds a run of another configuration; the options that differ are named.
    """
    if workdir.path.exists() and not workdir.path.is_dir():
        raise UserError(f"{workdir.path} is a file; --workdir must be a folder, or a name for a new one.")
    if workdir.config.exists():
        stored, given = flatten(read_config(workdir.config)), flatten(config)
        differ = [n for n in stored if stored[n] != given[n] and n not in MAY_CHANGE]
        if differ:
            named = ", ".join(f"--{n} {given[n]} (it has {stored[n]})" for n in differ)
            raise UserError(f"{workdir.path} holds a run of another configuration: {named}. Use another --workdir.")
    workdir.path.mkdir(parents=True, exist_ok=True)


def open_data(workdir: Workdir, config: Config, say: Say) -> Arrays:
    """The run's converted dataset; the phantom (no `--data`) and `tfds:NAME` are converted on first use."""
    folder = workdir.data(config)
    if config.data is None and not folder.exists():
        phantom = PhantomConfig()
        say(f"Making the phantom: {phantom.patients} patients.")
        # All under one name, so that what a killed process left is found and removed.
        making = workdir.path / "phantom.tmp"
        shutil.rmtree(making, ignore_errors=True)
        write_phantom(making / "raw", phantom.patients, phantom.seed)
        build(making / "raw", making / "data", size=DEMO_CONVERT.size, mask_rule=DEMO_CONVERT.mask_rule)
        (making / "data").rename(folder)
        shutil.rmtree(making)
    elif config.data is not None and config.data.startswith(TFDS) and not folder.exists():
        say(f"Converting {config.data}.")
        build_from_tfds(config.data.removeprefix(TFDS), folder, ConvertConfig())
    return open_arrays(folder)


def open_split(workdir: Workdir, config: Config, arrays: Arrays, say: Say) -> Split:
    """The run's split: drawn on first use, and stored with the configuration.

    Raises:
        UserError: the data cannot be divided so, or the stored split was drawn from other data.
    """
    # The configuration is stored last, so a split without one was left by a process that stopped in between.
    if not (workdir.config.exists() and workdir.split.exists()):
        write_text(workdir.split, make_split(arrays, config.split).to_json())
    split = load_split(workdir.split)
    check_digest(workdir, split, arrays)
    write_text(workdir.config, to_json(config))
    say(
        f"{len(arrays)} slices of {arrays.size}x{arrays.size} (mask rule {arrays.mask_rule}); split {split.kind}: "
        f"{len(split.train)} train, {len(split.val)} validation, {len(split.test)} test."
    )
    if split.kind == "slice":
        say(f"{split.patients_straddling} patients have slices both in training and in validation, which is also test.")
    return split


def check_digest(workdir: Workdir, split: Split, arrays: Arrays) -> None:
    """Raise UserError unless `arrays` is the dataset that the run was trained on."""
    if split.data_digest != arrays.digest:
        raise UserError(
            f"{workdir.path} was trained on data with digest {split.data_digest[:12]}, {arrays.path} has "
            f"{arrays.digest[:12]}. Give the folder it was trained on as --data."
        )


def read_records(workdir: Workdir) -> list[Record]:
    """The lines of metrics.jsonl; one torn at the end, as by a power cut, is left out."""
    if not workdir.metrics.exists():
        return []
    records = []
    lines = workdir.metrics.read_text(errors="replace").splitlines()
    for i, line in enumerate(lines):
        try:
            records.append(json.loads(line))
        except ValueError:
            if i + 1 < len(lines):
                raise UserError(f"{workdir.metrics} line {i + 1} is not JSON. Restore the file.") from None
    return records


def cut_records(workdir: Workdir, step: int, *, write: bool = True) -> list[Record]:
    """Drop the lines of epochs that ended after `step`, in the file if `write`, and return the others."""
    records = [r for r in read_records(workdir) if r["step"] <= step]
    if write:
        write_text(workdir.metrics, "".join(json.dumps(r) + "\n" for r in records))
    return records


def append_record(workdir: Workdir, record: Record) -> None:
    with workdir.metrics.open("a") as f:
        f.write(json.dumps(record) + "\n")
        f.flush()
        os.fsync(f.fileno())


def read_threshold(workdir: Workdir) -> Record | None:
    """threshold.json: `threshold`, `checkpoint_step`, `micro_iou`, `curve`; None if it is absent.

    Raises:
        UserError: it is something else.
    """
    kinds = {"threshold": float, "checkpoint_step": int, "micro_iou": float, "curve": dict}
    return _read_choice(workdir.threshold, kinds)


def read_postprocess(workdir: Workdir) -> Record | None:
    """postprocess.json: `min_pixels`, `fill_holes`, `checkpoint_step`, `threshold`, `micro_iou`; None if it is absent.

    Raises:
        UserError: it is something else.
    """
    kinds = {"min_pixels": int, "fill_holes": bool, "checkpoint_step": int, "threshold": float, "micro_iou": float}
    return _read_choice(workdir.postprocess, kinds)


def store_choice(path: Path, chosen: Record) -> None:
    """Write what was chosen on validation, as `read_threshold` and `read_postprocess` read it."""
    write_text(path, json.dumps(chosen, indent=2) + "\n")


def _read_choice(path: Path, kinds: dict[str, type]) -> Record | None:
    try:
        content = json.loads(path.read_text())
        if not all(type(content[name]) is kind for name, kind in kinds.items()):
            raise TypeError
        return content
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged. Delete it; `unet_jax.eval` makes it anew.") from None


def write_text(path: Path, text: str) -> None:
    """Write a small file so that it is either the old one or the new one, whatever happens."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # another process may write the same
    with temporary.open("w") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def store_absolute(config: Config) -> Config:
    """The configuration with `data` as an absolute path, so that it holds from any folder."""
    if config.data is None or config.data.startswith(TFDS):
        return config
    return replace(config, data=str(Path(config.data).resolve()))
