"""Trained runs opened for inference: workdirs to networks and predictors, and `unet_jax.load`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from unet_jax.config import Config, UserError, read_config
from unet_jax.data.splits import Split, load_split
from unet_jax.inference import programs
from unet_jax.inference.network import Network
from unet_jax.inference.predictor import Predictor, average_thresholds
from unet_jax.models.network import abstract_variables
from unet_jax.runs.choices import PostprocessChoice, Threshold, read_choice
from unet_jax.runs.workdir import Workdir, run_folders
from unet_jax.scoring.components import Postprocess
from unet_jax.training.checkpoints.store import Checkpoints


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """Run at one of its checkpoints."""

    workdir: Workdir
    config: Config
    split: Split
    step: int
    """Training step of the checkpoint."""
    digest: str
    """SHA-256 over the checkpoint's files that were loaded."""
    variables: Any
    """`params` and `batch_stats`, on the device."""

    def network(self) -> Network:
        """Give the network as a predictor takes it, with the threshold chosen for this checkpoint."""
        model, prep = self.config.model, self.config.preprocess

        def probabilities(*batch: Any, tta: bool) -> Any:
            return programs.make_predict(model, prep, tta=tta)(self.variables, *batch)

        def spread(*image: Any, samples: int) -> Any:
            return programs.make_dropout_spread(model, prep, samples)(self.variables, *image)

        chosen, note = read_choice(self.workdir.threshold, Threshold), None
        if chosen is None:
            note = "none was chosen on validation"
        elif chosen.checkpoint_step != self.step:
            note = f"the one chosen on validation is for step {chosen.checkpoint_step}, not {self.step}"
        return Network(
            name=str(self.workdir.path),
            size=self.split.size,
            probabilities=probabilities,
            spread=spread if model.dropout else None,
            step=self.step,
            sha256=self.digest,
            threshold=chosen.threshold if chosen and note is None else None,
            threshold_note=note,
            fixed_max=self.split.intensity_max if prep.kind == "fixed" else None,
        )


def open_run(path: Path, checkpoint: str = "best") -> TrainedRun:
    """Load the network of a workdir: of the checkpoint `best` (highest validation IoU), `latest`, or a step's number.

    Raises:
        UserError: no run, no such checkpoint, or a damaged one.
    """
    workdir = Workdir(path)
    config = read_config(workdir.config)
    if not workdir.checkpoints.is_dir():
        raise UserError(f"{path} has no checkpoints; expected a run of at least one epoch. Train it first.")
    with Checkpoints(workdir.checkpoints, read_only=True) as checkpoints:
        step = _choose_step(checkpoints, checkpoint)
        variables = checkpoints.restore_variables(step, like=abstract_variables(config.model))
        digest = checkpoints.variables_digest(step)
    return TrainedRun(workdir, config, load_split(workdir.split), step, digest, jax.device_put(variables))


def open_runs(workdirs: Sequence[str | Path], checkpoint: str = "best") -> list[TrainedRun]:
    """Load the networks of workdirs as `open_run`; a folder that `unet_jax.crossval` wrote stands for its folds."""
    return [open_run(folder, checkpoint) for path in workdirs for folder in run_folders(Path(path))]


def least_postprocess(runs: Sequence[TrainedRun]) -> Postprocess:
    """Combine the post-processing chosen for several runs: the least that any of them asks for.

    Raises:
        UserError: none was chosen for one of them.
    """
    choices = []
    for run in runs:
        path, chosen = run.workdir.path, read_choice(run.workdir.postprocess, PostprocessChoice)
        if chosen is None or chosen.checkpoint_step != run.step:
            raise UserError(
                f"{path} has no post-processing chosen for step {run.step}. "
                f"Run `python -m unet_jax.eval --workdir {path} --split val` first."
            )
        choices.append(chosen)
    return Postprocess(min(c.min_pixels for c in choices), all(c.fill_holes for c in choices))


def load(
    *workdirs: str | Path,
    checkpoint: str = "best",
    threshold: float | None = None,
    tta: bool = False,
    postprocess: bool = False,
    uncertainty: bool = False,
    dropout_samples: int = 16,
) -> Predictor:
    """Load trained networks for use, also in a program or a notebook: `unet_jax.load("runs/a").predict(image)`.

    Args:
        workdirs: one run, or several to be averaged, as in `open_runs`.
        checkpoint: as in `open_run`.
        threshold: in (0, 1); None for the one that was chosen on validation for this checkpoint, else 0.5. Of several
            networks their mean.
        postprocess: clean masks as was found best on validation (`Postprocess`).
        tta, uncertainty, dropout_samples: as in `Predictor`.

    Raises:
        UserError: as `open_runs`, a threshold out of range, networks of different sizes, no post-processing chosen
            yet, or no dropout to sample.
    """
    if not workdirs:
        raise UserError("load() was given no workdir; expected at least one that `unet_jax.train` wrote.")
    runs = open_runs(workdirs, checkpoint)
    networks = [run.network() for run in runs]
    value, note = average_thresholds(networks) if threshold is None else (threshold, None)
    return Predictor(
        networks,
        value,
        note,
        postprocess=least_postprocess(runs) if postprocess else None,
        tta=tta,
        uncertainty=uncertainty,
        dropout_samples=dropout_samples,
    )


def _choose_step(checkpoints: Checkpoints, wanted: str) -> int:
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
