import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_jax.config import PreprocessConfig
from unet_jax.models.preprocess import preprocess


def run(images, p1, p99, **kw):
    return np.asarray(preprocess(jnp.asarray(images), jnp.asarray(p1), jnp.asarray(p99), PreprocessConfig(**kw)))


def test_percentiles_become_zero_and_one_and_the_rest_is_clipped():
    images = np.array([[[50, 100, 200, 300, 400]]], np.int16)
    x = run(images, np.float32([100]), np.float32([300]))
    np.testing.assert_allclose(x[0, 0, :, 0], [0, 0, 0.5, 1, 1])
    assert x.dtype == np.float32


def test_each_slice_by_its_own_percentiles():
    images = np.full((2, 1, 1), 100, np.int16)
    x = run(images, np.float32([0, 50]), np.float32([200, 250]))
    np.testing.assert_allclose(x.ravel(), [0.5, 0.25])


def test_constant_slice_becomes_zeros():
    x = run(np.full((1, 2, 2), 7, np.int16), np.float32([7]), np.float32([7]))
    np.testing.assert_array_equal(x, 0)


def test_fixed_scale():
    x = run(np.array([[[0, 6364, 12728, 20000]]], np.int16), np.float32([9]), np.float32([99]), kind="fixed")
    np.testing.assert_allclose(x.ravel(), [0, 0.5, 1, 1])


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_the_scale_of_intensities_does_not_matter(dtype):
    image = np.arange(16, dtype=dtype).reshape(1, 4, 4)
    one = run(image, np.float32([1]), np.float32([14]))
    np.testing.assert_allclose(one, run(image * 8, np.float32([8]), np.float32([112])), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    low=st.integers(-1000, 1000),
    span=st.integers(0, 2000),
    gain=st.integers(1, 9),
    shift=st.integers(-3000, 3000),
)
def test_other_units_of_intensity_give_the_same_input_from_0_to_1(seed, low, span, gain, shift):
    images = np.random.default_rng(seed).integers(low - 50, low + span + 50, (2, 3, 4), endpoint=True).astype(np.int32)
    p1, p99 = np.float32([low] * 2), np.float32([low + span] * 2)
    x = run(images, p1, p99)
    assert x.shape == (2, 3, 4, 1) and x.min() >= 0 and x.max() <= 1
    other = run(images * gain + shift, p1 * gain + shift, p99 * gain + shift)
    np.testing.assert_allclose(other, x, atol=1e-6)
    # A brighter pixel is never darker afterwards.
    order = np.argsort(images.ravel(), kind="stable")
    assert (np.diff(x.ravel()[order]) >= 0).all()
