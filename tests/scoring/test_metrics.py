"""Counts and the scores made of them, against values worked out by hand and against scikit-learn."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, precision_score, recall_score

from unet_jax.scoring.metrics import (
    Counts,
    apply_threshold,
    count_per_slice,
    dice,
    iou,
    pixel_accuracy,
    precision,
    sensitivity,
    specificity,
    volumetric_similarity,
)

# Two slices of 2x3. First: one hit, one false alarm, two misses, two true negatives. Second: two hits, four negatives.
PRED = np.array([[[1, 1, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 0]]], bool)
MASK = np.array([[[1, 0, 0], [1, 1, 0]], [[1, 1, 0], [0, 0, 0]]], bool)

numbers = st.integers(0, 2**28)
all_counts = st.builds(Counts, numbers, numbers, numbers, numbers)


def as_tuple(counts):
    return tuple(np.asarray(x).tolist() for x in (counts.tp, counts.fp, counts.fn, counts.tn))


def test_count_per_slice_is_the_same_on_device_and_host():
    expected = ([1, 2], [1, 0], [2, 0], [2, 4])
    device = count_per_slice(jnp.asarray(PRED), jnp.asarray(MASK))
    host = count_per_slice(PRED, MASK)
    assert as_tuple(device) == as_tuple(host) == expected
    assert host.tn.dtype == np.int64
    assert as_tuple(count_per_slice(PRED[0], MASK[0])) == (1, 1, 2, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_masks_of_zeros_and_ones_count_like_booleans(dtype):
    # `~1` of an integer is not 0: counted with it, the true negatives come out wrong.
    assert as_tuple(count_per_slice(PRED.astype(dtype), MASK.astype(dtype))) == as_tuple(count_per_slice(PRED, MASK))
    assert count_per_slice(PRED, MASK.astype(dtype)).tp.dtype == np.int64


def test_scores_by_hand():
    counts = Counts(tp=3, fp=1, fn=2, tn=6)
    assert iou(counts) == 3 / 6
    assert dice(counts) == 6 / 9
    assert pixel_accuracy(counts) == 9 / 12
    assert precision(counts) == 3 / 4
    assert sensitivity(counts) == 3 / 5
    assert specificity(counts) == 6 / 7
    assert volumetric_similarity(counts) == 1 - 1 / 9


@pytest.mark.parametrize(
    ("score", "reference"),
    [
        (iou, jaccard_score),
        (dice, f1_score),
        (pixel_accuracy, accuracy_score),
        (precision, precision_score),
        (sensitivity, recall_score),
        (specificity, partial(recall_score, pos_label=0)),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_scores_equal_scikit_learn(score, reference):
    rng = np.random.default_rng(0)
    for share in (0.02, 0.3, 0.9):
        mask, pred = rng.random((2, 4, 16, 16)) < share
        each = count_per_slice(pred, mask)
        expected = [reference(m.ravel(), p.ravel()) for m, p in zip(mask, pred, strict=True)]
        np.testing.assert_allclose(score(each), expected, rtol=1e-12)
        pooled = Counts(*(kind.sum() for kind in each))
        np.testing.assert_allclose(score(pooled), reference(mask.ravel(), pred.ravel()), rtol=1e-12)


def test_apply_threshold_takes_in_the_threshold_itself():
    threshold = 0.3  # lies between two float32 numbers
    nearest = np.float32(threshold)
    below, above = np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(1))
    probs = np.array([0, below, nearest, above, 1, np.nan], np.float32)
    expected = [False, False, True, True, True, False]
    assert apply_threshold(probs, threshold).tolist() == expected
    assert jax.jit(apply_threshold, static_argnums=1)(jnp.asarray(probs), threshold).tolist() == expected
    # float64 is rounded first, so that the same probability falls on the same side whatever holds it.
    assert apply_threshold(np.array([threshold - 1e-12]), threshold).tolist() == [True]


@settings(deadline=None)
@given(all_counts, all_counts, all_counts)
def test_merging_is_associative_and_commutative(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert a + b == b + a
    assert (
        sum([a, b, c], Counts(0, 0, 0, 0)) == a + b + c == Counts(*(x + y + z for x, y, z in zip(a, b, c, strict=True)))
    )


def test_counts_are_a_pytree_of_four_fields():
    doubled = jax.tree.map(lambda number: 2 * number, Counts(1, 2, 3, 4))
    assert isinstance(doubled, Counts) and doubled == Counts(tp=2, fp=4, fn=6, tn=8)


def test_large_sums_keep_their_precision_on_the_host_and_do_not_overflow_on_the_device():
    # One pixel in 3e9: float32 has 24 bits, and 3e9 does not fit an int32.
    n = 3_000_000_000
    for number in (int, np.int64):
        counts = Counts(number(n), number(1), number(0), number(0))
        assert iou(counts) == n / (n + 1) < 1
        assert dice(counts) == 2 * n / (2 * n + 1) < 1
        assert pixel_accuracy(counts) == n / (n + 1) < 1
    tp = jnp.asarray(2**30 + 2**29, jnp.int32)  # 2 TP does not fit an int32
    np.testing.assert_allclose(dice(Counts(tp, tp, tp, tp)), 0.5, rtol=1e-6)
    np.testing.assert_allclose(iou(Counts(tp, tp, tp, tp)), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(pixel_accuracy(Counts(tp, tp, tp, tp)), 0.5, rtol=1e-6)


@pytest.mark.parametrize("array", [jnp.asarray, np.asarray], ids=["jax", "numpy"])
def test_the_rule_for_empty_masks(array):
    # Both empty; only the truth empty; only the prediction empty; nothing but tumour, found in part.
    counts = Counts(tp=array([0, 0, 0, 4]), fp=array([0, 5, 0, 0]), fn=array([0, 0, 5, 5]), tn=array([9, 4, 4, 0]))
    expected = {
        iou: [1, 0, 0, 4 / 9],
        dice: [1, 0, 0, 8 / 13],
        pixel_accuracy: [1, 4 / 9, 4 / 9, 4 / 9],
        precision: [1, 0, 0, 1],
        sensitivity: [1, 0, 0, 4 / 9],
        specificity: [1, 0, 0, 1],
        volumetric_similarity: [1, 0, 0, 1 - 5 / 13],
    }
    for score, values in expected.items():
        with jax.debug_nans(True):
            got = score(counts)
        np.testing.assert_allclose(got, values, rtol=1e-6)
        assert got.dtype == (np.float32 if array is jnp.asarray else np.float64)
        assert score(Counts(0, 0, 0, 0)) == 1
        assert score(Counts(*jnp.zeros((4, 1), jnp.uint32))) == 1


# A tumour, and any prediction of it.
sizes = st.integers(0, 50)
with_tumor = st.builds(Counts, sizes, sizes, sizes, sizes).filter(lambda c: c.tp + c.fn > 0)
RULED = (iou, dice, precision, sensitivity, specificity, volumetric_similarity)


@settings(deadline=None)
@given(with_tumor)
def test_missing_a_tumor_never_improves_a_score(before):
    empty = Counts(tp=0, fp=0, fn=before.tp + before.fn, tn=before.tn + before.fp)
    for score in RULED:
        assert score(empty) == 0 <= score(before)
        if before.tp > 0 and not (score is specificity and before.tn == 0):
            assert score(before) > 0
    # Pixel accuracy is what the rule leaves out: an empty prediction beats one that is mostly wrong.
    assert (pixel_accuracy(empty) > pixel_accuracy(before)) == (before.fp > before.tp)
