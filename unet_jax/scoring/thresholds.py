"""Thresholds tried on validation, and the best of them. NumPy on the host, float64 scores."""

import numpy as np
from jaxtyping import Float64, Int64

from unet_jax.scoring.metrics import Counts, iou

THRESHOLDS = tuple(i / 20 for i in range(1, 20))
"""The thresholds tried on validation: 0.05, 0.10 ... 0.95."""


def threshold_counts(counts: Float64[np.ndarray, "bins 3"]) -> Int64[np.ndarray, "t 4"]:
    """Count the pixels under every threshold; equal to `apply_threshold` and counting.

    Args:
        counts: what `calibration_counts` gives, of one slice or summed over several.

    Returns:
        A row of tp, fp, fn, tn for each of THRESHOLDS.
    """
    tumor, others = counts[:, 2].astype(np.int64), (counts[:, 0] - counts[:, 2]).astype(np.int64)
    # Predicted under a threshold is every pixel of the bin above it, or of a later one.
    tp, fp = (each[::-1].cumsum()[-2::-1] for each in (tumor, others))
    return np.stack([tp, fp, tumor.sum() - tp, others.sum() - fp], axis=1)


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
