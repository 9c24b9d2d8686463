"""Cross-validation: a run for each fold, and one evaluation of the slices that each of them left out."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unet_jax.config import OUT_OF_FOLD, Config, UserError
from unet_jax.inference.predictor import Predictor
from unet_jax.runs.evaluate import Part, ensure_choices, score, write_evaluation
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.networks import open_run
from unet_jax.runs.opening import Say, open_data
from unet_jax.runs.predicted import predict_rows
from unet_jax.runs.train import train
from unet_jax.runs.workdir import CROSSVAL, Workdir, fold_folder, run_folders
from unet_jax.shared.files import write_text


def cross_validate(
    path: Path,
    configs: Sequence[Config],
    interrupts: Interrupts,
    say: Say,
    *,
    spacing: float | None,
    tolerance: float,
) -> dict[str, Any] | None:
    """Train every fold, or go on where a process stopped, and score each slice by the network that never saw it.

    Args:
        path: folder of the cross-validation; fold k is the workdir PATH/fold-k, as `train` alone would make it.
        configs: of the folds, as `fold_configs` makes them.
        interrupts: looked at between steps.
        say: told what happens.
        spacing, tolerance: as in `evaluation.score`.

    Returns:
        summary.json of PATH/eval/oof; None where an interrupt stopped it, with a checkpoint saved.

    Raises:
        UserError: the folder holds something else, or as `run.train`.
        RunError: as `run.train`.
    """
    _settle(path, len(configs))
    # What has to be made first, the phantom or a dataset of TFDS, is made once for all folds.
    arrays = open_data(Workdir(path), configs[0], say)
    configs = [replace(config, data=str(arrays.path)) for config in configs]
    for fold, config in enumerate(configs, 1):
        say(f"Fold {fold} of {len(configs)}:")
        finished = train(fold_folder(path, fold), config, interrupts, say)
        if finished is None:
            return None
        best = finished.best
        say(f"  best validation micro-IoU {best['val']['micro_iou']:.4f} (epoch {best['epoch']})")
    parts = []
    for folder in run_folders(path):
        run = open_run(folder)
        chosen = ensure_choices(run, arrays)
        predictor = Predictor([run.network()], chosen.threshold.threshold)
        parts.append(Part(predictor, predict_rows(predictor, arrays, run.split.rows(arrays, "test"), folder.name)))
    scored = score(parts, spacing=spacing, tolerance=tolerance)
    out = path / "eval" / OUT_OF_FOLD
    return write_evaluation(scored, out, split=OUT_OF_FOLD, title=f"{path.name}, out of fold", curve=None)


def _settle(path: Path, folds: int) -> None:
    """Make the folder, or make sure that it holds a cross-validation of as many folds."""
    if (path / "config.json").exists():
        raise UserError(f"{path} holds a single run. Give another --workdir for a cross-validation.")
    try:
        stored = json.loads((path / CROSSVAL).read_text())["folds"]
    except (FileNotFoundError, NotADirectoryError):
        stored = folds
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path / CROSSVAL} is damaged. Delete it, and run the same command again.") from None
    if stored != folds:
        raise UserError(f"{path} holds a cross-validation of {stored} folds, not {folds}. Use another --workdir.")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; --workdir must be a folder, or a name for a new one.")
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / CROSSVAL, json.dumps({"folds": folds}) + "\n", durable=True)
