"""Scoring trained networks on a converted dataset: what is chosen on validation, scores, pictures, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from tqdm import tqdm

from unet_jax.config import TUMORS
from unet_jax.data.arrays import Arrays
from unet_jax.data.image_io import to_display
from unet_jax.data.resize import from_network, resize
from unet_jax.predictor import Predictor
from unet_jax.scoring.calibration import calibration_counts, calibration_summary, threshold_cost
from unet_jax.scoring.components import CHOICES, best_postprocess, postprocess_counts
from unet_jax.scoring.html import Picture, write_report
from unet_jax.scoring.metrics import Counts, apply_threshold, dice, iou
from unet_jax.scoring.report import GalleryRow, gallery_png, threshold_png
from unet_jax.scoring.slices import SliceScore, patient_rows, score_slice, slice_rows
from unet_jax.scoring.summary import (
    THRESHOLDS,
    best_threshold,
    choose_gallery,
    summarize,
    threshold_counts,
    threshold_ious,
    write_csv,
    write_json,
)
from unet_jax.workdir import read_postprocess, read_threshold, store_choice

Rows = Int64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Slices of a dataset, and a predictor's probabilities of them at the network's size."""

    predictor: Predictor
    arrays: Arrays
    rows: Rows
    probs: Float32[np.ndarray, "n size size"]

    def native_probs(self, i: int) -> Float32[np.ndarray, "h w"]:
        """Of the i-th of the slices, at its own size."""
        row = self.rows[i]
        return from_network(self.probs[i], (int(self.arrays.heights[row]), int(self.arrays.widths[row])))

    def native_mask(self, i: int) -> Bool[np.ndarray, "h w"]:
        """The true tumour of the i-th of the slices."""
        return self.arrays.native_mask(int(self.rows[i])) > 0


def predict_rows(predictor: Predictor, arrays: Arrays, rows: Rows, what: str) -> Predicted:
    """Run the network over rows of a dataset; `what` names the work on the progress bar."""
    probs = np.zeros((len(rows), arrays.size, arrays.size), np.float32)
    stream = predictor.stream_network(arrays.network_slice(int(row)) for row in rows)
    # disable=None: a bar on a terminal, nothing elsewhere.
    for i, predicted in enumerate(tqdm(stream, what, len(rows), unit="slice", leave=False, disable=None)):
        probs[i] = predicted.probs
    return Predicted(predictor, arrays, rows, probs)


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


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of predicted slices. Several predictors' may stand side by side, as in a cross-validation."""

    parts: Sequence[Predicted]
    scores: list[SliceScore]
    """In the order of the parts and their rows."""
    thresholds: Int64[np.ndarray, "t 4"]
    """Native counts under every one of THRESHOLDS."""
    calibration: Float64[np.ndarray, "bins 3"]
    """As `calibration_counts` gives it, of native probabilities."""
    spacing: float | None
    tolerance: float

    @cached_property
    def place(self) -> Mapping[int, tuple[Predicted, int]]:
        """Number of a slice to its part and its place there."""
        return {int(p.arrays.slices[row]): (p, i) for p in self.parts for i, row in enumerate(p.rows)}


def score(parts: Sequence[Predicted], *, spacing: float | None, tolerance: float) -> Scored:
    """Score every slice under its predictor's threshold, at the network's resolution and at its own.

    Post-processing, where the predictor has one, is for native masks.

    Args:
        parts: what was predicted.
        spacing: millimetres a native pixel; None to measure distances in pixels.
        tolerance: of the normalised surface Dice, in the unit of distances.
    """
    scores = []
    thresholds, calibration = np.zeros((len(THRESHOLDS), 4), np.int64), 0.0
    for part in parts:
        arrays = part.arrays
        for i, row in enumerate(tqdm(part.rows, "scoring", unit="slice", leave=False, disable=None)):
            probs, mask = part.native_probs(i), part.native_mask(i)
            thresholds += threshold_counts(probs, mask)
            calibration = calibration + calibration_counts(probs, mask)
            scores.append(
                score_slice(
                    slice=int(arrays.slices[row]),
                    pid=str(arrays.pids[row]),
                    tumor=TUMORS[arrays.labels[row] - 1],
                    network_pred=np.asarray(apply_threshold(part.probs[i], part.predictor.threshold)),
                    network_mask=arrays.masks[row] > 0,
                    native_pred=part.predictor.mask(probs),
                    native_mask=mask,
                    spacing=spacing,
                    tolerance=tolerance,
                )
            )
    return Scored(parts, scores, thresholds, np.asarray(calibration), spacing, tolerance)


def write_evaluation(
    scored: Scored,
    out: Path,
    *,
    split: str,
    title: str,
    curve: Mapping[str, float] | None,
    records: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Write summary, tables, pictures and the report of scored slices into a folder.

    Args:
        scored: what `score` gave.
        out: the folder, made if need be.
        split: what the slices are called.
        title: what the report is called.
        curve: micro-IoU on validation by threshold, where one run was scored with a threshold chosen so.
        records: the run's lines of metrics.jsonl.

    Returns:
        The content of summary.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    arrays = scored.parts[0].arrays
    used = [part.predictor.threshold for part in scored.parts]
    summary = summarize(
        scored.scores,
        split=split,
        threshold=used[0] if len(set(used)) == 1 else None,
        mask_rule=arrays.mask_rule,
        spacing=scored.spacing,
        tolerance=scored.tolerance,
    )
    first = scored.parts[0].predictor.describe()
    summary |= {"thresholds": used, "data_digest": arrays.digest}
    summary |= {name: first[name] for name in ("tta", "postprocess")}
    calibration = calibration_summary(scored.calibration)
    summary["calibration"] = {name: calibration[name] for name in ("ece", "ece_candidates")}
    cost = threshold_cost(scored.thresholds, used[0]) if len(set(used)) == 1 else None
    summary["threshold_cost"] = cost
    rows = slice_rows(scored.scores)
    write_json(out / "summary.json", summary)
    write_csv(out / "slices.csv", rows)
    write_csv(out / "patients.csv", patient_rows(scored.scores))
    if curve is not None:
        threshold_png([float(t) for t in curve], list(curve.values()), used[0], out / "threshold.png")
    draw_gallery(scored, out / "gallery.png")
    write_report(
        out / "report.html",
        title=title,
        summary=summary,
        rows=rows,
        records=records,
        thresholds=curve,
        calibration=calibration,
        threshold_cost=cost,
        pictures=(_picture(scored, row["slice"]) for row in rows),
    )
    return summary


def draw_gallery(scored: Scored, path: Path) -> None:
    """Picture of some scored slices of each tumour type: image, true mask, predicted mask, at native resolution.

    The arrays hold images at the network's size only; they are shown enlarged.
    """
    pictures = []
    for chosen in choose_gallery(scored.scores):
        part, i = scored.place[chosen.slice]
        mask = part.native_mask(i)
        pictures.append(
            GalleryRow(
                image=resize(part.arrays.images[part.rows[i]], mask.shape),
                mask=mask,
                pred=part.predictor.mask(part.native_probs(i)),
                tumor=chosen.tumor,
                slice=chosen.slice,
                dice=float(dice(chosen.native)),
            )
        )
    gallery_png(pictures, path)


def _picture(scored: Scored, number: int) -> Picture:
    part, i = scored.place[number]
    row, probs = part.rows[i], part.probs[i]
    return Picture(
        slice=number,
        image=to_display(part.arrays.images[row]),
        mask=part.arrays.masks[row] > 0,
        pred=np.asarray(apply_threshold(probs, part.predictor.threshold)),
        probs=probs,
    )
