"""Convolutions and sums: each form of a gradient against XLA's own, and against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models.convolution import add_bias, by_hand, dilated, pixel_product, plain
from unet_jax.models.sums import channel_sums

SHAPES = [
    # image, kernel, zeros: 3x3 as in a block, the two of a transposed convolution, 1x1
    ((2, 6, 4, 3), (3, 3, 3, 5), ((1, 1), (1, 1))),
    ((3, 5, 7, 2), (2, 2, 2, 4), ((1, 0), (1, 0))),
    ((1, 4, 1, 3), (1, 2, 3, 2), ((0, 0), (1, 0))),
    ((2, 3, 5, 4), (1, 1, 4, 6), ((0, 0), (0, 0))),
]


def drawn(*shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


@pytest.mark.parametrize(("image", "kernel", "pads"), SHAPES)
def test_values_and_gradients_are_xlas_own(image, kernel, pads):
    x, k = drawn(image, kernel)
    ours, pull = jax.vjp(lambda x, k: by_hand(x, k, pads), x, k)
    expected, pull_expected = jax.vjp(lambda x, k: plain(x, k, pads), x, k)
    np.testing.assert_array_equal(ours, expected)
    (g,) = drawn(ours.shape)
    for got, wanted in zip(pull(g), pull_expected(g), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("image", "kernel", "pads"), SHAPES)
def test_kernels_gradient_by_dilation_is_xlas_own(image, kernel, pads):
    x, k = drawn(image, kernel)
    y, pull = jax.vjp(lambda k: plain(x, k, pads), k)
    (g,) = drawn(y.shape)
    rest = tuple((side - 1 - low, side - 1 - high) for side, (low, high) in zip(kernel[:2], pads, strict=True))
    np.testing.assert_allclose(dilated(x, g, rest), pull(g)[0], rtol=1e-5, atol=1e-5)


def test_kernels_gradient_by_dilation_by_hand():
    """A pixel 1 at row 1, column 1 of a 3x3 image: output (h, w) saw it by the tap (2 - h, 2 - w)."""
    x = jnp.zeros((1, 3, 3, 1)).at[0, 1, 1, 0].set(1)
    g = jnp.arange(9.0).reshape(1, 3, 3, 1)
    pads = ((1, 1), (1, 1))
    np.testing.assert_array_equal(dilated(x, g, pads)[:, :, 0, 0], [[8, 7, 6], [5, 4, 3], [2, 1, 0]])


def test_gradient_of_a_1x1_kernel_is_a_sum_over_pixels():
    x, g = drawn((2, 3, 4, 5), (2, 3, 4, 6))
    expected = np.einsum("bhwi,bhwo->io", np.asarray(x, np.float64), np.asarray(g, np.float64))
    np.testing.assert_allclose(pixel_product(x, g), expected[None, None], atol=1e-5)


def test_in_bfloat16_gradients_have_the_operands_types():
    x, k = (array.astype(jnp.bfloat16) for array in drawn((2, 6, 4, 3), (3, 3, 3, 5)))
    pads = ((1, 1), (1, 1))
    y, pull = jax.vjp(lambda x, k: by_hand(x, k, pads), x, k)
    exact, pull_exact = jax.vjp(lambda x, k: plain(x, k, pads), x.astype(jnp.float32), k.astype(jnp.float32))
    for got, wanted in zip((y, *pull(y)), (exact, *pull_exact(y.astype(jnp.float32))), strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), wanted, rtol=2e-2, atol=2e-2 * np.abs(wanted).max())


@pytest.mark.parametrize("width", [1, 4, 7])
def test_sums_of_channels_are_numpys(width):
    one, other = drawn((3, 5, width, 2), (3, 5, width, 2))
    for arrays in ((one,), (one, other)):
        for got, array in zip(channel_sums(*arrays), arrays, strict=True):
            assert got.dtype == jnp.float32
            np.testing.assert_allclose(got, np.asarray(array, np.float64).sum((0, 1, 2)), atol=1e-5)


def test_sums_of_bfloat16_are_of_float32():
    """256 + 1 is 256 in bfloat16, which keeps 8 bits."""
    x = jnp.ones((1, 1, 512, 1), jnp.bfloat16)
    np.testing.assert_array_equal(channel_sums(x)[0], [512])


def test_a_bias_adds_and_its_gradient_is_a_sum():
    x, bias = jnp.zeros((2, 4, 6, 3), jnp.bfloat16), jnp.array([1.0, 2.0, 3.0])
    y, pull = jax.vjp(add_bias, x, bias)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y[1, 2, 3].astype(jnp.float32), [1, 2, 3])
    of_x, of_bias = pull(jnp.full(y.shape, 2, jnp.bfloat16))
    np.testing.assert_array_equal(of_x.astype(jnp.float32), np.full(y.shape, 2))
    np.testing.assert_array_equal(of_bias, [96, 96, 96])
