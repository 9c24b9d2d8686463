"""Checkpoints of a training run: saved in the background, verified when read. The only Orbax code.

    DIRECTORY/<step>/variables/     params and batch_stats, all that inference needs
    DIRECTORY/<step>/train/         the rest of the training state
    DIRECTORY/<step>.json           the manifest: metric, and size and SHA-256 of each file of <step>/

Orbax reads a flipped bit as if nothing were wrong, hence the manifest. It is written last, when all of the step is on
the disk, and removed first, so that a step is there exactly when its manifest is: whatever moment a run is killed at,
what `steps` lists is whole. Which steps to keep is decided here and not by Orbax's CheckpointManager: that deletes old
steps before the new one has its manifest, and for a NaN metric deletes the best one.
"""

import concurrent.futures
import contextlib
import dataclasses
import logging
import math
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint._src.serialization import tensorstore_utils

from unet_jax.config import UserError
from unet_jax.shared.files import is_unfinished, sync, syncs_folders
from unet_jax.shared.signals import held
from unet_jax.training.checkpoints import manifest as manifests
from unet_jax.training.checkpoints.trees import difference, flatten, nest
from unet_jax.training.processes import barrier, is_distributed, is_first

VARIABLES = ("params", "batch_stats")
"""The fields of the state that make up the item `variables`."""

NEWEST = 2
"""Number of the newest steps that are kept; the best is kept besides."""

_STEP = r"(0|[1-9]\d*)"


class CheckpointError(UserError):
    """A checkpoint that is absent, damaged, or of another network; one line with what to do."""


class Checkpoints:
    """The checkpoints in one directory.

    One process may have a directory open for writing, or all those together that train one network, which then call
    the same methods; any number may read it meanwhile. Used as a context manager, or closed with `close`. Not for use
    from several threads.

    Args:
        directory: where the checkpoints are. Created if absent, and cleared of what interrupted saves left.
        read_only: change nothing on the disk, not even that.
    """

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self.directory = Path(directory).absolute()
        self.read_only = read_only
        self._pending: concurrent.futures.Future[None] | None = None
        with contextlib.ExitStack() as opened:
            opened.enter_context(_quiet_orbax())
            self._reader = opened.enter_context(ocp.Checkpointer(ocp.PyTreeCheckpointHandler()))
            if not read_only:
                if is_first():
                    self.directory.mkdir(parents=True, exist_ok=True)
                    self._sweep()
                barrier("checkpoints opened")
                if not syncs_folders(self.directory):
                    # Orbax has no option for it. The manifest's own syncs of files come after TensorStore's anyhow.
                    context: dict[str, Any] = tensorstore_utils._DEFAULT_OCDBT_TS_CONTEXT
                    context["file_io_sync"] = False
                # Weights look like noise: zstd takes 8 % off them, and makes a save 1.7 times as long.
                variables, train = (ocp.PyTreeCheckpointHandler(use_compression=False) for _ in range(2))
                self._writer = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler(variables=variables, train=train))
                opened.callback(self._writer.close)
                self._background = opened.enter_context(concurrent.futures.ThreadPoolExecutor(1, "checkpoint"))
            self._opened = opened.pop_all()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and is_distributed():
            return  # this process ends at once, and what is being written waits for others, who may be gone
        try:
            self.close()
        except Exception as e:
            if error is None:
                raise
            # What went wrong first is what a person must see.
            error.add_note(f"Closing the checkpoints failed too: {e}")

    def close(self) -> None:
        """Finish the pending save and release all threads. Raises as `wait`."""
        with self._opened:
            self.wait()

    # What is there

    def steps(self) -> list[int]:
        """All whole checkpoints, oldest first; never one that is still being written."""
        return sorted(step for step in self._sealed() if self._path(step).is_dir())

    def latest(self) -> int | None:
        """Find the newest checkpoint; None if there is none."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """The checkpoint with the highest metric, of equals the latest; None if none has a metric.

        Raises:
            CheckpointError: a manifest is damaged, so that it cannot be told.
        """
        scored = []
        for step in self.steps():
            # The training process may have removed it just now.
            with contextlib.suppress(FileNotFoundError):
                metric = self._read_manifest(step).metric
                if metric is not None:
                    scored.append((metric, step))
        return max(scored)[1] if scored else None

    def variables_digest(self, step: int) -> str:
        """SHA-256 that tells the networks of checkpoints apart, wherever they lie.

        Raises:
            CheckpointError: there is no such step, or its manifest is damaged.
        """
        try:
            return manifests.item_digest(self._read_manifest(step), "variables")
        except FileNotFoundError:
            self._absent(step)

    # Writing

    def save(self, step: int, state: Any, metric: float | None, *, wait: bool = False) -> None:
        """Begin to save `state`; it is copied before this returns, so its buffers may be donated.

        The newest two steps and the best one are kept. A step that is already there is not written again; only its
        metric is added if it had none.

        Args:
            step: number of the checkpoint, above that of the latest one.
            state: a tree of arrays with the fields `params` and `batch_stats` among others.
            metric: the higher the better. None or not finite: worse than any number.
            wait: return only when it is on the disk.

        Raises:
            CheckpointError: `step` is older than the latest.
            OSError: this or the previous save could not be written.
        """
        if self.read_only:
            raise ValueError(f"{self.directory} was opened to read only; it cannot be saved to")
        self.wait()
        metric = None if metric is None or not math.isfinite(metric) else float(metric)
        latest = self.latest()
        if latest is not None and step < latest:
            raise CheckpointError(
                f"{self.directory} has step {latest} already; expected to save a later one, got step {step}. "
                "Train in another workdir, or remove the later steps."
            )
        if step == latest:
            manifest = self._read_manifest(step)
            if metric is not None and manifest.metric is None:
                manifests.write(self._manifest(step), dataclasses.replace(manifest, metric=metric))
            return
        arrays = flatten(state)
        size, free = sum(x.nbytes for x in arrays.values()), shutil.disk_usage(self.directory).free
        if free < size:  # Orbax would find out too, but only after filling the disk, and not quietly.
            raise OSError(f"{self._path(step)} takes {size / 1e6:,.1f} MB, and only {free / 1e6:,.1f} MB are free")
        items: dict[str, dict[str, Any]] = {"variables": {}, "train": {}}
        for name, x in arrays.items():
            items["variables" if name.split("/")[0] in VARIABLES else "train"][name] = x
        args = ocp.args.Composite(**{item: ocp.args.PyTreeSave(nest(leaves)) for item, leaves in items.items()})
        # Interrupted, Orbax would leave a save that ends in neither way. Of several processes SIGTERM is jax's to hear.
        with contextlib.nullcontext() if is_distributed() else held():
            try:
                # By force: over what a failed save of this step may have left.
                self._writer.save(self._path(step), args=args, force=True)
            except OSError as e:
                self._abandon(step, e)
            self._pending = self._background.submit(self._commit, step, metric)
        if wait:
            self.wait()

    def wait(self) -> None:
        """Return when the pending save is on the disk with its manifest.

        Raises:
            OSError: it could not be written; the checkpoints before it are untouched.
        """
        if self._pending is not None:
            concurrent.futures.wait([self._pending])  # Interrupted here by Ctrl-C, it is still pending.
            pending, self._pending = self._pending, None
            pending.result()
            barrier("checkpoint sealed")

    def _commit(self, step: int, metric: float | None) -> None:
        """Wait for Orbax, seal the step with its manifest, then remove what is no longer needed."""
        try:
            self._writer.wait_until_finished()
            if not is_first():
                return
            manifests.write(self._manifest(step), manifests.take(self._path(step), step, metric))
        except Exception as e:  # TensorStore reports a full disk as a ValueError.
            self._abandon(step, e)
        self._prune()

    def _abandon(self, step: int, cause: Exception) -> NoReturn:
        # On a full disk the remains take the room that the next attempt needs.
        with contextlib.suppress(OSError):
            if is_first():
                self._sweep()
        code = re.search(r"os_error_code='(\d+)'", str(cause))
        reason = os.strerror(int(code[1])) if code else (str(cause) or type(cause).__name__).splitlines()[0]
        raise OSError(f"{self._path(step)} could not be written: {reason}") from cause

    def _prune(self) -> None:
        steps = self.steps()
        try:
            keep = {*steps[-NEWEST:], self.best()}
        except CheckpointError:
            return  # Which one is best cannot be told: rather keep one too many.
        for step in steps:
            if step not in keep:
                self._manifest(step).unlink()
                sync(self.directory)
                # What cannot be removed now, as on a network disk while it is read, goes at the next opening.
                shutil.rmtree(self._path(step), ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what has the name of a checkpoint, or of a part of one, and is no whole checkpoint."""
        sealed = self._sealed()
        for path in self.directory.iterdir():
            match = re.fullmatch(_STEP + r"(\.orbax-checkpoint-tmp.*)?", path.name)
            if match and path.is_dir() and (match[2] or int(match[1]) not in sealed):
                shutil.rmtree(path)
            match = re.fullmatch(_STEP + r"\.json", path.name)
            if is_unfinished(path.name) or (match and not self._path(int(match[1])).is_dir()):
                path.unlink()

    # Reading

    def restore(self, step: int, like: Any) -> Any:
        """The whole training state of `step`, bit for bit as it was saved.

        Args:
            step: one of `steps`.
            like: a tree as it was saved, of jax.Array or jax.ShapeDtypeStruct. Its shardings are used where it has
                some, else the arrays go to the default device.

        Returns:
            A tree as `like`, of jax.Array.

        Raises:
            CheckpointError: no such step; a file is damaged; or names, shapes or dtypes differ from `like`.
        """
        return self._restore(step, like, ("variables", "train"))

    def restore_variables(self, step: int, like: Any) -> Any:
        """Restore what inference needs of `step`; the optimizer's part is neither read nor verified.

        `like` is {"params": ..., "batch_stats": ...}; otherwise as `restore`.
        """
        return self._restore(step, like, ("variables",))

    def _restore(self, step: int, like: Any, items: tuple[str, ...]) -> Any:
        self.wait()
        if step not in self.steps():
            self._absent(step)
        try:
            manifests.verify(self._path(step), self._read_manifest(step), items)
            return self._load(step, like, items)
        except Exception as e:
            # The training process removes the manifest first, so this tells a removed step from a damaged one.
            if not self._manifest(step).exists():
                self._absent(step)
            if isinstance(e, manifests.DamageError):
                self._damaged(step, e)
            raise

    def _load(self, step: int, like: Any, items: tuple[str, ...]) -> Any:
        expected = flatten(like)
        stored = {item: flatten(self._reader.metadata(self._path(step) / item).item_metadata.tree) for item in items}
        found = {name: x for item in stored.values() for name, x in item.items()}
        if wrong := difference(expected, found, self._path(step)):
            raise CheckpointError(f"{wrong} Use the configuration that it was trained with, or another workdir.")
        default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        to = {
            name: ocp.ArrayRestoreArgs(
                sharding=getattr(x, "sharding", None) or default, global_shape=x.shape, dtype=x.dtype
            )
            for name, x in expected.items()
        }
        arrays: dict[str, Any] = {}
        for item, leaves in stored.items():
            args = ocp.args.PyTreeRestore(item=nest(leaves), restore_args=nest({name: to[name] for name in leaves}))
            arrays.update(flatten(self._reader.restore(self._path(step) / item, args=args)))
        return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])

    # Names and errors

    def _path(self, step: int) -> Path:
        return self.directory / str(step)

    def _manifest(self, step: int) -> Path:
        return self.directory / f"{step}.json"

    def _sealed(self) -> set[int]:
        """The steps that have a manifest."""
        names = os.listdir(self.directory) if self.directory.is_dir() else []
        return {int(match[1]) for name in names if (match := re.fullmatch(_STEP + r"\.json", name))}

    def _read_manifest(self, step: int) -> manifests.Manifest:
        try:
            manifest = manifests.read(self._manifest(step))
        except manifests.DamageError as e:
            self._damaged(step, e)
        if manifest.step != step:
            self._damaged(step, f"{self._manifest(step)} is the manifest of step {manifest.step}")
        return manifest

    def _absent(self, step: int) -> NoReturn:
        steps = self.steps()
        there = f"it has {', '.join(map(str, steps))}" if steps else "it has none"
        raise CheckpointError(f"{self.directory} has no checkpoint of step {step} (any more); {there}.")

    def _damaged(self, step: int, damage: manifests.DamageError | str) -> NoReturn:
        others = [other for other in self.steps() if other != step]
        remedy = "There is no other step: restore it from a copy, or train again in an empty workdir."
        if others:
            remedy = f"Use another step (--checkpoint {' or '.join(map(str, others))})"
            if step > others[-1]:
                remedy += f", or remove {self._path(step)} to resume training from step {others[-1]}"
            remedy += "."
        raise CheckpointError(f"{damage}. {remedy}") from None


@contextlib.contextmanager
def _quiet_orbax() -> Iterator[None]:
    """Drop what Orbax logs, and nothing that others log: what matters of it is raised."""

    def keep(record: logging.LogRecord) -> bool:
        return f"{os.sep}orbax{os.sep}" not in record.pathname

    logger = logging.getLogger("absl")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
