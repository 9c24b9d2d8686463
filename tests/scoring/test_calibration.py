"""Calibration and the cost of a threshold, by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from unet_jax.scoring.calibration import calibration_counts, calibration_summary, threshold_cost
from unet_jax.scoring.thresholds import THRESHOLDS, threshold_counts
from unet_jax.shared.files import write_json

PROBS = np.array([[0.0, 0.2, 0.25], [0.5, 0.9, 1.0]], np.float32)
MASK = np.array([[0, 0, 1], [0, 1, 1]], np.uint8)


def test_counts_by_hand():
    # Each in a bin of its own; all but 0 and 1 lie on the edge of two.
    counts = calibration_counts(PROBS, MASK)
    assert counts.dtype == np.float64
    expected = [[1, 0, 0], [1, 0.2, 0], [1, 0.25, 1], [1, 0.5, 0], [1, 0.9, 1], [1, 1, 1]]
    np.testing.assert_allclose(counts[[0, 4, 5, 10, 18, 19]], expected, rtol=1e-6)
    np.testing.assert_allclose(counts.sum(axis=0), [6, 2.85, 3], rtol=1e-6)


def test_summary_by_hand():
    summary = calibration_summary(np.array([[2, 0.2, 0], [1, 0.25, 1], [1, 0.5, 0], [2, 1.9, 2]]))
    # |0.1 - 0| of two, |0.25 - 1| of one, |0.5 - 0| of one, |0.95 - 1| of two pixels.
    assert summary["ece"] == pytest.approx((2 * 0.1 + 0.75 + 0.5 + 2 * 0.05) / 6, rel=1e-6)
    assert summary["ece_candidates"] == pytest.approx((0.75 + 0.5 + 2 * 0.05) / 4, rel=1e-6)
    assert [(b["low"], b["high"]) for b in summary["bins"]] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    assert [b["pixels"] for b in summary["bins"]] == [2, 1, 1, 2]
    assert [b["mean_probability"] for b in summary["bins"]] == pytest.approx([0.1, 0.25, 0.5, 0.95], rel=1e-6)
    assert [b["fraction_tumor"] for b in summary["bins"]] == [0, 1, 0, 1]


def test_twenty_bins_leave_out_the_first_among_candidates():
    edge = np.float32(0.05)
    probs = np.array([[np.nextafter(edge, np.float32(0)), edge]], np.float32)
    counts = calibration_counts(probs, np.array([[False, True]]))
    assert counts.shape == (20, 3)
    assert counts[:2, 0].tolist() == [1, 1] and counts[:, 0].sum() == 2
    assert calibration_summary(counts)["ece_candidates"] == pytest.approx(0.95)


def test_bins_part_where_thresholds_do():
    # A probability on a threshold is in the bin above it, as it is tumour under that threshold.
    probs = np.array([[np.float32(t) for t in THRESHOLDS]], np.float32)
    assert calibration_counts(probs, np.ones(probs.shape, bool))[:, 0].tolist() == [0] + [1] * 19


def test_what_is_empty_is_none(tmp_path):
    summary = calibration_summary(np.zeros((20, 3)))
    assert (summary["ece"], summary["ece_candidates"]) == (None, None)
    nothing = dict.fromkeys(("mean_probability", "fraction_tumor"))
    assert summary["bins"][3] == {"low": 0.15, "high": 0.2, "pixels": 0} | nothing
    background = calibration_summary(calibration_counts(np.zeros((2, 2), np.float32), np.zeros((2, 2), bool)))
    assert (background["ece"], background["ece_candidates"]) == (0, None)
    write_json(tmp_path / "c.json", background)


def test_bins_equal_scikit_learn_and_slices_add_up():
    rng = np.random.default_rng(0)
    probs = (rng.random((3, 40, 50)) ** 3).astype(np.float32)
    mask = rng.random(probs.shape) < probs**1.5
    counts = np.sum([calibration_counts(p, m) for p, m in zip(probs, mask, strict=True)], axis=0)
    np.testing.assert_allclose(counts, calibration_counts(probs.reshape(120, 50), mask.reshape(120, 50)))
    summary = calibration_summary(counts)
    fractions, means = calibration_curve(mask.ravel(), probs.ravel(), n_bins=20, strategy="uniform")
    np.testing.assert_allclose([b["fraction_tumor"] for b in summary["bins"]], fractions, rtol=1e-12)
    np.testing.assert_allclose([b["mean_probability"] for b in summary["bins"]], means, rtol=1e-5)
    pixels = np.histogram(probs, 20, (0, 1))[0]
    assert summary["ece"] == pytest.approx((pixels * np.abs(fractions - means)).sum() / probs.size, rel=1e-5)


def test_probabilities_that_mean_what_they_say_have_no_error():
    counts = np.array([[100, 25.0, 25], [40, 30.0, 30]])
    assert calibration_summary(counts)["ece"] == 0


def test_the_cost_of_a_threshold_by_hand():
    probs = np.array([[0.3, 0.42, 0.42, 0.7]], np.float32)
    counts = threshold_counts(calibration_counts(probs, np.array([[0, 1, 1, 1]], np.uint8)))
    # 0.35 and 0.4 are perfect, 0.4 being nearer to one half; from 0.45 on one of three is found.
    cost = threshold_cost(counts, 0.45)
    assert cost == {
        "chosen": 0.45,
        "micro_iou": 1 / 3,
        "best_on_split": 0.4,
        "best_micro_iou": 1.0,
        "cost": pytest.approx(2 / 3),
    }
    assert threshold_cost(counts, 0.35)["cost"] == 0


def test_a_threshold_that_was_not_tried_has_no_cost():
    cost = threshold_cost(threshold_counts(calibration_counts(PROBS, MASK)), 0.33)
    assert (cost["chosen"], cost["micro_iou"], cost["cost"]) == (0.33, None, None)
    # By hand: at 0.25 the prediction holds 0.25, 0.5, 0.9 and 1, of which three are all of the tumour.
    assert (cost["best_on_split"], cost["best_micro_iou"]) == (0.25, 3 / 4)
