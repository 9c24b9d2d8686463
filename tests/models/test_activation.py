"""Activations against jax's own, values and gradients, the corners included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models.activation import relu, relu6


@pytest.mark.parametrize(("ours", "jaxs"), [(relu, jax.nn.relu), (relu6, jax.nn.relu6)])
def test_values_and_gradients_are_jaxs_own(ours, jaxs):
    x = jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0, 6.0, 6.5])
    np.testing.assert_array_equal(ours(x), jaxs(x))
    for got, expected in zip(*(jax.grad(lambda x, f=f: (3 * f(x)).sum())(x) for f in (ours, jaxs)), strict=True):
        np.testing.assert_array_equal(got, expected)
    assert ours(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
