"""Mergeable pixel counts, and the scores made of them: IoU, Dice, precision and others.

A score over many slices is the sum of their counts, divided once. The same functions serve traced JAX arrays (integer
counts, float32 scores) and the host (NumPy or Python integers, float64 scores): they use what both kinds of array have,
so that a formula stands here once and needs no jax.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

EMPTY_RULE = (
    "A slice whose true and predicted masks are both empty scores 1 with distance 0. A slice where exactly one of them "
    "is empty scores 0 in every measure but pixel accuracy, and its distances are the image's diagonal."
)
"""The rule for empty masks, printed with every report. With it no other prediction of a slice with a tumour scores
worse than the empty one, so that a missed tumour cannot improve an average. Pooled counts follow it as if they were one
slice."""

_ON_HOST = int | float | np.generic | np.ndarray
"""Numbers that scores of float64 are made of; of others, a device's arrays, float32."""


class Counts(NamedTuple):
    """Pixels by truth and prediction, one number or an array of each; `a + b` merges, field by field."""

    tp: Any
    """Tumour, and predicted so."""
    fp: Any
    """Predicted tumour, but none."""
    fn: Any
    """Tumour, but not predicted."""
    tn: Any
    """Neither tumour nor predicted."""

    def __add__(self, other: "Counts") -> "Counts":  # pyright: ignore[reportIncompatibleMethodOverride]
        # A tuple's own + would make one of eight fields.
        return Counts(*(ours + theirs for ours, theirs in zip(self, other, strict=True)))


def apply_threshold(probs: Float[Any, "*shape"], threshold: float) -> Bool[Any, "*shape"]:
    """Predict tumour where the probability is at least the threshold.

    Both sides are compared in float32, on every path, so that a probability that stands exactly on a threshold falls
    on the same side everywhere. NaN is no tumour.

    Args:
        probs: probabilities in [0, 1], JAX or NumPy, of any shape.
        threshold: in [0, 1].

    Returns:
        The mask, an array of the same kind.
    """
    return probs.astype(np.float32) >= np.float32(threshold)


def outcomes(pred: Shaped[Any, "*shape"], mask: Shaped[Any, "*shape"]) -> Counts:
    """Tell for each pixel which of the four kinds it is.

    Args:
        pred: predicted tumour, bool or 0/1, JAX or NumPy.
        mask: true tumour, likewise.

    Returns:
        Four masks of that shape, of which exactly one is true at each pixel.
    """
    pred, mask = pred.astype(bool), mask.astype(bool)  # `~` of a 0/1 integer is no negation
    return Counts(tp=pred & mask, fp=pred & ~mask, fn=~pred & mask, tn=~pred & ~mask)


def count_per_slice(pred: Shaped[Any, "*batch h w"], mask: Shaped[Any, "*batch h w"]) -> Counts:
    """Count the pixels of each slice by itself.

    Args:
        pred: predicted tumour, bool or 0/1; one slice (h, w) or any batch of them, JAX or NumPy.
        mask: true tumour, likewise.

    Returns:
        Counts of shape (*batch,), int32 from JAX arrays, int64 from NumPy's.
    """
    return Counts(*(kind.sum(axis=(-2, -1)) for kind in outcomes(pred, mask)))


def iou(counts: Counts) -> Any:
    """Intersection over union (Jaccard index): TP / (TP + FP + FN). The scores below take and return the same.

    Args:
        counts: of any shape; JAX, NumPy or Python numbers.

    Returns:
        In [0, 1], of the counts' shape; float32 for JAX arrays, else float64. 1 where both masks are empty, and so 0
        where one is.
    """
    tp, fp, fn, _ = _floats(counts)
    return _ratio(tp, tp + fp + fn)


def dice(counts: Counts) -> Any:
    """Dice coefficient (F1 score): 2 TP / (2 TP + FP + FN)."""
    tp, fp, fn, _ = _floats(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def pixel_accuracy(counts: Counts) -> Any:
    """Fraction of the pixels that are predicted right: (TP + TN) / (TP + FP + FN + TN); 1 where there are none."""
    tp, fp, fn, tn = _floats(counts)
    return _ratio(tp + tn, tp + fp + fn + tn)


def precision(counts: Counts) -> Any:
    """Fraction of the predicted tumour that is tumour (positive predictive value): TP / (TP + FP).

    By EMPTY_RULE an empty prediction of a tumour gives 0, not 0 / 0.
    """
    tp, fp, fn, _ = _floats(counts)
    return _ratio(tp, tp + fp) * _both_or_neither(tp, fp, fn)


def sensitivity(counts: Counts) -> Any:
    """Fraction of the tumour that is predicted (recall): TP / (TP + FN).

    By EMPTY_RULE a prediction where there is no tumour gives 0, not 0 / 0.
    """
    tp, fp, fn, _ = _floats(counts)
    return _ratio(tp, tp + fn) * _both_or_neither(tp, fp, fn)


def specificity(counts: Counts) -> Any:
    """Fraction of the pixels without tumour that are predicted so: TN / (TN + FP), but 0 where one mask is empty.

    Without that exception, which is EMPTY_RULE's, an empty prediction would have the best specificity there is. Where
    all is tumour, specificity is 1.
    """
    tp, fp, fn, tn = _floats(counts)
    return _ratio(tn, tn + fp) * _both_or_neither(tp, fp, fn)


def volumetric_similarity(counts: Counts) -> Any:
    """Likeness of the two tumours in size, wherever they lie: 1 - |FP - FN| / (2 TP + FP + FN).

    Taha and Hanbury, BMC Medical Imaging 15:29, 2015.
    """
    tp, fp, fn, _ = _floats(counts)
    total = 2 * tp + fp + fn
    return _ratio(total - abs(fp - fn), total)


def _floats(counts: Counts) -> Counts:
    """Make floats of the counts before any sum is made of them: 2 TP may not fit their type."""
    return Counts(*(np.float64(n) if isinstance(n, _ON_HOST) else n.astype(np.float32) for n in counts))


def _both_or_neither(tp: Any, fp: Any, fn: Any) -> Any:
    """Give 0 where exactly one of the two masks is empty, else 1."""
    return (tp + fp == 0) == (tp + fn == 0)


def _ratio(numerator: Any, denominator: Any) -> Any:
    """Divide; 0 / 0 is 1, for there was nothing and nothing was predicted."""
    empty = denominator == 0
    # The divisor is made 1 first: a 0 / 0 would warn on the host, and trip jax_debug_nans.
    return (numerator + empty) / (denominator + empty)
