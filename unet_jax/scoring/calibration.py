"""Calibration of probabilities, and the cost of a threshold that was chosen elsewhere. NumPy on the host."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8

from unet_jax.scoring.metrics import apply_threshold
from unet_jax.scoring.thresholds import THRESHOLDS, best_threshold, threshold_ious

BINS = len(THRESHOLDS) + 1
"""Parts of [0, 1] that probabilities are counted in; thresholds lie between them."""

CANDIDATE = 0.05
"""Least probability of the pixels that `ece_candidates` is over. Nearly all others are background that no network
doubts, and an error averaged over them is small whatever the rest does."""


def calibration_counts(
    probs: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]
) -> Float64[np.ndarray, "bins 3"]:
    """Count the pixels of one slice by probability: BINS equal parts of [0, 1], of which an edge is in the upper one.

    Args:
        probs: probabilities in [0, 1].
        mask: true tumour, bool or 0/1.

    Returns:
        A row a bin: pixels, sum of their probabilities, pixels of tumour. Those of several slices add up.
    """
    tumor = mask.astype(bool)
    # Most of a brain is in the first bin: only the rest is sorted, in float32 as `apply_threshold` compares.
    rest = apply_threshold(probs, THRESHOLDS[0])
    values = probs[rest].astype(np.float32)
    place = np.searchsorted(np.asarray(THRESHOLDS, np.float32), values, side="right")
    weights = (None, values, tumor[rest])  # ones; their sums are in float64
    counts = np.stack([np.bincount(place, each, minlength=BINS) for each in weights], axis=1).astype(np.float64)
    first = ~rest
    counts[0] = first.sum(), probs[first].sum(dtype=np.float64), (tumor & first).sum()
    return counts


def calibration_summary(counts: Float64[np.ndarray, "bins 3"]) -> dict[str, Any]:
    """Summarise the reliability of probabilities.

    The expected calibration error is the mean over pixels of |mean probability - part that is tumour| of their bins
    (Naeini, Cooper and Hauskrecht, AAAI 2015; here of the probability of tumour, not of the likelier class).

    Args:
        counts: what `calibration_counts` gives, summed over slices.

    Returns:
        ece over all pixels, most of which are plain background; ece_candidates over the bins from probability 0.05 on;
        and bins, each with low, high, pixels, mean_probability, fraction_tumor. A figure of no pixels is None.
    """
    n = len(counts)
    bins = [
        {
            "low": i / n,
            "high": (i + 1) / n,
            "pixels": int(pixels),
            "mean_probability": probability / pixels if pixels else None,
            "fraction_tumor": tumor / pixels if pixels else None,
        }
        for i, (pixels, probability, tumor) in enumerate(counts.tolist())
    ]
    candidates = np.arange(n) / n >= CANDIDATE
    return {"ece": _error(counts), "ece_candidates": _error(counts[candidates]), "bins": bins}


def threshold_cost(counts: Int64[np.ndarray, "t 4"], chosen: float) -> dict[str, float | None]:
    """Compare the threshold in use, chosen on another split, with the best by the `threshold_counts` of this split.

    The best threshold of the split itself is for this comparison alone: scores under it are no scores of unseen data.

    Returns:
        chosen, micro_iou (under it), best_on_split, best_micro_iou, cost (their difference, at least 0). micro_iou and
        cost are None where `chosen` is not among THRESHOLDS.
    """
    best, best_iou = best_threshold(counts)
    micro_iou = float(threshold_ious(counts)[THRESHOLDS.index(chosen)]) if chosen in THRESHOLDS else None
    return {
        "chosen": chosen,
        "micro_iou": micro_iou,
        "best_on_split": best,
        "best_micro_iou": best_iou,
        "cost": None if micro_iou is None else best_iou - micro_iou,
    }


def _error(counts: Float64[np.ndarray, "bins 3"]) -> float | None:
    """Compute the expected calibration error; None of no pixels."""
    pixels, probability, tumor = counts.T
    # |mean probability - fraction| times the pixels of the bin is |sum of probabilities - tumour|.
    return float(np.abs(probability - tumor).sum() / pixels.sum()) if pixels.sum() else None
