"""Polygons filled and traced: as scikit-image does it, and what differs on the outline itself."""

import numpy as np
import pytest
from skimage.draw import polygon, polygon_perimeter

from unet_jax.data.polygon import fill_polygon, trace_polygon

SHAPE = (50, 64)


def filled_by_scikit_image(corners, shape):
    mask = np.zeros(shape, bool)
    mask[polygon(corners[:, 1], corners[:, 0], shape)] = True
    return mask


def on_a_side(corners, shape):
    """Pixels whose centre lies exactly on a side; exact for corners that are whole numbers."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    found = np.zeros(shape, bool)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        between = (np.minimum(ax, bx) <= x) & (x <= np.maximum(ax, bx))
        between &= (np.minimum(ay, by) <= y) & (y <= np.maximum(ay, by))
        found |= between & ((x - ax) * (by - ay) == (y - ay) * (bx - ax))
    return found


@pytest.mark.parametrize("seed", range(12))
def test_as_scikit_image_where_no_centre_is_on_a_side(seed):
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-8, 70, (rng.integers(3, 12), 2))  # sides that cross, and corners outside
    mask = fill_polygon(corners, SHAPE)
    assert mask.any() and np.array_equal(mask, filled_by_scikit_image(corners, SHAPE))


@pytest.mark.parametrize("seed", range(12))
def test_scikit_image_also_marks_centres_on_a_side(seed):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 50, (rng.integers(3, 9), 2)).astype(float)
    mask, theirs, side = fill_polygon(corners, SHAPE), filled_by_scikit_image(corners, SHAPE), on_a_side(corners, SHAPE)
    assert side.any() and np.array_equal(mask & ~side, theirs & ~side)
    assert np.array_equal(theirs, mask | side)


@pytest.mark.parametrize("seed", range(12))
def test_triangles_around_a_point_share_no_pixel_and_leave_none_out(seed):
    rng = np.random.default_rng(seed)
    angles = 2 * np.pi * (np.arange(9) + rng.uniform(0, 0.8, 9)) / 9
    star = np.rint(np.stack([25 + 24 * np.cos(angles), 25 + 24 * np.sin(angles)], axis=1))
    parts = [
        fill_polygon(np.stack([np.array([25.0, 25.0]), a, b]), SHAPE)
        for a, b in zip(star, np.roll(star, -1, axis=0), strict=True)
    ]
    whole = fill_polygon(star, SHAPE)
    assert whole.any() and np.array_equal(np.sum(parts, axis=0), whole.astype(int))


def test_left_and_upper_sides_are_inside():
    mask = fill_polygon(np.array([[2.0, 1.0], [5.0, 1.0], [5.0, 4.0], [2.0, 4.0]]), (7, 8))
    assert np.argwhere(mask).tolist() == [[y, x] for y in (1, 2, 3) for x in (2, 3, 4)]


def test_nothing_outside_the_picture_and_of_nothing():
    for corners in (np.array([[-30.0, 5.0], [-20.0, 5.0], [-25.0, 15.0]]), np.zeros((0, 2))):
        assert not fill_polygon(corners, (20, 20)).any() and not trace_polygon(corners, (20, 20)).any()


def test_more_sides_than_are_drawn_at_a_time():
    angle = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    circle = np.stack([39 + 30.01 * np.cos(angle), 39 + 30.01 * np.sin(angle)], axis=1)
    y, x = np.mgrid[:80, :80]
    assert np.array_equal(fill_polygon(circle, (80, 80)), np.hypot(x - 39, y - 39) <= 30)


@pytest.mark.parametrize("seed", range(6))
def test_the_outline_of_sides_along_rows_columns_and_diagonals(seed):
    """Sides on which no pixel is a matter of rounding."""
    rng = np.random.default_rng(seed)
    x, y, side = rng.integers(5, 15, 3)
    corners = np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + 2 * side)], float)
    expected = np.zeros(SHAPE, bool)
    expected[polygon_perimeter(corners[:, 1], corners[:, 0], SHAPE, clip=True)] = True
    assert np.array_equal(trace_polygon(corners, SHAPE), expected)
