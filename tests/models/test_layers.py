"""The layers against Flax's own: parameters, results and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unet_jax.models.layers import ConvTranspose, max_pool


def without_ties(key, shape):
    """Every value occurs once."""
    n = int(np.prod(shape))
    return jax.random.permutation(key, jnp.arange(n, dtype=jnp.float32)).reshape(shape) / n


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 7, 3)])
def test_transposed_convolution_is_flax_own(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    ours, flax = ConvTranspose(4), nn.ConvTranspose(4, (3, 3), (2, 2))
    params = flax.init(jax.random.key(1), x)
    params["params"]["bias"] = jnp.arange(4.0)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), x)) == jax.tree.map(jnp.shape, params)

    def total(layer):
        return lambda p, x: (jnp.sin(layer.apply(p, x)) ** 2).sum()

    np.testing.assert_allclose(ours.apply(params, x), flax.apply(params, x), atol=1e-5)
    for got, expected in zip(
        jax.tree.leaves(jax.grad(total(ours), argnums=(0, 1))(params, x)),
        jax.tree.leaves(jax.grad(total(flax), argnums=(0, 1))(params, x)),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_transposed_convolution_by_hand():
    """One pixel 1 becomes the kernel: out[y] = sum over k of stretched[y - 2 + k] w[k], stretched[0] = 1."""
    x = jnp.ones((1, 1, 1, 1))
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    y = ConvTranspose(1).apply({"params": {"kernel": kernel, "bias": jnp.array([10.0])}}, x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[19, 18], [16, 15]])


def test_max_pool_is_flax_own_without_ties():
    x = without_ties(jax.random.key(0), (2, 6, 8, 3))
    weights = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    np.testing.assert_array_equal(max_pool(x), nn.max_pool(x, (2, 2), (2, 2)))
    ours = jax.grad(lambda x: (weights * max_pool(x)).sum())(x)
    flax = jax.grad(lambda x: (weights * nn.max_pool(x, (2, 2), (2, 2))).sum())(x)
    np.testing.assert_array_equal(ours, flax)


def test_max_pool_shares_the_gradient_of_ties():
    x = jnp.array([[3.0, 3.0], [1.0, 3.0]]).reshape(1, 2, 2, 1)
    grad = jax.grad(lambda x: max_pool(x).sum())(x)
    np.testing.assert_allclose(grad[0, :, :, 0], [[1 / 3, 1 / 3], [0, 1 / 3]], atol=1e-7)
