"""Outlines filled: by hand, and as scikit-image does it."""

import numpy as np
import pytest

from unet_jax.data.check.border import border_iou


def box(top, left, bottom, right, shape=(20, 24)):
    mask = np.zeros(shape, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


SQUARE = np.array([[7.0, 5.0], [14.0, 5.0], [14.0, 9.0], [7.0, 9.0]])
"""Around the centres of the pixels of box(4, 6, 9, 14): rows 4 to 8, columns 6 to 13, counted from 0."""


def test_the_pixels_under_the_outline_may_belong_to_it_or_not():
    assert border_iou(SQUARE, box(4, 6, 9, 14)) == 1
    assert border_iou(SQUARE + [[0.2, 0.2], [-0.2, 0.2], [-0.2, -0.2], [0.2, -0.2]], box(5, 7, 8, 13)) == 1


@pytest.mark.parametrize(
    ("shift", "iou"),
    [
        # 40 pixels with the outline, 28 without (the lower and the right side left out) against 40 of the mask:
        # 20 of 60 and 16 of 52 in common, 35 of 45 and 28 of 40, none.
        ((4, 0), 20 / 60),
        ((1, 0), 35 / 45),
        ((8, 0), 0),
        ((0, 5), 0),
    ],
)
def test_a_shifted_outline_by_hand(shift, iou):
    assert border_iou(SQUARE + shift, box(4, 6, 9, 14)) == pytest.approx(iou, abs=1e-12)


def test_crossed_twice_is_outside():
    """A ring: around the outer square, along a slit to the inner one, around it, and back."""
    outer = [[2.5, 2.5], [18.5, 2.5], [18.5, 18.5], [2.5, 18.5], [2.5, 2.5]]
    inner = [[6.5, 6.5], [6.5, 14.5], [14.5, 14.5], [14.5, 6.5], [6.5, 6.5]]
    ring = box(2, 2, 18, 18) - box(6, 6, 14, 14)
    assert border_iou(np.array(outer + inner), ring) == 1


def test_nothing_against_nothing_and_something():
    none = np.zeros((0, 2))
    assert border_iou(none, box(0, 0, 0, 0)) == 1
    assert border_iou(none, box(4, 6, 9, 14)) == 0
    assert border_iou(SQUARE, box(0, 0, 0, 0)) == 0
    assert border_iou(np.array([[3.0, 2.0]]), box(1, 2, 2, 3)) == 1  # a single corner marks its pixel


def test_partly_and_absurdly_far_outside():
    assert border_iou(SQUARE - [20, 0], box(4, 6, 9, 14)) == 0
    assert (
        border_iou(np.array([[-1e300, -1e300], [1e300, -1e300], [1e300, 1e300], [-1e300, 1e300]]), box(0, 0, 20, 24))
        == 1
    )


def test_longer_than_is_drawn_at_a_time():
    angle = np.linspace(0, 2 * np.pi, 5000, endpoint=False)
    circle = np.stack([40 + 30 * np.cos(angle), 40 + 30 * np.sin(angle)], axis=1)
    y, x = np.mgrid[:80, :80] + 1
    disc = (np.hypot(x - 40, y - 40) < 29.99).astype(np.uint8)
    assert border_iou(circle, disc) > 0.998


@pytest.mark.parametrize("seed", range(8))
def test_as_scikit_image(seed):
    from skimage.draw import polygon

    rng = np.random.default_rng(seed)
    border = rng.uniform(1, 60, (rng.integers(3, 12), 2))  # no corner on a pixel's centre, sides that cross
    mask = np.zeros((50, 64), np.uint8)
    mask[polygon(border[:, 1] - 1, border[:, 0] - 1, mask.shape)] = 1
    assert mask.any() and border_iou(border, mask) == 1
