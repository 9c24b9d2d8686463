"""Cross-validation: a run for each fold, and one evaluation of the slices that each of them left out."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from unet_jax.config import OUT_OF_FOLD, Config, UserError
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.splits import Split, draw_folds, load_split, make_split
from unet_jax.inference.predictor import Predictor
from unet_jax.runs.evaluate import Part, ensure_choices, score, write_evaluation
from unet_jax.runs.initial import started_from
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.networks import open_run
from unet_jax.runs.opening import Say, check_config, check_digest, choose_precision, open_data, store_absolute
from unet_jax.runs.predicted import predict_rows
from unet_jax.runs.train import train
from unet_jax.runs.workdir import CROSSVAL, Workdir, check_name, fold_folder, run_folders
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
        configs: those of the folds, as `fold_configs` makes them.
        interrupts: looked at between steps.
        say: told what happens.
        spacing: millimetres a native pixel; None to measure distances in pixels.
        tolerance: that of the normalised surface Dice, in the unit of distances.

    Returns:
        summary.json of PATH/eval/oof; None where an interrupt stopped it, with a checkpoint saved.

    Raises:
        UserError: the folder holds something else, or folds that do not fit together, or as `train`.
        RunError: as `train`.
    """
    stored = _open_folder(path, len(configs))
    # What has to be made first, the phantom or a dataset of TFDS, is made once for all folds.
    arrays = open_data(Workdir(path), configs[0], say)
    first = Workdir(fold_folder(path, 1))  # decides about the precision of all
    configs = [choose_precision(first, store_absolute(replace(config, data=str(arrays.path)))) for config in configs]
    splits = draw_once(path, stored, configs, arrays)
    for fold, (config, split) in enumerate(zip(configs, splits, strict=True), 1):
        say(f"Fold {fold} of {len(configs)}:")
        finished = train(fold_folder(path, fold), config, interrupts, say, split=split)
        if finished is None:
            return None
        best = finished.best
        say(f"  best validation micro-IoU {best['val']['micro_iou']:.4f} (epoch {best['epoch']})")
    parts, tested = [], []
    for folder in run_folders(path):
        run = open_run(folder)
        chosen = ensure_choices(run, arrays)
        predictor = Predictor([run.network()], chosen.threshold.threshold)
        rows = run.split.rows(arrays, "test")
        parts.append(Part(predictor, predict_rows(predictor, arrays, rows, folder.name)))
        tested.append((run, rows))
    scored = score(parts, spacing=spacing, tolerance=tolerance)
    out = path / "eval" / OUT_OF_FOLD
    title, initial = f"{path.name}, out of fold", started_from(tested, arrays)
    return write_evaluation(scored, out, split=OUT_OF_FOLD, title=title, curve=None, initial=initial)


def draw_once(path: Path, stored: dict[str, int], configs: Sequence[Config], arrays: Arrays) -> list[Split]:
    """Draw all folds together and store them in crossval.json, unless a fold has begun: then its drawing goes on.

    Another version of the program or of scikit-learn may draw others, and must not test a patient a second time.

    Args:
        path: folder of the cross-validation.
        stored: fold of each patient, from crossval.json; empty where none is stored.
        configs: those of the folds.
        arrays: the dataset.

    Returns:
        The split of each fold.

    Raises:
        UserError: the data cannot be divided so; or a fold has begun with other data or options, or with another split
            than the stored folds, or those that are drawn now, give it.
    """
    begun: dict[int, Split] = {}
    for fold, config in enumerate(configs, 1):
        workdir = Workdir(fold_folder(path, fold))
        if workdir.config.exists() and workdir.split.exists():
            check_config(workdir, config)
            begun[fold] = load_split(workdir.split)
            check_digest(workdir, begun[fold], arrays)
    content, folds = {"folds": len(configs)}, None
    if configs[0].split.kind == "folds":
        folds = np.array([stored.get(pid, 0) for pid in arrays.pids])
        if not (begun and stored):
            folds = _implied(begun, configs, arrays)
        patients = dict(zip(arrays.pids.tolist(), folds.tolist(), strict=True))
        content |= {"data_digest": arrays.digest, "patients": patients}
    splits = [make_split(arrays, config.split, folds) for config in configs]
    tested = sorted(number for split in splits for number in split.test)
    if tested != arrays.slices.tolist() or any(split != splits[fold - 1] for fold, split in begun.items()):
        raise UserError(
            f"{path} has begun with other folds than {CROSSVAL} holds or this version draws. Use another --workdir, or "
            "the version of unet_jax that began it."
        )
    write_text(path / CROSSVAL, json.dumps(content) + "\n", durable=True)
    return splits


def _implied(begun: dict[int, Split], configs: Sequence[Config], arrays: Arrays) -> Int[np.ndarray, " n"]:
    """Give the folds that the begun ones imply, since crossval.json of older versions holds none; else draw them."""
    folds = np.zeros(len(arrays), np.int64)
    for fold, split in begun.items():
        folds[split.rows(arrays, "val")] = fold % len(configs) + 1
        folds[split.rows(arrays, "test")] = fold
    unknown = set(range(1, len(configs) + 1)) - set(folds.tolist())
    if len(unknown) > 1:
        return draw_folds(arrays, configs[0].split)
    folds[folds == 0] = min(unknown, default=0)
    return folds


def _open_folder(path: Path, folds: int) -> dict[str, int]:
    """Make the folder, or make sure that it holds a cross-validation of as many folds.

    Returns:
        The fold of each patient, from crossval.json; empty where none is stored.
    """
    check_name(path)
    if (path / "config.json").exists():
        raise UserError(f"{path} holds a single run. Give another --workdir for a cross-validation.")
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; --workdir must be a folder, or a name for a new one.")
    path.mkdir(parents=True, exist_ok=True)
    try:
        record = json.loads((path / CROSSVAL).read_text("utf-8"))
        stored, patients = record["folds"], {pid: int(fold) for pid, fold in record.get("patients", {}).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, KeyError, AttributeError):
        raise UserError(f"{path / CROSSVAL} is damaged. Delete it, and run the same command again.") from None
    if stored != folds:
        raise UserError(f"{path} holds a cross-validation of {stored} folds, not {folds}. Use another --workdir.")
    return patients
