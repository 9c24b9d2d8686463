"""Scoring a trained network on a converted dataset: threshold, scores, pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64
from tqdm import tqdm

from unet_jax.config import TUMORS
from unet_jax.data.arrays import Arrays
from unet_jax.data.resize import from_network, resize
from unet_jax.predictor import Predictor
from unet_jax.scoring.metrics import apply_threshold, count_per_slice, dice
from unet_jax.scoring.report import GalleryRow, gallery_png
from unet_jax.scoring.summary import (
    THRESHOLDS,
    SliceScore,
    best_threshold,
    choose_gallery,
    threshold_counts,
    threshold_ious,
)

Rows = Int64[np.ndarray, " n"]


def choose_threshold(predictor: Predictor, arrays: Arrays, rows: Rows) -> dict[str, Any]:
    """The one of THRESHOLDS with the highest micro-IoU at native resolution.

    Args:
        predictor: of the run and the checkpoint that the threshold is for.
        arrays: the dataset of the run.
        rows: its validation rows.

    Returns:
        The content of threshold.json, with the curve it was chosen from.
    """
    counts = np.zeros((len(THRESHOLDS), 4), np.int64)
    for row, probs in _network_probs(predictor, arrays, rows, "threshold"):
        mask = arrays.native_mask(row)
        counts += threshold_counts(from_network(probs, mask.shape), mask)
    value, micro_iou = best_threshold(counts)
    curve = {f"{t:.2f}": float(i) for t, i in zip(THRESHOLDS, threshold_ious(counts), strict=True)}
    return {"threshold": value, "checkpoint_step": predictor.step, "micro_iou": micro_iou, "curve": curve}


def score_slices(predictor: Predictor, arrays: Arrays, rows: Rows) -> list[SliceScore]:
    """Score each slice under the predictor's threshold, at the network's resolution and at its own."""
    scores = []
    for row, probs in _network_probs(predictor, arrays, rows, "scoring"):
        native_mask = arrays.native_mask(row) > 0
        native_probs = from_network(probs, native_mask.shape)
        scores.append(
            SliceScore(
                slice=int(arrays.slices[row]),
                pid=str(arrays.pids[row]),
                tumor=TUMORS[arrays.labels[row] - 1],
                network=count_per_slice(apply_threshold(probs, predictor.threshold), arrays.masks[row] > 0),
                native=count_per_slice(apply_threshold(native_probs, predictor.threshold), native_mask),
            )
        )
    return scores


def draw_gallery(predictor: Predictor, arrays: Arrays, scores: Sequence[SliceScore], path: Path) -> None:
    """Picture of some scored slices of each tumour type: image, true mask, predicted mask, at native resolution.

    The arrays hold images at the network's size only; they are shown enlarged.
    """
    chosen = choose_gallery(scores)
    rows = np.array([int(np.flatnonzero(arrays.slices == s.slice)[0]) for s in chosen])
    pictures = []
    for score, (row, probs) in zip(chosen, _network_probs(predictor, arrays, rows, "gallery"), strict=True):
        mask = arrays.native_mask(row)
        pictures.append(
            GalleryRow(
                image=resize(arrays.images[row], mask.shape),
                mask=mask,
                pred=np.asarray(apply_threshold(from_network(probs, mask.shape), predictor.threshold)),
                tumor=score.tumor,
                slice=score.slice,
                dice=float(dice(score.native)),
            )
        )
    gallery_png(pictures, path)


def _network_probs(
    predictor: Predictor, arrays: Arrays, rows: Rows, what: str
) -> Iterator[tuple[int, Float32[np.ndarray, "size size"]]]:
    probs = predictor.stream_network(arrays.network_slice(int(row)) for row in rows)
    # disable=None: a bar on a terminal, nothing elsewhere.
    yield from zip(map(int, rows), tqdm(probs, what, len(rows), unit="slice", leave=False, disable=None), strict=True)
