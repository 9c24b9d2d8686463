"""Outlines against masks, by hand. `test_polygon` compares the filling with scikit-image's."""

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
