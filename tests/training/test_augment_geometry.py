"""Where the geometric operations take a slice: against SciPy, and against bounds worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.interpolate import BSpline

from unet_jax.training.augment import affine
from unet_jax.training.augment.elastic import elastic
from unet_jax.training.augment.smooth import smooth_field
from unet_jax.training.augment.warp import warp

RNG = np.random.default_rng(0)
IMAGE = RNG.random((13, 18), np.float32)
MASK = (RNG.random((13, 18)) > 0.5).astype(np.uint8)
IDENTITY = np.eye(3, dtype=np.float32)


def warped(matrix, displacement=None):
    if displacement is not None:
        displacement = jnp.asarray(displacement)[None]
    arrays = (jnp.asarray(a)[None] for a in (IMAGE[..., None], MASK, np.asarray(matrix, np.float32)))
    x, mask = warp(*arrays, displacement)
    return np.asarray(x[0, ..., 0]), np.asarray(mask[0])


def by_scipy(matrix):
    centre = np.array([6.0, 8.5])
    matrix = np.asarray(matrix, np.float64)
    offset = matrix[:2, 2] + centre - matrix[:2, :2] @ centre
    pictures = (
        ndimage.affine_transform(a.astype(float), matrix[:2, :2], offset, order=1, mode="grid-constant")
        for a in (IMAGE, MASK)
    )
    return next(pictures), next(pictures) >= 0.5


COS, SIN = math.cos(0.4), math.sin(0.4)


@pytest.mark.parametrize(
    "matrix",
    [
        [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
        [[-1, 0, 0], [0, -1, 0], [0, 0, 1]],
        [[1, 0, 3], [0, 1, -2], [0, 0, 1]],
        [[0.5, 0, 0], [0, 0.5, 0], [0, 0, 1]],
        [[2.5, 0, 0.3], [0, 2.5, 0.1], [0, 0, 1]],
        [[COS, -SIN, 1.7], [SIN, COS, -0.6], [0, 0, 1]],
        [[1, 0, 50], [0, 1, 0], [0, 0, 1]],
    ],
    ids=["quarter turn", "half turn", "whole pixels", "twice as large", "smaller", "turned and moved", "out of sight"],
)
def test_sampling_agrees_with_scipy(matrix):
    got, mask = warped(matrix)
    expected, expected_mask = by_scipy(matrix)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_array_equal(mask, expected_mask)
    assert mask.dtype == np.uint8


def test_no_change_is_exact_and_whole_pixels_are():
    got, mask = warped(IDENTITY)
    np.testing.assert_array_equal(got, IMAGE)
    np.testing.assert_array_equal(mask, MASK)
    got, mask = warped([[1, 0, 3], [0, 1, -2], [0, 0, 1]])
    np.testing.assert_array_equal(got[:10, 2:], IMAGE[3:, :16])
    np.testing.assert_array_equal(mask[:10, 2:], MASK[3:, :16])
    assert not got[10:].any() and not got[:, :2].any() and not mask[10:].any() and not mask[:, :2].any()


def test_displacements_agree_with_scipy():
    displacement = RNG.uniform(-3, 3, (2, 13, 18)).astype(np.float32)
    got, mask = warped(IDENTITY, displacement)
    places = np.indices((13, 18)) + displacement
    expected, share = (
        ndimage.map_coordinates(a.astype(float), places, order=1, mode="grid-constant") for a in (IMAGE, MASK)
    )
    np.testing.assert_allclose(got, expected, atol=1e-5)
    certain = np.abs(share - 0.5) > 1e-5
    np.testing.assert_array_equal(mask[certain], share[certain] >= 0.5)


SHAPE = (2000, 30, 20)


def drawn(operation, strength):
    return np.asarray(operation(jax.random.key(4), SHAPE, strength), np.float64)


def assert_spread(values, low, high):
    """Check that values fill a range evenly: to its ends, and a quarter of them in each quarter."""
    edges = np.linspace(low, high, 5)
    counts, _ = np.histogram(values, edges + [-1e-5, 0, 0, 0, 1e-5])
    assert counts.sum() == 2000 and abs(counts - 500).max() < 100  # five standard deviations
    assert values.min() < low + (high - low) / 100 and values.max() > high - (high - low) / 100


def test_rotations_are_drawn_in_their_range():
    matrices = drawn(affine.rotation, 30.0)
    np.testing.assert_allclose(matrices @ matrices.swapaxes(1, 2), np.tile(np.eye(3), (2000, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-6)
    assert_spread(np.degrees(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0])), -30, 30)


def test_zooms_stretches_and_shears_are_drawn_in_their_range():
    for operation in (affine.zoom, affine.stretch, affine.shear):
        matrices = drawn(operation, 0.25)
        assert not matrices[:, 0, [1, 2]].any() and not matrices[:, 1, 2].any()
        np.testing.assert_array_equal(matrices[:, 2], np.tile([0, 0, 1], (2000, 1)))
    zooms, stretches, shears = (drawn(operation, 0.25) for operation in (affine.zoom, affine.stretch, affine.shear))
    np.testing.assert_array_equal(zooms[:, 0, 0], zooms[:, 1, 1])
    assert_spread(np.log(zooms[:, 0, 0]), -math.log(1.25), math.log(1.25))
    np.testing.assert_allclose(np.linalg.det(stretches), 1, atol=1e-6)  # areas stay
    assert_spread(np.log(stretches[:, 1, 1] / stretches[:, 0, 0]), -math.log(1.25), math.log(1.25))
    assert_spread(np.degrees(np.arctan(shears[:, 1, 0])), -0.25, 0.25)


def test_shifts_are_drawn_in_their_range():
    matrices = drawn(affine.shift, 0.1)
    np.testing.assert_array_equal(matrices[:, :, :2], np.tile(np.eye(3)[:, :2], (2000, 1, 1)))
    down, right = matrices[:, 0, 2], matrices[:, 1, 2]
    assert_spread(down, -3, 3)  # of 30 rows and 20 columns
    assert_spread(right, -2, 2)
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.12


def test_smooth_fields_are_b_splines():
    nodes = RNG.random((2, 3, 5, 7)).astype(np.float32)
    got = np.asarray(smooth_field(jnp.asarray(nodes), 20, 33))
    down = BSpline(np.arange(-3, 6), nodes.astype(float).transpose(2, 0, 1, 3), 3)((np.arange(20) + 0.5) / 20 * 2)
    both = BSpline(np.arange(-3, 8), down.transpose(3, 1, 2, 0), 3)((np.arange(33) + 0.5) / 33 * 4)
    np.testing.assert_allclose(got, both.transpose(1, 2, 3, 0), atol=1e-6)


def test_elastic_displacements_are_bounded_and_do_not_fold():
    got = np.asarray(elastic(jax.random.key(0), (200, 64, 64), 0.06), np.float64) / 64
    assert got.shape == (200, 2, 64, 64)
    assert 0.03 < np.abs(got).max() <= 0.06
    assert (np.abs(got) < 0.02).mean() > 0.7  # as its docstring says
    steps = [np.diff(got, axis=axis)[:, :, :63, :63] * 64 for axis in (2, 3)]
    assert max(np.abs(step).max() for step in steps) <= 2 * 0.06 * 4
    (yy, xy), (yx, xx) = ((step[:, 0], step[:, 1]) for step in steps)
    assert ((1 + yy) * (1 + xx) - xy * yx).min() > 0  # no part is turned over
