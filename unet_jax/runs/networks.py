"""Trained networks of workdirs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from unet_jax.config import Config, UserError, read_config
from unet_jax.data.splits import Split, load_split
from unet_jax.inference.predictor import DEFAULT_THRESHOLD, Predictor
from unet_jax.inference.programs import abstract_variables
from unet_jax.runs.choices import read_postprocess, read_threshold
from unet_jax.runs.workdir import Workdir
from unet_jax.training.checkpoints.store import Checkpoints


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network."""

    workdir: Workdir
    config: Config
    split: Split
    step: int
    """Training step of the checkpoint."""
    digest: str
    """SHA-256 over the checkpoint's files that were loaded."""
    variables: Any

    @classmethod
    def open(cls, path: Path, checkpoint: str) -> "Member":
        files = Workdir(path)
        config = read_config(files.config)
        if not files.checkpoints.is_dir():
            raise UserError(f"{files.path} has no checkpoints; expected a run of at least one epoch. Train it first.")
        with Checkpoints(files.checkpoints, read_only=True) as checkpoints:
            step = _choose_step(checkpoints, checkpoint)
            variables = checkpoints.restore_variables(step, like=abstract_variables(config.model))
            digest = checkpoints.variables_digest(step)
        return cls(files, config, load_split(files.split), step, digest, jax.device_put(variables))


def load(
    *workdirs: str | Path,
    checkpoint: str = "best",
    threshold: float | None = None,
    tta: bool = False,
    postprocess: bool = False,
) -> Predictor:
    """A trained network for use in a program or a notebook: `unet_jax.load("runs/a").predict(image)`.

    Args:
        workdirs: one run, or several to be averaged. The rest as in `Predictor.open`.

    Raises:
        UserError: as `Predictor.open`.
    """
    if not workdirs:
        raise UserError("load() was given no workdir; expected at least one that `unet_jax.train` wrote.")
    paths = [Path(w) for w in workdirs]
    return Predictor.open(paths, checkpoint=checkpoint, threshold=threshold, tta=tta, postprocess=postprocess)


def _threshold(members: Sequence[Member], given: float | None) -> tuple[float, str | None]:
    if given is not None:
        return given, None
    values, notes = [], []
    for member in members:
        chosen = read_threshold(member.workdir)
        if chosen is None:
            note = "none was chosen on validation"
        elif chosen["checkpoint_step"] != member.step:
            note = f"the one chosen on validation is for step {chosen['checkpoint_step']}, not {member.step}"
        else:
            values.append(chosen["threshold"])
            continue
        values.append(DEFAULT_THRESHOLD)
        notes.append(note if len(members) == 1 else f"{member.workdir.path}: {note}")
    return float(np.mean(values)), "; ".join(notes) or None


def _chosen_postprocess(member: Member) -> Mapping[str, Any]:
    chosen = read_postprocess(member.workdir)
    if chosen is None or chosen["checkpoint_step"] != member.step:
        raise UserError(
            f"{member.workdir.path} has no post-processing chosen for step {member.step}. "
            f"Run `python -m unet_jax.eval --workdir {member.workdir.path} --split val` first."
        )
    return chosen


def _choose_step(checkpoints: Checkpoints, wanted: str) -> int:
    steps = checkpoints.steps()
    if not steps:
        raise UserError(f"{checkpoints.directory} holds no whole checkpoint; expected one of a trained run.")
    if wanted == "best":
        best = checkpoints.best()
        return steps[-1] if best is None else best
    if wanted == "latest":
        return steps[-1]
    if wanted.isdecimal() and int(wanted) in steps:
        return int(wanted)
    there = ", ".join(str(s) for s in steps)
    raise UserError(f"--checkpoint is {wanted}; expected best, latest or one of the steps {there}.")
