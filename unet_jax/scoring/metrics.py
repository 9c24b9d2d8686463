"""Mergeable pixel counts, and the scores made of them: IoU, Dice, precision and others.

A score over many slices is the sum of their counts, divided once. The same functions serve traced JAX arrays (integer
counts, float32 scores) and the host (NumPy or Python integers, float64 scores), so that a formula stands here once.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

EMPTY_RULE = (
    "A slice whose true and predicted masks are both empty scores 1 with distance 0. A slice where exactly one of them "
    "is empty scores 0 in every measure but pixel accuracy, and its distances are the image's diagonal."
)
"""Said once, printed with every report. With it no other prediction of a slice with a tumour scores worse than the
empty one, so that a missed tumour cannot improve an average. Pooled counts follow it as if they were one slice."""


@flax.struct.dataclass
class Counts:
    """Pixels by truth and prediction, one number or an array of them each; `a + b` merges.

    Pooled on a device they are uint32, good for 2**32 pixels (4,096 slices of 1024x1024); longer sums belong on the
    host, in NumPy int64 or Python integers.
    """

    tp: Any
    """Tumour, and predicted so."""
    fp: Any
    """Predicted tumour, but none."""
    fn: Any
    """Tumour, but not predicted."""
    tn: Any
    """Neither."""

    @classmethod
    def zeros(cls, shape: tuple[int, ...] = ()) -> "Counts":
        """Nothing counted yet, on the default device."""
        # Four arrays, not one four times: a donated state must not hold the same buffer twice.
        return cls(*(jnp.zeros(shape, jnp.uint32) for _ in range(4)))

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)


def apply_threshold(probs: Float[Array | np.ndarray, "*shape"], threshold: float) -> Bool[Array | np.ndarray, "*shape"]:
    """The predicted tumour: where the probability is at least the threshold.

    Both sides are compared in float32, on every path, so that a probability that stands exactly on a threshold falls
    on the same side everywhere. NaN is no tumour.

    Args:
        probs: probabilities in [0, 1], JAX or NumPy, of any shape.
        threshold: in [0, 1].

    Returns:
        The mask, an array of the same kind.
    """
    return probs.astype(np.float32) >= np.float32(threshold)


def count(pred: Shaped[Array, "b h w"], mask: Shaped[Array, "b h w"], valid: Bool[Array, " b"]) -> Counts:
    """Counts pooled over the valid slices of a batch.

    Args:
        pred: predicted tumour, bool or 0/1.
        mask: true tumour, likewise.
        valid: False for slices that only fill the batch.

    Returns:
        Counts of shape ().
    """
    v = valid[:, None, None]
    return Counts(*((kind & v).sum(dtype=jnp.uint32) for kind in _kinds(pred, mask)))


def count_per_slice(
    pred: Shaped[Array | np.ndarray, "*batch h w"], mask: Shaped[Array | np.ndarray, "*batch h w"]
) -> Counts:
    """Counts of each slice by itself.

    Args:
        pred: predicted tumour, bool or 0/1; one slice (h, w) or any batch of them, JAX or NumPy.
        mask: true tumour, likewise.

    Returns:
        Counts of shape (*batch,), int32 from JAX arrays, int64 from NumPy's.
    """
    return Counts(*(kind.sum(axis=(-2, -1)) for kind in _kinds(pred, mask)))


def iou(counts: Counts) -> Any:
    """Intersection over union (Jaccard index): TP / (TP + FP + FN).

    Args:
        counts: of any shape; JAX, NumPy or Python numbers.

    Returns:
        In [0, 1], of the counts' shape; float32 for JAX arrays, else float64. 1 where both masks are empty, and so 0
        where one is.
    """
    tp, fp, fn, _ = _floats(counts)
    return _ratio(tp, tp + fp + fn)


def dice(counts: Counts) -> Any:
    """Dice coefficient (F1 score): 2 TP / (2 TP + FP + FN).

    Args:
        counts: of any shape; JAX, NumPy or Python numbers.

    Returns:
        In [0, 1], of the counts' shape; float32 for JAX arrays, else float64. 1 where both masks are empty, and so 0
        where one is.
    """
    tp, fp, fn, _ = _floats(counts)
    return _ratio(2 * tp, 2 * tp + fp + fn)


def pixel_accuracy(counts: Counts) -> Any:
    """Fraction of pixels predicted as they are: (TP + TN) / (TP + FP + FN + TN).

    Args:
        counts: of any shape; JAX, NumPy or Python numbers.

    Returns:
        In [0, 1], of the counts' shape; float32 for JAX arrays, else float64. 1 where there are no pixels.
    """
    tp, fp, fn, tn = _floats(counts)
    return _ratio(tp + tn, tp + fp + fn + tn)


def precision(counts: Counts) -> Any:
    """Fraction of the predicted tumour that is tumour (positive predictive value): TP / (TP + FP).

    Args:
        counts: of any shape; JAX, NumPy or Python numbers.

    Returns:
        In [0, 1], of the counts' shape; float32 for JAX arrays, else float64. By EMPTY_RULE 0, not 0 / 0, for an
        empty prediction of a tumour.
    """
    tp, fp, fn, _ = _floats(counts)
    return _ratio(tp, tp + fp) * _both_or_neither(tp, fp, fn)


def sensitivity(counts: Counts) -> Any:
    """Fraction of the tumour that is predicted (recall): TP / (TP + FN).

    Args:
        counts: of any shape; JAX, NumPy or Python numbers.

    Returns:
        In [0, 1], of the counts' shape; float32 for JAX arrays, else float64. By EMPTY_RULE 0, not 0 / 0, for a
        prediction where there is no tumour.
    """
    tp, fp, fn, _ = _floats(counts)
    return _ratio(tp, tp + fn) * _both_or_neither(tp, fp, fn)


def specificity(counts: Counts) -> Any:
    """Fraction of what is no tumour that is predicted so: TN / (TN + FP), but 0 where one mask is empty.

    Without that exception, which is EMPTY_RULE's, an empty prediction would have the best specificity there is.

    Args:
        counts: of any shape; JAX, NumPy or Python numbers.

    Returns:
        In [0, 1], of the counts' shape; float32 for JAX arrays, else float64. 1 where all is tumour.
    """
    tp, fp, fn, tn = _floats(counts)
    return _ratio(tn, tn + fp) * _both_or_neither(tp, fp, fn)


def volumetric_similarity(counts: Counts) -> Any:
    """How alike the two tumours are in size, wherever they lie: 1 - |FP - FN| / (2 TP + FP + FN).

    Taha and Hanbury, BMC Medical Imaging 15:29, 2015.

    Args:
        counts: of any shape; JAX, NumPy or Python numbers.

    Returns:
        In [0, 1], of the counts' shape; float32 for JAX arrays, else float64. 1 where both masks are empty, and so 0
        where one is.
    """
    tp, fp, fn, _ = _floats(counts)
    total = 2 * tp + fp + fn
    return _ratio(total - abs(fp - fn), total)


def _kinds(pred: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """Where pixels are true positive, false positive, false negative and true negative: the order of Counts."""
    pred, mask = pred.astype(bool), mask.astype(bool)  # `~` of a 0/1 integer is no negation
    return pred & mask, pred & ~mask, ~pred & mask, ~pred & ~mask


def _floats(counts: Counts) -> tuple[Any, Any, Any, Any]:
    """The counts as floats before any sum is made of them: 2 TP may not fit their type."""
    values = (counts.tp, counts.fp, counts.fn, counts.tn)
    if any(isinstance(v, jax.Array) for v in values):
        tp, fp, fn, tn = (jnp.asarray(v, jnp.float32) for v in values)
    else:
        tp, fp, fn, tn = (np.float64(v) for v in values)
    return tp, fp, fn, tn


def _both_or_neither(tp: Any, fp: Any, fn: Any) -> Any:
    """False, and so 0, where exactly one of the two masks is empty."""
    return (tp + fp == 0) == (tp + fn == 0)


def _ratio(numerator: Any, denominator: Any) -> Any:
    """0 / 0 is 1: there was nothing, and nothing was predicted."""
    empty = denominator == 0
    # The divisor is made 1 first: a 0 / 0 would warn on the host, and trip jax_debug_nans.
    return (numerator + empty) / (denominator + empty)
