"""Pixel counts of batches on a device, by hand and against counting on the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_jax.scoring.metrics import Counts, apply_threshold, count_per_slice, dice, iou, pixel_accuracy
from unet_jax.training.counts import count, zero_counts

# Two slices of 2x3. First: one hit, one false alarm, two misses, two true negatives. Second: two hits, four negatives.
PRED = jnp.array([[[1, 1, 0], [0, 0, 0]], [[1, 1, 0], [0, 0, 0]]])
MASK = jnp.array([[[1, 0, 0], [1, 1, 0]], [[1, 1, 0], [0, 0, 0]]])


def numbers(counts):
    return tuple(np.asarray(number).tolist() for number in counts)


@pytest.mark.parametrize("dtype", [bool, jnp.uint8, jnp.int32])
@pytest.mark.parametrize(
    ("valid", "expected"),
    [
        ([True, True], (3, 1, 2, 6)),
        ([True, False], (1, 1, 2, 2)),
        ([False, True], (2, 0, 0, 4)),
        ([False, False], (0, 0, 0, 0)),
    ],
)
def test_the_valid_slices_of_a_batch_are_counted_together(dtype, valid, expected):
    counts = count(PRED.astype(dtype), MASK.astype(dtype), jnp.array(valid))
    assert numbers(counts) == expected
    assert all(number.dtype == jnp.uint32 and number.shape == () for number in counts)


def test_more_than_two_thousand_slices_of_1024_fit():
    """2,200 slices, 2.3e9 pixels, are more than an int32 holds."""
    epoch = Counts(*(jnp.asarray(n, jnp.uint32) for n in (0, 1100 * 2**20, 0, 1100 * 2**20)))
    counts = zero_counts() + epoch + epoch
    assert int(counts.tn) == 2200 * 2**20
    assert float(pixel_accuracy(counts)) == 0.5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_merging_batches_is_counting_them_together(seed, cut):
    pred, mask = np.random.default_rng(seed).random((2, 6, 4, 3)) < 0.4
    sums = zero_counts()
    for part in (slice(0, cut), slice(cut, 6)):
        n = len(pred[part])
        sums += count(jnp.asarray(pred[part]), jnp.asarray(mask[part]), jnp.ones(n, bool))
    assert numbers(sums) == tuple(int(number.sum()) for number in count_per_slice(pred, mask))


def test_pooled_iou_of_the_original_notebook():
    # Its definition, on a batch: I = sum(y * round(p)), U = sum(y) + sum(round(p)) - I, IoU = I / U. By hand, for the
    # batch below: round(p) = [1 0 1 1 | 0 1 0 0], y = [1 1 1 0 | 0 1 0 0]; I = 3, U = 4 + 4 - 3 = 5, IoU = 0.6.
    probs = jnp.array([[[0.9, 0.4], [0.51, 0.8]], [[0.1, 0.7], [0.2, 0.49]]], jnp.float32)
    mask = jnp.array([[[1, 1], [1, 0]], [[0, 1], [0, 0]]], bool)
    pred = apply_threshold(probs, 0.5)
    np.testing.assert_allclose(iou(count(pred, mask, jnp.array([True, True]))), 0.6, rtol=1e-6)
    # Pooled is not the mean of the slices: those have 2/4 and 1/1.
    np.testing.assert_allclose(iou(count_per_slice(pred, mask)), [0.5, 1], rtol=1e-6)


def test_all_of_it_runs_inside_jit():
    @jax.jit
    def scores(pred, mask, valid):
        counts = zero_counts() + count(pred, mask, valid)
        return iou(counts), dice(counts), pixel_accuracy(counts), iou(count_per_slice(pred, mask))

    pooled_iou, pooled_dice, accuracy, each = scores(PRED, MASK, jnp.array([True, True]))
    np.testing.assert_allclose([pooled_iou, pooled_dice, accuracy], [3 / 6, 6 / 9, 9 / 12], rtol=1e-6)
    np.testing.assert_allclose(each, [1 / 4, 1], rtol=1e-6)


def test_zeros_are_separate_buffers_that_may_be_donated():
    merge = jax.jit(lambda a, b: a + b, donate_argnums=0)
    assert numbers(merge(zero_counts(), zero_counts())) == (0, 0, 0, 0)
