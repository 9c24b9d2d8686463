"""Trained networks opened: those of workdirs and of models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import jax

from unet_jax.config import Config, UserError, read_config
from unet_jax.data.splits import Split, load_split
from unet_jax.models.network import abstract_variables
from unet_jax.runs.choices import PostprocessChoice, Threshold, read_choice
from unet_jax.runs.model_folder import SHIPPED, is_model, open_model
from unet_jax.runs.trained import TrainedNetwork
from unet_jax.runs.workdir import Workdir, check_name, run_folders
from unet_jax.scoring.components import Postprocess

if TYPE_CHECKING:
    from unet_jax.training.checkpoints.store import Checkpoints


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedRun(TrainedNetwork):
    """Run at one of its checkpoints."""

    workdir: Workdir
    config: Config
    split: Split


def open_run(path: Path, checkpoint: str = "best") -> TrainedRun:
    """Load the network of a workdir: of the checkpoint `best` (highest validation IoU), `latest`, or a step's number.

    Raises:
        UserError: no run, no such checkpoint, or a damaged one, or `check_name`.
    """
    check_name(path)
    # Imports Orbax, which a model folder does without.
    from unet_jax.training.checkpoints.store import Checkpoints

    workdir = Workdir(path)
    config = read_config(workdir.config)
    if not workdir.checkpoints.is_dir():
        raise UserError(f"{path} has no checkpoints; expected a run of at least one epoch. Train it first.")
    with Checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
        step = _choose_step(checkpoints, checkpoint)
        variables = checkpoints.restore_variables(step, like=abstract_variables(config.model))
        digest = checkpoints.variables_digest(step)
    split = load_split(workdir.split)
    threshold, note = read_choice(workdir.threshold, Threshold), None
    if threshold is None:
        note = "none was chosen on validation"
    elif threshold.checkpoint_step != step:
        note = f"the one chosen on validation is for step {threshold.checkpoint_step}, not {step}"
    cleaning = read_choice(workdir.postprocess, PostprocessChoice)
    fits = cleaning is not None and cleaning.checkpoint_step == step
    return TrainedRun(
        path=path,
        model_name=None,
        model=config.model,
        preprocess=config.preprocess,
        size=split.size,
        intensity_max=split.intensity_max,
        step=step,
        seed=config.seed,
        data_digest=split.data_digest,
        sha256=digest,
        variables=jax.device_put(variables),
        threshold=threshold.threshold if threshold and note is None else None,
        threshold_note=note,
        postprocess=Postprocess(cleaning.min_pixels, cleaning.fill_holes) if cleaning and fits else None,
        workdir=workdir,
        config=config,
        split=split,
    )


def open_runs(workdirs: Sequence[str | Path], checkpoint: str = "best") -> list[TrainedRun]:
    """Load the networks of workdirs as `open_run`; a folder that `unet_jax.crossval` wrote stands for its folds."""
    return [open_run(folder, checkpoint) for path in workdirs for folder in run_folders(Path(path))]


def open_networks(
    workdirs: Sequence[str | Path], checkpoint: str = "best", model: str | Path | None = None
) -> Sequence[TrainedNetwork]:
    """Load the networks of workdirs as `open_runs`, or the one of a model; without either that of `SHIPPED`.

    Args:
        workdirs: empty where a model is wanted. A single one may be a model folder, or a model's name where there is no
            such workdir.
        checkpoint: as in `open_run`; a model has but one.
        model: as in `open_model`.
    """
    if model is not None and workdirs:
        raise UserError(f"a model ({model}) and workdirs ({workdirs[0]}) were both given. Use one of them.")
    if len(workdirs) == 1 and is_model(workdirs[0]):
        workdirs, model = (), workdirs[0]
    if workdirs:
        return open_runs(workdirs, checkpoint)
    if checkpoint != "best":
        raise UserError(f"--checkpoint is {checkpoint}, but a model has one set of weights. Give a --workdir with it.")
    return [open_model(SHIPPED if model is None else model)]


def least_postprocess(networks: Sequence[TrainedNetwork]) -> Postprocess:
    """Combine the post-processing chosen for several networks: the least that any of them asks for.

    Raises:
        UserError: none was chosen for one of them.
    """
    choices = []
    for network in networks:
        if network.postprocess is None:
            raise UserError(
                f"{network.path} has no post-processing chosen for step {network.step}. "
                f"Run `python -m unet_jax.eval --workdir {network.path} --split val` first."
            )
        choices.append(network.postprocess)
    return Postprocess(min(c.min_pixels for c in choices), all(c.fill_holes for c in choices))


def _choose_step(checkpoints: "Checkpoints", wanted: str) -> int:
    steps = checkpoints.steps()
    if not steps:
        raise UserError(f"{checkpoints.directory} holds no whole checkpoint; expected one of a trained run.")
    if wanted in ("best", "latest"):
        best = checkpoints.best() if wanted == "best" else None
        return steps[-1] if best is None else best
    if wanted.isdecimal() and int(wanted) in steps:
        return int(wanted)
    there = ", ".join(str(s) for s in steps)
    raise UserError(f"--checkpoint is {wanted}; expected best, latest or one of the steps {there}.")
