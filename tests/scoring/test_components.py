"""Connected parts: which tumours are found, and the cleaning of masks, by hand and against SciPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unet_jax.scoring.components import (
    CHOICES,
    PIXEL_CHOICES,
    Detection,
    Postprocess,
    best_postprocess,
    bounding_box,
    detect,
    postprocess,
    postprocess_counts,
)
from unet_jax.scoring.metrics import count_per_slice

NOTHING = Postprocess(0, False)


def drawn(*lines):
    return np.array([[character == "#" for character in line] for line in lines])


def test_bounding_box_by_hand():
    assert bounding_box(drawn("....", ".#..", "...#")) == (slice(1, 3), slice(1, 4))
    assert bounding_box(np.ones((2, 3), bool)) == (slice(0, 2), slice(0, 3))
    assert bounding_box(np.zeros((2, 3), bool)) is None


TRUTH = drawn(
    "##.....#",
    "##.....#",
    "........",
    "...##...",
    ".....#..",
    "........",
)


def test_detection_by_hand():
    # Three tumours, the middle one held together by a corner. The left one is found by a quarter, the middle one by two
    # of three pixels, the right one not at all: the prediction beside it is false, as is the one at the bottom.
    pred = drawn(
        "#.....#.",
        "......#.",
        "........",
        "...#....",
        ".....#..",
        "#.......",
    )
    assert detect(pred, TRUTH) == Detection(tumors=3, found=2, found_half=1, false_components=2)


def test_exactly_half_is_half_and_one_prediction_may_find_several_tumours():
    pred = TRUTH.copy()
    pred[:, 1] = False  # the left column of the square is left: 2 of 4
    assert detect(pred, TRUTH) == Detection(3, 3, 3, 0)
    assert detect(np.ones_like(TRUTH), TRUTH) == Detection(3, 3, 3, 0)


def test_nothing_to_find_and_nothing_found():
    empty = np.zeros_like(TRUTH)
    assert detect(empty, empty) == Detection(0, 0, 0, 0)
    assert detect(empty, TRUTH) == Detection(3, 0, 0, 0)
    assert detect(TRUTH, empty) == Detection(0, 0, 0, 3)


def test_small_parts_are_removed():
    assert postprocess(TRUTH, NOTHING).tolist() == TRUTH.tolist()
    assert postprocess(TRUTH, Postprocess(2, False)).tolist() == TRUTH.tolist()
    three = postprocess(TRUTH, Postprocess(3, False))
    assert np.flatnonzero(three.any(axis=0)).tolist() == [0, 1, 3, 4, 5]  # the right one had 2 pixels
    four = postprocess(TRUTH, Postprocess(4, False))
    assert four.sum() == 4 and four[:2, :2].all()
    assert not postprocess(TRUTH, Postprocess(5, False)).any()
    assert TRUTH.sum() == 9, "the mask itself is left as it was"


def test_holes_are_filled():
    ring = drawn(
        ".##..",
        "#..#.",
        ".##..",
        ".....",
    )
    # Closed at its corners. Open to the image's edge is no hole.
    assert postprocess(ring, Postprocess(0, True)).sum() == ring.sum() + 2
    assert postprocess(ring[1:], Postprocess(0, True)).tolist() == ring[1:].tolist()
    # Size is that of the part itself, and an island that is too small leaves its place to be filled.
    assert not postprocess(ring, Postprocess(7, True)).any()
    framed = np.pad(np.zeros((5, 5), bool), 1, constant_values=True)
    framed[3, 3] = True
    assert postprocess(framed, Postprocess(10, True)).all()


masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


@settings(max_examples=60, deadline=None)
@given(masks, st.integers(0, 6), st.booleans())
def test_postprocessing_is_what_scipy_says(mask, min_pixels, fill_holes):
    labels, n = ndimage.label(mask, np.ones((3, 3)))
    expected = np.isin(labels, [i for i in range(1, n + 1) if (labels == i).sum() >= min_pixels])
    if fill_holes:
        expected = ndimage.binary_fill_holes(expected)
    result = postprocess(mask, Postprocess(min_pixels, fill_holes))
    assert result.dtype == bool
    np.testing.assert_array_equal(result, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9), st.booleans())
def test_the_counts_of_all_choices_are_those_of_each(seed, quantile, empty):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(2, 40, 50)), (0, 2, 2))
    pred, mask = noise > np.quantile(noise, quantile, axis=(1, 2), keepdims=True)
    pred = pred & ~np.full_like(pred, empty)
    counts = postprocess_counts(pred, mask)
    assert tuple(counts) == CHOICES
    for how, row in counts.items():
        expected = count_per_slice(postprocess(pred, how), mask)
        assert row.dtype == np.int64
        assert row.tolist() == [expected.tp, expected.fp, expected.fn, expected.tn]


def test_the_choices_start_with_none():
    assert CHOICES[0] == NOTHING
    assert len(CHOICES) == len(set(CHOICES)) == 2 * len(PIXEL_CHOICES) == 16


def rows(ious):
    """Counts of 1,000 pixels of true tumour that have these IoUs."""
    return {how: np.array([round(1000 * i), 0, 1000 - round(1000 * i), 7], np.int64) for how, i in ious.items()}


def test_the_best_choice_has_the_highest_iou():
    ious = dict.fromkeys(CHOICES, 0.5) | {Postprocess(100, False): 0.7, Postprocess(400, True): 0.6}
    assert best_postprocess(rows(ious)) == Postprocess(100, False)
    # Where there is nothing, nothing is changed.
    assert best_postprocess({how: np.array([0, 0, 0, 9], np.int64) for how in CHOICES}) == NOTHING


@pytest.mark.parametrize(
    ("tied", "expected"),
    [
        (CHOICES, NOTHING),
        ([Postprocess(0, True), NOTHING], NOTHING),
        ([Postprocess(10, False), Postprocess(0, True)], Postprocess(0, True)),
        ([Postprocess(800, False), Postprocess(50, True), Postprocess(50, False)], Postprocess(50, False)),
    ],
)
def test_of_equal_choices_the_one_that_changes_least_is_best(tied, expected):
    turned = {how: 0.8 if how in tied else 0.2 for how in reversed(CHOICES)}
    assert best_postprocess(rows(turned)) == expected
