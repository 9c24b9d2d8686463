"""Programs as the compiler's options make them, with oneDNN where it is there, against XLA's default ones."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.config import ModelConfig
from unet_jax.models.compiler import compiler_options
from unet_jax.models.convolution import dilated, plain
from unet_jax.models.network import UNet

KERNELS = [
    # height, width, zeros
    (1, 1, ((0, 0), (0, 0))),
    (2, 2, ((1, 0), (1, 0))),
    (1, 2, ((0, 0), (1, 0))),
    (3, 3, ((1, 1), (1, 1))),
]
TOLERANCES = {jnp.float32: 1e-5, jnp.bfloat16: 1e-2}
"""Largest difference, in multiples of an array's largest value."""
PLAIN = ModelConfig(width=4, levels=2, dropout=0.0)
NETWORKS = {
    "plain": PLAIN,
    "normalised": replace(PLAIN, norm="conv", classes=3),
    "efficientnet_lite0": ModelConfig(
        encoder="efficientnet_lite0", levels=5, norm="conv", decoder_widths=(8, 8, 16, 16, 32), dropout=0.0
    ),
}


def drawn(dtype, *shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [jax.random.normal(key, shape).astype(dtype) for key, shape in zip(keys, shapes, strict=True)]


def exact(function, x, kernel, g):
    """Value and gradients in float32, by XLA's default."""
    x, kernel, g = (array.astype(jnp.float32) for array in (x, kernel, g))
    y, pull = jax.vjp(function, x, kernel)
    return y, *pull(g)


def assert_near(arrays, expected, tolerance):
    for got, wanted in zip(arrays, expected, strict=True):
        assert got.shape == wanted.shape
        assert np.abs(got.astype(jnp.float32) - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("outputs", [1, 2, 16])
@pytest.mark.parametrize("inputs", [1, 3, 16])
@pytest.mark.parametrize(("height", "width", "pads"), KERNELS)
def test_each_convolution_of_a_step_is_right(height, width, pads, inputs, outputs, dtype):
    """Odd numbers of channels, above all one, are where a library's layouts go wrong."""
    x, kernel = drawn(dtype, (2, 4, 6, inputs), (height, width, inputs, outputs))
    (g,) = drawn(dtype, plain(x, kernel, pads).shape)
    rest = tuple((side - 1 - low, side - 1 - high) for side, (low, high) in zip((height, width), pads, strict=True))

    def all_three(x, kernel, g):
        return plain(x, kernel, pads), plain(g, kernel[::-1, ::-1].swapaxes(2, 3), rest), dilated(x, g, rest)

    compiled = jax.jit(all_three, compiler_options=compiler_options())(x, kernel, g)
    assert_near(compiled, exact(lambda x, kernel: plain(x, kernel, pads), x, kernel, g), TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_gradient_of_the_stem_is_right(dtype):
    """It is XLA's own, of a convolution with stride 2."""
    x, kernel = drawn(dtype, (2, 8, 8, 1), (3, 3, 1, 32))
    (g,) = drawn(dtype, (2, 4, 4, 32))

    def stem(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((0, 1), (0, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def both(x, kernel, g):
        y, pull = jax.vjp(stem, x, kernel)
        return y, *pull(g)

    compiled = jax.jit(both, compiler_options=compiler_options())(x, kernel, g)
    assert_near(compiled, exact(stem, x, kernel, g), TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("height", "width", "pads"), KERNELS)
def test_one_pixel_of_one_channel_is_right(height, width, pads, dtype):
    """The kernel's gradient is the product of the two pixels, at the tap that lies on the image."""
    rest = tuple((side - 1 - low, side - 1 - high) for side, (low, high) in zip((height, width), pads, strict=True))
    x, g = jnp.full((1, 1, 1, 1), 3, dtype), jnp.full((1, 1, 1, 1), 2, dtype)
    expected = np.zeros((height, width, 1, 1))
    expected[pads[0][0], pads[1][0]] = 6
    got = jax.jit(lambda x, g: dilated(x, g, rest), compiler_options=compiler_options())(x, g)
    np.testing.assert_array_equal(got.astype(jnp.float32), expected)


@pytest.mark.parametrize(
    "name", ["normalised", *(pytest.param(name, marks=pytest.mark.slow) for name in ("plain", "efficientnet_lite0"))]
)
def test_gradients_of_a_network_are_right(name):
    """Every parameter's gradient, added to another array as an optimizer does, in one compiled program."""
    config = NETWORKS[name]
    net = UNet(config)
    x = jax.random.normal(jax.random.key(0), (2, 64, 64, 1))
    variables = net.init(jax.random.key(1), x, train=False)

    def moved(variables, x):
        def loss(params):
            logits, _ = net.apply({**variables, "params": params}, x, train=True, mutable=["batch_stats"])
            return (jnp.sin(logits) ** 2).mean()

        gradient = jax.grad(loss)(variables["params"])
        return gradient, jax.tree.map(lambda p, g: 0.9 * p + 0.1 * g, variables["params"], gradient)

    expected = jax.jit(moved)(variables, x)
    got = jax.jit(moved, compiler_options=compiler_options(barriers=True))(variables, x)
    for (path, wanted), value in zip(jax.tree_util.tree_leaves_with_path(expected), jax.tree.leaves(got), strict=True):
        where = jax.tree_util.keystr(path)
        np.testing.assert_allclose(value, wanted, rtol=1e-3, atol=2e-4 * np.abs(wanted).max() + 1e-7, err_msg=where)
