"""Threshold and post-processing of a run: chosen on validation, stored in the workdir, read again."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np

from unet_jax.config import UserError
from unet_jax.runs.predicted import Predicted
from unet_jax.scoring.calibration import BINS, calibration_counts
from unet_jax.scoring.components import CHOICES, Postprocess, best_postprocess, postprocess_counts
from unet_jax.scoring.metrics import Counts, apply_threshold, iou
from unet_jax.scoring.thresholds import THRESHOLDS, best_threshold, threshold_counts, threshold_ious
from unet_jax.shared.files import write_text

Choice = TypeVar("Choice", "Threshold", "PostprocessChoice")


@dataclass(frozen=True)
class Threshold:
    """The content of threshold.json."""

    threshold: float
    """Probability from which on a pixel is tumour."""
    checkpoint_step: int
    """Training step of the checkpoint that the choice is for."""
    micro_iou: float
    """Micro-IoU on validation at native resolution under the threshold."""
    curve: dict[str, Any]
    """Micro-IoU by threshold, as "0.05" to "0.95"."""


@dataclass(frozen=True)
class PostprocessChoice(Postprocess):
    """The content of postprocess.json."""

    checkpoint_step: int
    threshold: float
    """The threshold under which masks were cleaned."""
    micro_iou: float
    """Micro-IoU on validation at native resolution."""


class Choices(NamedTuple):
    """All that is chosen on validation for a checkpoint."""

    threshold: Threshold
    postprocess: PostprocessChoice


def choose_threshold(predicted: Predicted, step: int) -> Threshold:
    """Choose the one of THRESHOLDS with the highest micro-IoU on native validation slices of a step's checkpoint."""
    total = np.zeros((BINS, 3))
    for i in range(len(predicted.rows)):
        total += calibration_counts(predicted.native_probs(i), predicted.native_mask(i))
    counts = threshold_counts(total)
    value, micro_iou = best_threshold(counts)
    curve = {f"{t:.2f}": float(i) for t, i in zip(THRESHOLDS, threshold_ious(counts), strict=True)}
    return Threshold(value, step, micro_iou, curve)


def choose_postprocess(predicted: Predicted, threshold: Threshold) -> PostprocessChoice:
    """Choose the one of `components.CHOICES` with the highest micro-IoU on native validation slices, thresholded."""
    total = {choice: np.zeros(4, np.int64) for choice in CHOICES}
    for i in range(len(predicted.rows)):
        pred = np.asarray(apply_threshold(predicted.native_probs(i), threshold.threshold))
        for choice, counts in postprocess_counts(pred, predicted.native_mask(i)).items():
            total[choice] += counts
    best = best_postprocess(total)
    return PostprocessChoice(
        **vars(best),
        checkpoint_step=threshold.checkpoint_step,
        threshold=threshold.threshold,
        micro_iou=float(iou(Counts(*total[best]))),
    )


def store_choice(path: Path, chosen: Threshold | PostprocessChoice) -> None:
    """Write threshold.json or postprocess.json."""
    write_text(path, json.dumps(asdict(chosen), indent=2) + "\n", durable=True)


def read_choice(path: Path, kind: type[Choice]) -> Choice | None:
    """Read threshold.json or postprocess.json; None if it is absent, UserError if it is something else."""
    types = {name: dict if name == "curve" else hint for name, hint in get_type_hints(kind).items()}
    try:
        content = json.loads(path.read_text("utf-8"))
        values = {name: content[name] for name in types}
        if any(type(values[name]) is not expected for name, expected in types.items()):
            raise TypeError
        return kind(**values)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged. Delete it; `unet_jax.eval` makes it anew.") from None
