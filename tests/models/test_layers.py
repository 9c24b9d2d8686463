"""The layers against Flax's own: parameters, results and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from unet_jax.models.layers import Conv, ConvTranspose, Dropout, max_pool, position_hash

FLOAT32 = jnp.dtype("float32")


def with_bias(ours, flax, our_input, flax_input):
    """Flax's initial parameters with a bias that is not zero; they are also ours."""
    params = flax.init(jax.random.key(1), *flax_input)
    assert jax.tree.map(jnp.shape, ours.init(jax.random.key(1), *our_input)) == jax.tree.map(jnp.shape, params)
    params["params"]["bias"] = jnp.arange(4.0)
    return params


def assert_same(ours, flax, params, *inputs):
    """Results agree, and gradients with respect to the parameters and every input."""
    np.testing.assert_allclose(ours(params, *inputs), flax(params, *inputs), atol=1e-5)
    everything = tuple(range(1 + len(inputs)))

    def gradients(apply):
        return jax.grad(lambda *args: (jnp.sin(apply(*args)) ** 2).sum(), argnums=everything)(params, *inputs)

    for got, expected in zip(jax.tree.leaves(gradients(ours)), jax.tree.leaves(gradients(flax)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 5, 7, 3)])
def test_transposed_convolution_is_flax_own(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    ours, flax = ConvTranspose(4, FLOAT32), nn.ConvTranspose(4, (3, 3), (2, 2))
    assert_same(ours.apply, flax.apply, with_bias(ours, flax, (x,), (x,)), x)


@pytest.mark.parametrize("channels", [(3,), (3, 5), (2, 1, 4)])
def test_convolution_is_flax_own_of_the_concatenation(channels):
    keys = jax.random.split(jax.random.key(0), len(channels))
    parts = [jax.random.normal(key, (2, 5, 7, c)) for key, c in zip(keys, channels, strict=True)]
    ours, flax = Conv(4, FLOAT32), nn.Conv(4, (3, 3))
    whole = jnp.concatenate(parts, axis=-1)
    params = with_bias(ours, flax, parts, (whole,))
    assert_same(ours.apply, lambda p, *parts: flax.apply(p, jnp.concatenate(parts, axis=-1)), params, *parts)


def test_transposed_convolution_by_hand():
    """One pixel 1 becomes the kernel: out[y] = sum over k of stretched[y - 2 + k] w[k], stretched[0] = 1."""
    x = jnp.ones((1, 1, 1, 1))
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    y = ConvTranspose(1, FLOAT32).apply({"params": {"kernel": kernel, "bias": jnp.array([10.0])}}, x)
    np.testing.assert_array_equal(y[0, :, :, 0], [[19, 18], [16, 15]])


def test_max_pool_is_flax_own_without_ties():
    x = jax.random.permutation(jax.random.key(0), jnp.arange(288.0)).reshape(2, 6, 8, 3) / 288
    weights = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    np.testing.assert_array_equal(max_pool(x), nn.max_pool(x, (2, 2), (2, 2)))
    ours = jax.grad(lambda x: (weights * max_pool(x)).sum())(x)
    flax = jax.grad(lambda x: (weights * nn.max_pool(x, (2, 2), (2, 2))).sum())(x)
    np.testing.assert_array_equal(ours, flax)


def test_max_pool_shares_the_gradient_of_ties():
    x = jnp.array([[3.0, 3.0], [1.0, 3.0]]).reshape(1, 2, 2, 1)
    grad = jax.grad(lambda x: max_pool(x).sum())(x)
    np.testing.assert_allclose(grad[0, :, :, 0], [[1 / 3, 1 / 3], [0, 1 / 3]], atol=1e-7)


def test_position_hash_counts_positions_in_memory_order():
    key = jax.random.key(5)
    word0, word1 = (int(word) for word in jax.random.key_data(key))
    expected = []
    for position in range(24):  # in Python's integers
        x = position ^ word0
        x = (x ^ (x >> 16)) * 0x7FEB352D % 2**32
        x = (x ^ (x >> 15) ^ word1) * 0x846CA68B % 2**32
        expected.append(x ^ (x >> 16))
    np.testing.assert_array_equal(position_hash(key, (2, 3, 4)).ravel(), np.array(expected, np.uint32))


def test_position_hash_is_even_and_independent():
    """Every bit is set half of the time, and neighbours, steps and layers do not agree more often than chance."""
    n = 2**16
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in range(4)]
    bits = [np.unpackbits(np.asarray(position_hash(k, (n,))).view(np.uint8).reshape(n, 4), axis=1) for k in keys]
    for i, b in enumerate(bits):
        np.testing.assert_allclose(b.mean(axis=0), 0.5, atol=0.012)  # six standard deviations of 2**16 draws
        for distance in (1, 2, 16, 128, 1024):
            np.testing.assert_allclose((b[:-distance] == b[distance:]).mean(axis=0), 0.5, atol=0.013)
        for other in bits[:i]:
            np.testing.assert_allclose((b == other).mean(axis=0), 0.5, atol=0.012)


def dropped(x, key, rate=0.25):
    return Dropout(rate).apply({}, x, train=True, rngs={"dropout": key})


def test_dropout_drops_its_share_and_scales_the_rest():
    x = jnp.full((8, 16, 16, 32), 3.0)
    y = np.asarray(dropped(x, jax.random.key(0)))
    assert set(np.unique(y)) == {0.0, 4.0}
    # 65,536 draws: four standard deviations are 0.0068. Every image and every channel gets its share.
    assert abs((y == 0).mean() - 0.25) < 0.0068
    np.testing.assert_allclose((y == 0).mean(axis=(1, 2, 3)), 0.25, atol=0.025)
    np.testing.assert_allclose((y == 0).mean(axis=(0, 1, 2)), 0.25, atol=0.05)


def test_dropout_is_a_function_of_its_key():
    x = jnp.ones((2, 8, 8, 4))
    a, b, other = (np.asarray(dropped(x, jax.random.key(i))) for i in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert 0.2 < (a != other).mean() < 0.55  # 2 * 0.25 * 0.75 by chance


def test_dropout_lets_gradients_through_where_values_pass():
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    key = jax.random.key(0)
    grad = jax.grad(lambda x: dropped(x, key).sum())(x)
    np.testing.assert_allclose(grad, np.where(dropped(x, key) == 0, 0, 4 / 3), atol=1e-6)


@pytest.mark.parametrize(("rate", "train"), [(0.0, True), (0.9, False)])
def test_dropout_does_nothing_at_rate_zero_and_outside_training(rate, train):
    x = jnp.ones((1, 2, 2, 1))
    assert Dropout(rate).apply({}, x, train=train) is x
