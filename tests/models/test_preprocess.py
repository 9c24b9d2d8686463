import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_jax.config import PreprocessConfig
from unet_jax.models.preprocess import preprocess


def run(images, p1, p99, **kw):
    return np.asarray(preprocess(jnp.asarray(images), jnp.asarray(p1), jnp.asarray(p99), PreprocessConfig(**kw)))


@pytest.mark.parametrize(
    ("pixels", "p1", "p99", "kind", "expected"),
    [
        ([[50, 100, 200, 300, 400]], [100], [300], "percentile", [[0, 0, 0.5, 1, 1]]),
        ([[100], [100]], [0, 50], [200, 250], "percentile", [[0.5], [0.25]]),  # each slice by its own
        ([[7, 7]], [7], [7], "percentile", [[0, 0]]),
        ([[0, 6364, 12728, 20000]], [9], [99], "fixed", [[0, 0.5, 1, 1]]),
    ],
)
def test_intensities_become_zero_to_one_and_are_clipped(pixels, p1, p99, kind, expected):
    x = run(np.array(pixels, np.int16)[:, None], np.float32(p1), np.float32(p99), kind=kind)
    np.testing.assert_allclose(x[:, 0, :, 0], expected)
    assert x.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    low=st.integers(-1000, 1000),
    span=st.integers(0, 2000),
    gain=st.integers(1, 9),
    shift=st.integers(-3000, 3000),
    dtype=st.sampled_from([np.int32, np.float32]),
)
def test_other_units_of_intensity_give_the_same_input_from_0_to_1(seed, low, span, gain, shift, dtype):
    images = np.random.default_rng(seed).integers(low - 50, low + span + 50, (2, 3, 4), endpoint=True).astype(dtype)
    p1, p99 = np.float32([low] * 2), np.float32([low + span] * 2)
    x = run(images, p1, p99)
    assert x.shape == (2, 3, 4, 1) and x.min() >= 0 and x.max() <= 1
    other = run(images * gain + shift, p1 * gain + shift, p99 * gain + shift)
    np.testing.assert_allclose(other, x, atol=1e-6)
    # A brighter pixel is never darker afterwards.
    order = np.argsort(images.ravel(), kind="stable")
    assert (np.diff(x.ravel()[order]) >= 0).all()
