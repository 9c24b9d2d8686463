"""Batch normalisation against Flax's own: parameters, results, statistics and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unet_jax.models.batch_norm import EPSILON, BatchNorm

FLOAT32 = jnp.dtype("float32")
SHAPE = (3, 4, 5, 6)


def both(train, dtype=FLOAT32):
    return BatchNorm(0.8, dtype, train), nn.BatchNorm(not train, momentum=0.8, epsilon=EPSILON, dtype=dtype)


def drawn_variables(x):
    """Parameters and statistics of Flax's own layer, none of them zero or one."""
    variables = nn.BatchNorm(use_running_average=True).init(jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return tree.unflatten([jax.random.uniform(k, a.shape, minval=0.5) for k, a in zip(keys, leaves, strict=True)])


def image():
    return 3 + 2 * jax.random.normal(jax.random.key(2), SHAPE)


def test_initial_variables_are_flax_own():
    ours, flax = (layer.init(jax.random.key(0), image()) for layer in both(train=True))
    jax.tree.map(np.testing.assert_array_equal, ours, flax)


@pytest.mark.parametrize("train", [True, False])
def test_result_and_statistics_are_flax_own(train):
    x = image()
    variables = drawn_variables(x)
    ours, flax = (layer.apply(variables, x, mutable=["batch_stats"]) for layer in both(train))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), ours, flax)


@pytest.mark.parametrize("train", [True, False])
def test_gradients_are_flax_own(train):
    x = image()
    variables = drawn_variables(x)

    def gradients(layer):
        def loss(params, x):
            y, _ = layer.apply({**variables, "params": params}, x, mutable=["batch_stats"])
            return (jnp.sin(y) ** 2).sum()

        return jax.grad(loss, argnums=(0, 1))(variables["params"], x)

    ours, flax = (gradients(layer) for layer in both(train))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, flax)


def test_by_hand():
    """1 and 3 have mean 2 and variance 1, so they become -a and a, a = 1 / sqrt(1.001), scaled by 2 and moved by 1."""
    x = jnp.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    variables = {
        "params": {"scale": jnp.array([2.0]), "bias": jnp.array([1.0])},
        "batch_stats": {"mean": jnp.array([0.0]), "var": jnp.array([1.0])},
    }
    y, after = BatchNorm(0.8, FLOAT32, train=True).apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(y[0, 0, :, 0], [1 - 2 / 1.001**0.5, 1 + 2 / 1.001**0.5], rtol=1e-6)
    np.testing.assert_allclose(after["batch_stats"]["mean"], [0.4], rtol=1e-6)
    np.testing.assert_allclose(after["batch_stats"]["var"], [1.0], rtol=1e-6)


def test_statistics_of_bfloat16_are_float32():
    x = image().astype(jnp.bfloat16)
    layer = BatchNorm(0.0, jnp.dtype("bfloat16"), train=True)
    y, after = layer.apply(drawn_variables(x), x, mutable=["batch_stats"])
    exact = np.asarray(x, np.float64)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(after["batch_stats"]["mean"], exact.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(after["batch_stats"]["var"], exact.var((0, 1, 2)), rtol=1e-4)
