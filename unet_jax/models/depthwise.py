"""Depthwise convolution, each channel by a kernel of its own, in a form that suits the backend."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def depthwise(x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "b h2 w2 c"]:
    """Convolve each channel by itself, padded as `same_padding` says; computed in the type of `x`.

    Args:
        x: of any side.
        kernel: as `nn.Conv` has it under `feature_group_count=c`, k odd; rounded to the type of `x`.
        stride: 1 or 2.
    """
    form = shifted if jax.default_backend() == "cpu" else grouped
    return form(x, kernel, stride)


def same_padding(side: Any, size: int, stride: int) -> tuple[int, int]:
    """Give the zeros before and after an axis under TensorFlow's padding SAME, where an odd one comes after.

    PyTorch's padding by `size // 2` differs from it under stride 2 for an even side. `side` is a number, or what stands
    for any multiple of a number when a network is exported.
    """
    outputs = -(-side // stride)
    total = max((outputs - 1) * stride + size - side, 0)
    return total // 2, total - total // 2


def grouped(x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "b h2 w2 c"]:
    """Do the work of `depthwise` by XLA's grouped convolution, which on a CPU takes 8 to 31 times as long."""
    padding = [same_padding(side, kernel.shape[0], stride) for side in x.shape[1:3]]
    return jax.lax.conv_general_dilated(
        x,
        kernel.astype(x.dtype),
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted(x: Float[Array, "b h w c"], kernel: Float[Array, "k k 1 c"], stride: int) -> Float[Array, "b h2 w2 c"]:
    """Do the work of `depthwise` by a sum of shifted products, which XLA computes in one loop; summed in float32."""
    taps = _taps(kernel, x.dtype)
    products = [part * taps[i, j] for i, j, part in _windows(x, kernel.shape[0], stride)]
    return sum(products[1:], products[0]).astype(x.dtype)


def _forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return shifted(x, kernel, stride), (x, kernel)


def _backward(stride: int, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    # Without the barrier XLA computes the sum of the taps in each of the reductions that take it, those of a
    # normalisation before this: a sixth of a train step.
    of_x = jax.lax.optimization_barrier(_input_gradient(g, x, kernel, stride))
    return of_x, _kernel_gradient(g, x, kernel, stride)


shifted.defvjp(_forward, _backward)


def _input_gradient(g: Array, x: Array, kernel: Array, stride: int) -> Array:
    """Sum shifted gradients for each phase of the input's pixels, and interlace the phases.

    Along an axis, output o saw by tap i the input s o - low + i. So input s m + phase is reached by the taps for which
    s divides phase + low - i, from output m + (phase + low - i) / s.
    """
    (b, h, w, c), size, taps = g.shape, kernel.shape[0], _taps(kernel, x.dtype)
    reach = size // 2  # the farthest of those outputs from m
    padded = jnp.pad(g.astype(jnp.float32), ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    low_h, low_w = (same_padding(side, size, stride)[0] for side in x.shape[1:3])

    def phase(of_h: int, of_w: int) -> Array:
        products = []
        for i, j in itertools.product(range(size), repeat=2):
            down, odd_h = divmod(of_h + low_h - i, stride)
            right, odd_w = divmod(of_w + low_w - j, stride)
            if not odd_h and not odd_w:
                top, left = reach + down, reach + right
                products.append(padded[:, top : top + h, left : left + w] * taps[i, j])
        return sum(products[1:], products[0])

    if stride == 1:
        return phase(0, 0).astype(x.dtype)
    rows = []
    for of_h in range(stride):
        columns = jnp.stack([phase(of_h, of_w) for of_w in range(stride)], axis=3)
        rows.append(columns.reshape(b, h, stride * w, c))
    whole = jnp.stack(rows, axis=2).reshape(b, stride * h, stride * w, c)
    return whole[:, : x.shape[1], : x.shape[2]].astype(x.dtype)


def _kernel_gradient(g: Array, x: Array, kernel: Array, stride: int) -> Array:
    """Sum for each tap the products of its window of the input with the gradient.

    All sums are one reduction of many operands, so that the images are read once: up to 25 times as fast on a CPU as a
    reduction a tap. First within each image, which loses less of float32 than one long sum.
    """
    g = g.astype(jnp.float32)
    products = [part * g for _, _, part in _windows(x, kernel.shape[0], stride)]
    zeros = [jnp.zeros((), jnp.float32)] * len(products)

    def add(sums: list[Array], more: list[Array]) -> list[Array]:
        return [a + b for a, b in zip(sums, more, strict=True)]

    of_images = jax.lax.reduce(products, zeros, add, (1, 2))
    return jnp.stack(of_images).sum(axis=1).reshape(kernel.shape).astype(kernel.dtype)


def _taps(kernel: Array, dtype: jnp.dtype) -> Float[Array, "k k 1 1 1 c"]:
    size, _, _, c = kernel.shape
    return kernel.astype(dtype).astype(jnp.float32).reshape(size, size, 1, 1, 1, c)


def _windows(x: Array, size: int, stride: int) -> Iterator[tuple[int, int, Float[Array, "b h2 w2 c"]]]:
    """Give for each tap, by row and column, what the outputs see of the input by it."""
    h, w = x.shape[1:3]
    pads = (same_padding(h, size, stride), same_padding(w, size, stride))
    padded = jnp.pad(x.astype(jnp.float32), ((0, 0), *pads, (0, 0)))
    down, right = (stride * (-(-side // stride) - 1) + 1 for side in (h, w))
    for i, j in itertools.product(range(size), repeat=2):
        yield i, j, padded[:, i : i + down : stride, j : j + right : stride]
