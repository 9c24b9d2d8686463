"""Scores of trained networks on a converted dataset: choices on validation, tables, pictures, report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64

from unet_jax.config import TUMORS
from unet_jax.data import recognise
from unet_jax.data.converted.arrays import Arrays
from unet_jax.imaging.display import to_display
from unet_jax.imaging.resize import resize
from unet_jax.inference.network import DEFAULT_THRESHOLD
from unet_jax.inference.predictor import Predictor
from unet_jax.reporting.figures import threshold_figure, write_png
from unet_jax.reporting.gallery import GalleryRow, choose_gallery, gallery_figure
from unet_jax.reporting.html import Picture, write_report
from unet_jax.runs import choices
from unet_jax.runs.choices import Choices, PostprocessChoice, Threshold, read_choice, store_choice
from unet_jax.runs.networks import TrainedRun
from unet_jax.runs.predicted import Predicted, predict_rows
from unet_jax.scoring.calibration import BINS, calibration_counts, calibration_summary, threshold_cost
from unet_jax.scoring.metrics import apply_threshold, dice
from unet_jax.scoring.slices import SliceScore, patient_rows, score_slice, slice_rows
from unet_jax.scoring.summary import summarize
from unet_jax.scoring.thresholds import threshold_counts
from unet_jax.shared.files import write_csv, write_json
from unet_jax.shared.progress import track


def ensure_choices(
    run: TrainedRun, arrays: Arrays, *, predicted: Predicted | None = None, store: bool = True
) -> Choices:
    """Read threshold and post-processing chosen on validation for a run's checkpoint; choose what is missing now.

    Args:
        arrays: the dataset of the run.
        predicted: the validation slices, where they have been predicted already.
        store: write into the workdir what is chosen now.
    """
    threshold = read_choice(run.workdir.threshold, Threshold)
    cleaning = read_choice(run.workdir.postprocess, PostprocessChoice)
    threshold = threshold if threshold and threshold.checkpoint_step == run.step else None
    cleaning = cleaning if cleaning and cleaning.checkpoint_step == run.step else None
    if threshold and cleaning:
        return Choices(threshold, cleaning)
    if predicted is None:
        # Choices are made without averaging over mirror images.
        plain = Predictor([run.network()], DEFAULT_THRESHOLD)
        predicted = predict_rows(plain, arrays, run.split.rows(arrays, "val"), "validation")
    if threshold is None:
        threshold = choices.choose_threshold(predicted, run.step)
        if store:
            store_choice(run.workdir.threshold, threshold)
    if cleaning is None:
        cleaning = choices.choose_postprocess(predicted, threshold)
        if store:
            store_choice(run.workdir.postprocess, cleaning)
    return Choices(threshold, cleaning)


class Part(NamedTuple):
    """Predicted slices, and the predictor whose threshold and post-processing make masks of them."""

    predictor: Predictor
    predicted: Predicted


@dataclass(frozen=True, eq=False)
class Scored:
    """Scores of predicted slices, which may be those of several predictors, as in a cross-validation."""

    parts: Sequence[Part]
    scores: list[SliceScore]
    """Scores in the order of the parts and their rows."""
    place: Mapping[int, tuple[Part, int]]
    """Part of each slice, by the slice's number, and place in that part."""
    calibration: Float64[np.ndarray, "bins 3"]
    """Sum of `calibration_counts` of native probabilities."""
    spacing: float | None
    tolerance: float


def score(parts: Sequence[Part], *, spacing: float | None, tolerance: float) -> Scored:
    """Score every slice under its predictor's threshold, at the network's resolution and at its own.

    Native masks are those of `Predictor.mask`; `spacing` and `tolerance` are as in `score_slice`.
    """
    scores, place = [], {}
    calibration = np.zeros((BINS, 3))
    for part in parts:
        predictor, predicted = part
        arrays = predicted.arrays
        for i, row in enumerate(track(predicted.rows, len(predicted.rows), "scoring")):
            probs, mask = predicted.native_probs(i), predicted.native_mask(i)
            calibration += calibration_counts(probs, mask)
            place[int(arrays.slices[row])] = part, i
            scores.append(
                score_slice(
                    slice=int(arrays.slices[row]),
                    pid=str(arrays.pids[row]),
                    tumor=TUMORS[arrays.labels[row] - 1],
                    network_pred=np.asarray(apply_threshold(predicted.probs[i], predictor.threshold)),
                    network_mask=arrays.masks[row] > 0,
                    native_pred=predictor.mask(probs),
                    native_mask=mask,
                    spacing=spacing,
                    tolerance=tolerance,
                )
            )
    return Scored(parts, scores, place, calibration, spacing, tolerance)


def write_evaluation(
    scored: Scored,
    out: Path,
    *,
    split: str,
    title: str,
    curve: Mapping[str, float] | None,
    records: Sequence[dict[str, Any]] = (),
    trained_on: Bool[np.ndarray, "n keys"] | None = None,
    initial: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write summary, tables, pictures and the report of at least one scored slice into a folder.

    Args:
        curve: micro-IoU on validation by threshold, where one run was scored with a threshold chosen so.
        records: the run's lines of metrics.jsonl.
        trained_on: by which of `recognise.KEYS` each slice is one that the network was trained on; None where the split
            says who is.
        initial: what `initial.started_from` gave for the runs.

    Returns:
        The content of summary.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    arrays = scored.parts[0].predicted.arrays
    used = [part.predictor.threshold for part in scored.parts]
    threshold = used[0] if len(set(used)) == 1 else None
    summary: dict[str, Any] = {} if trained_on is None else {"training_slices": recognise.count(trained_on)}
    summary |= summarize(
        scored.scores,
        split=split,
        threshold=threshold,
        mask_rule=arrays.mask_rule,
        spacing=scored.spacing,
        tolerance=scored.tolerance,
    )
    made, calibration = scored.parts[0].predictor.describe(), calibration_summary(scored.calibration)
    summary |= {"thresholds": used, "data_digest": arrays.digest}
    summary |= {name: made[name] for name in ("tta", "postprocess", "library", "precision")}
    summary["networks"] = [network.sha256 for part in scored.parts for network in part.predictor.networks]
    summary["calibration"] = {name: calibration[name] for name in ("ece", "ece_candidates")}
    if initial is not None:
        summary["initial"] = initial
    counts = threshold_counts(scored.calibration)
    summary["threshold_cost"] = None if threshold is None else threshold_cost(counts, threshold)
    rows = slice_rows(scored.scores)
    write_json(out / "summary.json", summary)
    write_csv(out / "slices.csv", rows)
    write_csv(out / "patients.csv", patient_rows(scored.scores))
    if curve is not None:
        figure = threshold_figure([float(t) for t in curve], list(curve.values()), used[0])
        write_png(figure, out / "threshold.png", dpi=120)
    draw_gallery(scored, out / "gallery.png")
    write_report(
        out / "report.html",
        title=title,
        summary=summary,
        rows=rows,
        records=records,
        thresholds=curve,
        calibration=calibration,
        pictures=(_picture(scored, row["slice"]) for row in rows),
    )
    return summary


def draw_gallery(scored: Scored, path: Path) -> None:
    """Draw some scored slices of each tumour type: image, true mask, predicted mask, at native resolution.

    The arrays hold images at the network's size only; they are shown enlarged.
    """
    pictures = []
    for chosen in choose_gallery(scored.scores):
        (predictor, predicted), i = scored.place[chosen.slice]
        mask = predicted.native_mask(i)
        pictures.append(
            GalleryRow(
                image=resize(predicted.arrays.images[predicted.rows[i]], mask.shape),
                mask=mask,
                pred=predictor.mask(predicted.native_probs(i)),
                tumor=chosen.tumor,
                slice=chosen.slice,
                dice=float(dice(chosen.native)),
            )
        )
    write_png(gallery_figure(pictures), path, dpi=100)


def _picture(scored: Scored, number: int) -> Picture:
    (predictor, predicted), i = scored.place[number]
    arrays, row, probs = predicted.arrays, predicted.rows[i], predicted.probs[i]
    return Picture(
        slice=number,
        image=to_display(arrays.images[row]),
        mask=arrays.masks[row] > 0,
        pred=np.asarray(apply_threshold(probs, predictor.threshold)),
        probs=probs,
    )
