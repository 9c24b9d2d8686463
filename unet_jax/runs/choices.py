"""Threshold and post-processing: chosen on validation, stored, read."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.config import UserError
from unet_jax.data.converted.arrays import Arrays
from unet_jax.inference.predictor import Predictor
from unet_jax.runs.predicted import Predicted, predict_rows
from unet_jax.runs.records import Record
from unet_jax.runs.workdir import Workdir
from unet_jax.scoring.components import CHOICES, best_postprocess, postprocess_counts
from unet_jax.scoring.metrics import Counts, apply_threshold, iou
from unet_jax.scoring.thresholds import THRESHOLDS, best_threshold, threshold_counts, threshold_ious
from unet_jax.shared.files import write_text


def choose_threshold(predicted: Predicted) -> dict[str, Any]:
    """The one of THRESHOLDS with the highest micro-IoU at native resolution.

    Args:
        predicted: the validation slices of a single run.

    Returns:
        The content of threshold.json, with the curve it was chosen from.
    """
    counts = np.zeros((len(THRESHOLDS), 4), np.int64)
    for i in range(len(predicted.rows)):
        counts += threshold_counts(predicted.native_probs(i), predicted.native_mask(i))
    value, micro_iou = best_threshold(counts)
    curve = {f"{t:.2f}": float(i) for t, i in zip(THRESHOLDS, threshold_ious(counts), strict=True)}
    step = predicted.predictor.only.step
    return {"threshold": value, "checkpoint_step": step, "micro_iou": micro_iou, "curve": curve}


def choose_postprocess(predicted: Predicted, threshold: float) -> dict[str, Any]:
    """The one of `components.CHOICES` with the highest micro-IoU at native resolution under a threshold.

    Args:
        predicted: the validation slices of a single run.
        threshold: the one chosen for it.

    Returns:
        The content of postprocess.json.
    """
    total = {choice: np.zeros(4, np.int64) for choice in CHOICES}
    for i in range(len(predicted.rows)):
        pred = np.asarray(apply_threshold(predicted.native_probs(i), threshold))
        for choice, counts in postprocess_counts(pred, predicted.native_mask(i)).items():
            total[choice] += counts
    best = best_postprocess(total)
    return {
        "min_pixels": best.min_pixels,
        "fill_holes": best.fill_holes,
        "checkpoint_step": predicted.predictor.only.step,
        "threshold": threshold,
        "micro_iou": float(iou(Counts(*total[best]))),
    }


def settle_choices(
    predictor: Predictor,
    arrays: Arrays,
    *,
    predicted: Predicted | None = None,
    keep_threshold: bool = False,
    store: bool = True,
) -> dict[str, Any]:
    """Threshold and post-processing of a single run's checkpoint, chosen now on its validation slices where need be.

    Args:
        predictor: of one network; gets the threshold unless `keep_threshold`.
        arrays: the dataset of the run.
        predicted: the validation slices, where they have been predicted already.
        store: whether what is chosen now goes into the workdir.

    Returns:
        The content of threshold.json, with that of postprocess.json as entry `postprocess`.
    """
    member = predictor.only
    threshold, cleaning = read_threshold(member.workdir), read_postprocess(member.workdir)
    fits = [chosen is not None and chosen["checkpoint_step"] == member.step for chosen in (threshold, cleaning)]
    if not all(fits):
        if predicted is None:
            plain = Predictor([member])  # choices are made without averaging over mirror images
            predicted = predict_rows(plain, arrays, member.split.rows(arrays, "val"), "validation")
        if not fits[0]:
            threshold = choose_threshold(predicted)
            if store:
                store_choice(member.workdir.threshold, threshold)
        assert threshold is not None, "it was read or chosen"
        if not fits[1]:
            cleaning = choose_postprocess(predicted, threshold["threshold"])
            if store:
                store_choice(member.workdir.postprocess, cleaning)
    assert threshold is not None and cleaning is not None, "both were read or chosen"
    if not keep_threshold:
        predictor.threshold, predictor.threshold_note = threshold["threshold"], None
    return threshold | {"postprocess": cleaning}


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
    write_text(path, json.dumps(chosen, indent=2) + "\n", durable=True)


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
