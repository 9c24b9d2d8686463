"""Thresholds tried on validation, and the best of them. NumPy on the host, float64 scores."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8

from unet_jax.scoring.metrics import Counts, apply_threshold, iou

THRESHOLDS = tuple(i / 20 for i in range(1, 20))
"""The thresholds tried on validation: 0.05, 0.10 ... 0.95."""


def threshold_counts(
    probs: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]
) -> Int64[np.ndarray, "t 4"]:
    """Count the pixels of one slice under every threshold, in one pass; equal to `apply_threshold` and counting.

    Args:
        probs: probabilities in [0, 1].
        mask: the true tumour, bool or 0/1.

    Returns:
        A row of tp, fp, fn, tn for each of THRESHOLDS. Rows of several slices add up.
    """
    truth = mask.astype(bool)
    # Most of a brain stays below the lowest threshold: only the rest is sorted into bins. (Nor does NaN pass.)
    candidates = apply_threshold(probs, THRESHOLDS[0])
    values, tumor = probs[candidates].astype(np.float32), truth[candidates]
    highest = np.searchsorted(np.asarray(THRESHOLDS, np.float32), values, side="right") - 1
    bins = len(THRESHOLDS)
    histogram = np.bincount(highest + bins * tumor, minlength=2 * bins).reshape(2, bins)
    # Predicted under a threshold is every pixel whose highest threshold reached is that one or a later one.
    fp, tp = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]
    positives = int(truth.sum())
    return np.stack([tp, fp, positives - tp, truth.size - positives - fp], axis=1).astype(np.int64)


def threshold_ious(counts: Int64[np.ndarray, "t 4"]) -> Float64[np.ndarray, " t"]:
    """Compute the micro-IoU under each of THRESHOLDS from what `threshold_counts` gives, summed over slices."""
    return iou(Counts(*counts.T))


def best_threshold(counts: Int64[np.ndarray, "t 4"]) -> tuple[float, float]:
    """Choose the threshold of the highest of `threshold_ious`; of equals the nearest to 0.5, of two as near the lower.

    Returns:
        The threshold, and its micro-IoU.
    """
    ious = threshold_ious(counts)
    middle = len(THRESHOLDS) // 2
    best = min(range(len(THRESHOLDS)), key=lambda i: (-ious[i], abs(i - middle), i))
    return THRESHOLDS[best], float(ious[best])
