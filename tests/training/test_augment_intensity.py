"""What the intensity operations compute: against NumPy and SciPy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from unet_jax.training.augment import intensity
from unet_jax.training.augment.resolution import blur, coarsening, gaussian, low_resolution, mix_rows_and_columns

KEY = jax.random.key(7)
X = np.random.default_rng(0).random((500, 6, 5, 1), np.float32)


def changed(operation, strength, x=X):
    return np.asarray(operation(KEY, jnp.asarray(x), strength), np.float64)


def assert_spread(values, low, high):
    """Check that one value a slice fills a range evenly."""
    assert values.shape == (500,)
    edges = np.linspace(low, high, 5)
    counts, _ = np.histogram(values, edges + [-1e-4, 0, 0, 0, 1e-4])
    assert counts.sum() == 500 and abs(counts - 125).max() < 50  # five standard deviations


def test_brightness_adds_a_number_to_each_slice():
    added = changed(intensity.brightness, 0.2) - X
    assert_spread(added[:, 0, 0, 0], -0.2, 0.2)
    np.testing.assert_allclose(added, np.tile(added[:, :1, :1], (1, 6, 5, 1)), atol=1e-6)


def test_contrast_scales_about_the_mean():
    got, mean = changed(intensity.contrast, 0.25), X.mean((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(got.mean((1, 2, 3), keepdims=True), mean, atol=1e-6)
    factors = got.std((1, 2, 3)) / X.std((1, 2, 3))
    np.testing.assert_allclose(got, mean + factors.reshape(-1, 1, 1, 1) * (X - mean), atol=1e-5)
    assert_spread(np.log(factors), -math.log(1.25), math.log(1.25))


def test_gamma_is_a_power():
    x = X.copy()
    x[:, 0, 0], x[:, 0, 1], x[:, 0, 2], x[:, 0, 3] = -0.5, 0, 1, 1.5
    got = changed(intensity.gamma, 1.0, x)
    np.testing.assert_array_equal(got[:, 0, :4, 0], np.tile([0, 0, 1, 1], (500, 1)))
    exponents = np.log(got[:, 1, 1, 0]) / np.log(x[:, 1, 1, 0].astype(float))
    np.testing.assert_allclose(got, np.clip(x, 0, 1) ** exponents.reshape(-1, 1, 1, 1), atol=1e-4)
    assert_spread(np.log(exponents), -math.log(2), math.log(2))


def test_noise_is_normal_with_a_deviation_a_slice():
    x = np.zeros((500, 32, 32, 1), np.float32)
    got = changed(intensity.noise, 0.1, x)
    deviations = got.std((1, 2, 3))
    assert deviations.max() < 0.105 and abs(deviations.mean() - 0.05) < 0.01
    normal = got / deviations.reshape(-1, 1, 1, 1)
    assert abs(normal.mean()) < 0.01 and abs((np.abs(normal) < 1).mean() - 0.6827) < 0.005
    neighbours = np.corrcoef(normal[:, 1:].ravel(), normal[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.01


def test_bias_fields_are_smooth_factors():
    x = np.full((100, 40, 30, 1), 0.5, np.float32)
    field = changed(intensity.bias_field, 0.4, x) / 0.5 - 1
    assert 0.2 < np.abs(field).max() <= 0.4
    # Bounded slope: a node more, half a side further, is at most 0.8 away.
    assert np.abs(np.diff(field, axis=1)).max() <= 0.8 * 2 / 40
    double = changed(intensity.bias_field, 0.4, 2 * x)
    np.testing.assert_allclose(double, 2 * 0.5 * (1 + field), rtol=1e-5)


@pytest.mark.parametrize("deviation", [0.0, 0.4, 1.0, 2.5])
def test_blur_agrees_with_scipy_away_from_the_edge(deviation):
    image = np.random.default_rng(1).random((50, 41), np.float32)
    one = jnp.full(1, deviation)
    got = mix_rows_and_columns(jnp.asarray(image[None, ..., None]), gaussian(one, 50), gaussian(one, 41))[0, ..., 0]
    expected = ndimage.gaussian_filter(image.astype(float), deviation, radius=16) if deviation else image
    np.testing.assert_allclose(got[16:-16, 16:-16], expected[16:-16, 16:-16], atol=1e-6)
    level = np.ones((1, 50, 41, 1), np.float32)
    np.testing.assert_allclose(changed(blur, 2.0, level), level, atol=1e-6)  # no darkening at the edge


def test_low_resolution_is_means_of_cells_between_which_lines_are_drawn():
    (weights,) = np.asarray(coarsening(jnp.array([2.0]), 7))
    row = np.array([1, 3, 5, 9, 2, 2, 4.0])
    means = np.array([2, 7, 2, 4])  # the last cell is half outside
    # Centres of pixels, in cells from the centre of the first one; there is no line before that.
    places = np.array([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75])
    np.testing.assert_allclose(weights @ row, np.interp(places, np.arange(4), means), atol=1e-6)
    np.testing.assert_array_equal(coarsening(jnp.ones(1), 7)[0], np.eye(7))


def test_low_resolution_keeps_levels_and_loses_detail():
    level = np.full((500, 6, 5, 1), 0.7, np.float32)
    np.testing.assert_allclose(changed(low_resolution, 3.0, level), level, atol=1e-6)
    assert changed(low_resolution, 3.0).std() < 0.75 * X.std()
