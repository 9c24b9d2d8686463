"""The depthwise convolution, in both forms, against XLA's grouped one: values and gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.models.depthwise import depthwise, grouped, same_padding, shifted

SIDES = [(8, 7), (1, 2)]


def reference(x, kernel, stride):
    """XLA's, with its own idea of SAME."""
    dimensions, c = ("NHWC", "HWIO", "NHWC"), x.shape[-1]
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=dimensions, feature_group_count=c
    )


def drawn(h, w, size, dtype=jnp.float32):
    x = jax.random.normal(jax.random.key(0), (3, h, w, 5)).astype(dtype)
    return x, jax.random.normal(jax.random.key(1), (size, size, 1, 5))


@functools.partial(jax.jit, static_argnums=(0, 3))
def value_and_gradients(form, x, kernel, stride):
    """The result, and the gradients of x and kernel for a gradient that is different everywhere."""
    y, pull = jax.vjp(lambda x, kernel: form(x, kernel, stride), x, kernel)
    return y, *pull(jnp.sin(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape).astype(y.dtype))


@pytest.mark.parametrize(("h", "w"), SIDES)
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("form", [shifted, grouped])
def test_both_forms_are_the_grouped_convolution(form, stride, size, h, w):
    x, kernel = drawn(h, w, size)
    ours = value_and_gradients(form, x, kernel, stride)
    for got, expected in zip(ours, value_and_gradients(reference, x, kernel, stride), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_padding_by_hand():
    assert [same_padding(8, size, 2) for size in (3, 5)] == [(0, 1), (1, 2)]
    assert [same_padding(7, size, 2) for size in (3, 5)] == [(1, 1), (2, 2)]
    assert [same_padding(8, size, 1) for size in (1, 3, 5)] == [(0, 0), (1, 1), (2, 2)]
    # Four pixels of a row, taps 1 2 4: one output sees pixels 0 to 2, the next 2, 3 and the zero behind them.
    x = jnp.array([1.0, 10.0, 100.0, 1000.0]).reshape(1, 1, 4, 1)
    taps = jnp.array([[0, 0, 0], [1, 2, 4], [0, 0, 0]], jnp.float32).reshape(3, 3, 1, 1)
    np.testing.assert_array_equal(depthwise(x, taps, 2)[0, 0, :, 0], [421, 2100])


@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_is_rounded_once(stride):
    """Input, kernel and result have 8 bits, sums those of float32; so has the gradient of the kernel."""
    x, kernel = drawn(8, 7, 5, jnp.bfloat16)
    got = value_and_gradients(shifted, x, kernel, stride)
    assert [value.dtype for value in got] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    rounded = kernel.astype(jnp.bfloat16).astype(jnp.float32)
    exact = value_and_gradients(reference, x.astype(jnp.float32), rounded, stride)
    # The gradient that comes in has 8 bits as well: half a unit of the last is 0.2 %.
    for value, expected, within in zip(got, exact, (1e-5, 0.02, 0.02), strict=True):
        np.testing.assert_allclose(value.astype(jnp.float32), expected, rtol=2**-8, atol=within)
