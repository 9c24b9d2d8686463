"""The sweep over thresholds and the choice among them, by hand and against counting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import confusion_matrix_at_thresholds, jaccard_score

from unet_jax.scoring.calibration import calibration_counts
from unet_jax.scoring.metrics import apply_threshold, count_per_slice
from unet_jax.scoring.thresholds import THRESHOLDS, best_threshold, threshold_counts, threshold_ious


def test_thresholds_are_the_exact_decimals():
    assert THRESHOLDS[:3] == (0.05, 0.1, 0.15)
    assert [f"{t!r}" for t in THRESHOLDS] == [str(float(f"0.{n:02d}")) for n in range(5, 100, 5)]


# Probabilities on the thresholds, one float32 step beside them, and anywhere.
ON = [np.float32(t) for t in THRESHOLDS]
BESIDE = [np.nextafter(t, np.float32(side)) for t in ON for side in (0, 1)]
probability = st.one_of(st.sampled_from([*ON, *BESIDE]), st.floats(0, 1, width=32), st.just(np.float32(np.nan)))


@settings(deadline=None)
@given(hnp.arrays(np.float32, (5, 7), elements=probability), hnp.arrays(bool, (5, 7)))
def test_the_sweep_equals_counting_at_each_threshold(probs, mask):
    swept = threshold_counts(calibration_counts(probs, mask))
    assert swept.shape == (len(THRESHOLDS), 4)
    assert swept.dtype == np.int64
    for row, threshold in zip(swept, THRESHOLDS, strict=True):
        c = count_per_slice(apply_threshold(probs, threshold), mask)
        assert row.tolist() == [c.tp, c.fp, c.fn, c.tn]


def test_the_sweep_equals_scikit_learn():
    rng = np.random.default_rng(0)
    mask, probs = rng.random((60, 70)) < 0.2, rng.choice(np.array([0, *THRESHOLDS, 1], np.float32), (60, 70))
    tn, fp, fn, tp, scores = confusion_matrix_at_thresholds(mask.ravel(), probs.ravel())
    counts = np.stack([tp, fp, fn, tn], axis=1)[np.isin(scores, np.float32(THRESHOLDS))]
    swept = threshold_counts(calibration_counts(probs, mask))
    np.testing.assert_array_equal(swept, counts[::-1])  # scikit-learn's begin with the highest
    ious = [jaccard_score(mask.ravel(), probs.ravel() >= np.float32(t)) for t in THRESHOLDS]
    np.testing.assert_allclose(threshold_ious(counts[::-1].astype(np.int64)), ious, rtol=1e-12)


def test_the_sweep_by_hand():
    probs = np.array([[0.04, 0.5, 0.97], [0.2, 0.5, 0.6]], np.float32)
    mask = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    swept = threshold_counts(calibration_counts(probs, mask))
    assert swept[THRESHOLDS.index(0.05)].tolist() == [3, 2, 0, 1]
    assert swept[THRESHOLDS.index(0.5)].tolist() == [2, 2, 1, 1]  # the two of exactly 0.5 are tumour
    assert swept[THRESHOLDS.index(0.55)].tolist() == [1, 1, 2, 2]
    assert swept[THRESHOLDS.index(0.95)].tolist() == [1, 0, 2, 3]
    np.testing.assert_allclose(threshold_ious(swept)[[0, 9, 10, 18]], [3 / 5, 2 / 5, 1 / 4, 1 / 3])


def counts_with_ious(ious):
    """Counts of 1,000 pixels of true tumour, that have these IoUs."""
    tp = np.round(np.array(ious) * 1000).astype(np.int64)
    return np.stack([tp, 0 * tp, 1000 - tp, 0 * tp], axis=1)


def test_the_best_threshold_has_the_highest_iou():
    ious = [0.3] * 19
    ious[THRESHOLDS.index(0.35)] = 0.7
    assert best_threshold(counts_with_ious(ious)) == (0.35, 0.7)


@pytest.mark.parametrize(
    ("tied", "expected"),
    [((0.1, 0.6, 0.95), 0.6), ((0.45, 0.55), 0.45), ((0.55, 0.65), 0.55), ((0.05, 0.95), 0.05), (THRESHOLDS, 0.5)],
)
def test_of_equal_thresholds_the_one_nearest_to_half_is_best(tied, expected):
    ious = [0.8 if t in tied else 0.2 for t in THRESHOLDS]
    assert best_threshold(counts_with_ious(ious)) == (expected, 0.8)


def test_the_best_threshold_where_nothing_is_found_is_half():
    assert best_threshold(counts_with_ious([0.0] * 19)) == (0.5, 0.0)
