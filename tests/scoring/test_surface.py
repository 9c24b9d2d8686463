"""Distances between outlines: by hand, from all pairs of pixels, and as MedPy 0.5.2 has them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial.distance import cdist

from unet_jax.scoring.surface import SurfaceScore, surface_scores


def canvas(*pixels, shape=(7, 9)):
    mask = np.zeros(shape, bool)
    for row, column in pixels:
        mask[row, column] = True
    return mask


EMPTY = canvas()


def test_two_pixels_by_hand():
    # Three down and four to the right is five apart, either way.
    score = surface_scores(canvas((1, 2)), canvas((4, 6)), tolerance=4.9)
    assert score == SurfaceScore(hd95=5.0, assd=5.0, nsd=0.0)
    assert surface_scores(canvas((1, 2)), canvas((4, 6)), tolerance=5.0).nsd == 1.0


def test_every_pixel_of_both_outlines_weighs_the_same():
    # One pixel against two: distances 1 one way, 1 and 3 the other.
    pred, mask = canvas((2, 2)), canvas((2, 3), (2, 5))
    score = surface_scores(pred, mask, tolerance=1.0)
    assert score.assd == pytest.approx((1 + 1 + 3) / 3)
    assert score.nsd == pytest.approx(2 / 3)
    # The 95th percentile of 1, 1, 3 lies nine tenths of the way from the second to the third.
    assert score.hd95 == pytest.approx(1 + 0.9 * 2)


def test_only_outlines_count():
    # A square of 5x5 and the same one hollow: the outer ring is both's outline, but the hollow one has an inner edge
    # too, which is the ring itself. So they are the same.
    full, hollow = np.zeros((2, 9, 9), bool)
    full[2:7, 2:7] = hollow[2:7, 2:7] = True
    hollow[3:6, 3:6] = False
    assert surface_scores(full, hollow, tolerance=0.0) == SurfaceScore(0.0, 0.0, 1.0)


def test_the_edge_of_the_image_is_outside():
    # All of the image against its middle pixel: the outline of all is the 8 pixels at the edge.
    score = surface_scores(np.ones((3, 3), bool), canvas((1, 1), shape=(3, 3)), tolerance=1.0)
    assert score.assd == pytest.approx((1 + 4 * 1 + 4 * math.sqrt(2)) / 9)
    assert score.nsd == pytest.approx((1 + 4) / 9)


def test_a_corner_does_not_open_an_outline():
    # A pixel is inside where its four neighbours are in the mask, the corners do not matter: the plus has an inside.
    plus = canvas((3, 4), (2, 4), (4, 4), (3, 3), (3, 5))
    score = surface_scores(plus, canvas((3, 4)), tolerance=0.5)
    assert score == SurfaceScore(hd95=1.0, assd=1.0, nsd=0.0)


def test_empty_masks_follow_the_rule():
    one = canvas((3, 3))
    diagonal = math.hypot(7, 9)
    assert surface_scores(EMPTY, EMPTY, tolerance=1.0) == SurfaceScore(0.0, 0.0, 1.0)
    for pred, mask in ((EMPTY, one), (one, EMPTY)):
        assert surface_scores(pred, mask, tolerance=100.0) == SurfaceScore(diagonal, diagonal, 0.0)
        assert surface_scores(pred, mask, 0.5, tolerance=100.0) == SurfaceScore(diagonal / 2, diagonal / 2, 0.0)


def test_spacing_is_the_unit_of_distances_and_of_the_tolerance():
    pred, mask = canvas((2, 2)), canvas((2, 5))
    assert surface_scores(pred, mask, 0.49, tolerance=1.0).hd95 == pytest.approx(1.47)
    assert surface_scores(pred, mask, 0.49, tolerance=1.0).nsd == 0
    # 3 * 0.1 is 0.30000000000000004: on the tolerance is within it all the same.
    assert surface_scores(pred, mask, 0.1, tolerance=0.3).nsd == 1
    assert surface_scores(pred, mask, 0.1, tolerance=0.29).nsd == 0


masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_score_leaves_its_range_and_exchange_changes_nothing(data):
    pred = data.draw(masks)
    mask = data.draw(hnp.arrays(bool, pred.shape))
    score = surface_scores(pred, mask, 2.0, tolerance=3.0)
    worst = 2 * math.hypot(*pred.shape)
    assert 0 <= score.hd95 <= worst and 0 <= score.assd <= worst and 0 <= score.nsd <= 1
    turned = surface_scores(mask, pred, 2.0, tolerance=3.0)
    assert (turned.hd95, turned.nsd) == (score.hd95, score.nsd)
    assert turned.assd == pytest.approx(score.assd, rel=1e-12)
    assert surface_scores(pred, pred, tolerance=0.0) == SurfaceScore(0.0, 0.0, 1.0)


def blobs(rng, shape):
    """Masks of the look of tumours, with speckle, not centred."""
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 4)
    return (smooth > np.quantile(smooth, rng.uniform(0.6, 0.97))) | (rng.random(shape) < 0.001)


def by_all_pairs(pred, mask, spacing, tolerance):
    """The definitions, from the distances of all pairs of outline pixels."""
    cross = ndimage.generate_binary_structure(2, 1)
    a, b = (np.argwhere(m ^ np.asarray(ndimage.binary_erosion(m, cross))) * spacing for m in (pred, mask))
    pairs = cdist(a, b)
    both = np.concatenate([pairs.min(axis=1), pairs.min(axis=0)])
    return np.percentile(both, 95), both.mean(), (both <= tolerance).mean()


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_those_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(20, 60)), int(rng.integers(20, 60)))
    pred, mask = blobs(rng, shape), blobs(rng, shape)
    spacing, tolerance = float(rng.uniform(0.3, 2)), float(rng.uniform(0.5, 4))
    score = surface_scores(pred, mask, spacing, tolerance=tolerance)
    expected = by_all_pairs(pred, mask, spacing, tolerance)
    np.testing.assert_allclose((score.hd95, score.assd, score.nsd), expected, rtol=1e-12)


def ellipse(row, column, a, b, shape=(96, 128)):
    r, c = np.ogrid[: shape[0], : shape[1]]
    return ((r - row) / a) ** 2 + ((c - column) / b) ** 2 <= 1


OFF = ellipse(40, 50, 20, 30) | ellipse(85, 118, 4, 5)
RING = ellipse(48, 64, 30, 40) & ~ellipse(48, 64, 20, 25)


@pytest.mark.parametrize(
    ("pred", "mask", "hd95", "assd"),
    [
        (ellipse(40, 50, 20, 30), ellipse(45, 57, 20, 30), 4.1577878733769, 2.4474432228957643),
        (ellipse(40, 50, 9, 14), ellipse(42, 49, 22, 31), 8.55748210632076, 6.943687273411768),
        (OFF, ellipse(42, 52, 20, 28), 25.24469770957231, 2.9214528028087736),
        (ellipse(0, 60, 18, 25), ellipse(3, 64, 16, 31), 3.9060533511791387, 0.8684451841869655),
        (RING, ellipse(48, 64, 31, 42), 7.066880499909419, 1.9525797692835638),
    ],
    ids=["shifted", "smaller", "with an island", "at the edge", "a ring"],
)
def test_scores_equal_medpys(pred, mask, hd95, assd):
    # Computed once with MedPy 0.5.2, voxelspacing=0.49; it builds from source and brings 260 MB, too much for a test.
    score = surface_scores(pred, mask, 0.49, tolerance=1.0)
    np.testing.assert_allclose((score.hd95, score.assd), (hd95, assd), rtol=1e-12)
