"""Midlines of drawn heads, and their healthy halves mirrored."""

import numpy as np
import pytest

from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.symmetry import midline, midlines, without_tumor


def head(size=192, middle=95.5, one_sided=False):
    """Skull, brain, two ventricles and some texture, int16; mirror images about a column but for noise and texture."""
    rows, columns = np.mgrid[:size, :size] / size
    across = columns - middle / size
    away = across if one_sided else np.abs(across)
    radius = np.hypot(across / 0.33, (rows - 0.5) / 0.42)
    image = np.where(radius < 1, np.where(radius < 0.88, 400, 1000), 0.0)
    inside = radius < 0.88
    image += inside * 120 * np.sin(45 * away) * np.cos(30 * rows + 20 * away)
    image[np.hypot((away - 0.07) / 0.04, (rows - 0.45) / 0.12) < 1] = 150
    return np.rint(image + np.random.default_rng(0).normal(0, 10, image.shape)).astype(np.int16)


def blob(size=192, x=0.35, y=0.4, radius=0.06):
    rows, columns = np.mgrid[:size, :size] / size
    return (np.hypot(columns - x, rows - y) < radius).astype(np.uint8)


@pytest.mark.parametrize(("size", "middle"), [(192, 95.5), (192, 90.0), (192, 101.5), (96, 48.0), (100, 47.5)])
def test_the_midline_and_the_healthy_side_are_found(size, middle):
    image = head(size, middle)
    left, right = blob(size, middle / size - 0.14), blob(size, middle / size + 0.14)
    assert midline(np.where(left, 900, image), left) == middle
    assert midline(np.where(right, 900, image), right) == -middle


def test_a_displaced_and_bright_tumour_does_not_count_against_symmetry():
    mask = blob(x=0.33, radius=0.1)
    assert midline(np.where(mask, 2000, head()).astype(np.int16), mask) == 95.5


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        pytest.param(head(), blob(x=0.5), id="across the midline"),
        pytest.param(head(), blob(x=95.5 / 192 - 0.068), id="within the margin"),
        pytest.param(head(), blob(x=0.35) | blob(x=0.65), id="on both sides"),
        pytest.param(head(), blob(radius=0), id="no tumour"),
        pytest.param(head(one_sided=True), blob(), id="other details"),
        pytest.param(np.where(blob(x=0.8, y=0.6, radius=0.25), 400, head()).astype(np.int16), blob(), id="outline"),
        pytest.param(np.full((192, 192), 7, np.int16), blob(), id="constant"),
        pytest.param(np.eye(192, dtype=np.int16), blob(), id="nearly black"),
    ],
)
def test_what_has_no_healthy_half_is_refused(image, mask):
    assert midline(image, mask) == 0.0


def test_only_the_rows_asked_for_are_looked_at(tiny_data):
    arrays = open_arrays(tiny_data)
    everywhere = midlines(arrays, np.arange(len(arrays)))
    assert everywhere.dtype == np.float32
    assert everywhere.tolist() == [midline(arrays.images[i], arrays.masks[i]) for i in range(len(arrays))]
    rows = np.array([1, 4, 5])
    expected = np.zeros(len(arrays))
    expected[rows] = everywhere[rows]
    assert midlines(arrays, rows).tolist() == expected.tolist()


def test_the_healthy_half_takes_the_others_place():
    image = np.array([[1, 2, 3, 4, 5, 6]], np.int16)
    halves = {2.5: [6, 5, 4, 4, 5, 6], -2.5: [1, 2, 3, 3, 2, 1], 3.0: [6, 6, 5, 4, 5, 6], -1.5: [1, 2, 2, 1, 1, 1]}
    for position, expected in halves.items():
        got = without_tumor(image, position)
        assert got.dtype == np.int16 and got.tolist() == [expected]
