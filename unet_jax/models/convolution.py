"""Convolution with stride 1, its gradient written by hand for a CPU."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.models.compiler import has_onednn
from unet_jax.models.sums import channel_sums

Pads = tuple[tuple[int, int], tuple[int, int]]
"""Zeros above and below, left and right."""


def convolve(
    x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"], dtype: jnp.dtype, pads: Pads
) -> Float[Array, "b h2 w2 o"]:
    """Convolve with stride 1, computed in `dtype`."""
    form = by_hand if jax.default_backend() == "cpu" else plain
    return form(x.astype(dtype), kernel.astype(dtype), pads)


def plain(x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"], pads: Pads) -> Float[Array, "b h2 w2 o"]:
    """Do the work of `convolve` with XLA's own gradient."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC"))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def by_hand(x: Float[Array, "b h w i"], kernel: Float[Array, "kh kw i o"], pads: Pads) -> Float[Array, "b h2 w2 o"]:
    """Do the work of `convolve` with gradients in the forms that a CPU computes fast.

    The input's is a convolution with the kernel turned round; XLA's own is told that it runs backwards, which its
    library does not know for bfloat16, so that it is computed in float32. The gradient of a 1x1 kernel in float32 is
    a matrix product over all pixels, for which nothing need be transposed (3 to 10 times as fast). XLA's own form of
    it must not reach oneDNN: with one output channel it comes out wrong there (jaxlib 0.12.0.1).
    """
    return plain(x, kernel, pads)


def _forward(x: Array, kernel: Array, pads: Pads) -> tuple[Array, tuple[Array, Array]]:
    return plain(x, kernel, pads), (x, kernel)


def _backward(pads: Pads, kept: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = kept
    sides = kernel.shape[:2]
    (top, bottom), (left, right) = pads
    rest = ((sides[0] - 1 - top, sides[0] - 1 - bottom), (sides[1] - 1 - left, sides[1] - 1 - right))
    of_x = plain(g, kernel[::-1, ::-1].swapaxes(2, 3), rest)
    if sides == (1, 1) and pads == ((0, 0), (0, 0)) and x.dtype == jnp.float32:
        return of_x, pixel_product(x, g)
    if has_onednn():
        return of_x, dilated(x, g, rest)
    return of_x, jax.linear_transpose(lambda k: plain(x, k, pads), kernel)(g)[0]


def pixel_product(x: Float[Array, "b h w i"], g: Float[Array, "b h w o"]) -> Float[Array, "1 1 i o"]:
    """Compute the gradient of a 1x1 kernel: a matrix product over all pixels, for which nothing is transposed."""
    pixels, gradients = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    return jax.lax.dot_general(pixels, gradients, (((0,), (0,)), ((), ())))[None, None]


def dilated(x: Float[Array, "b h w i"], g: Float[Array, "b h2 w2 o"], pads: Pads) -> Float[Array, "kh kw i o"]:
    """Compute the gradient of a kernel as a convolution of `g` with `x`, for oneDNN.

    The images of the batch become channels, and the channels of `g` columns, of which the kernel `x` sees each `o`-th.
    So one output row has all of a kernel row's gradients for one input channel: o kw columns to each weight that is
    loaded, where XLA's own form, with the input's channels as a batch of images, has kw.

    Args:
        x: input of the convolution.
        g: gradient of its output.
        pads: those of the input's gradient.
    """
    if x.shape[0] == 1 and g.shape[-1] == 1:
        # A second image, of zeros: with one channel of one pixel jaxlib 0.12.0.1 crashes in bfloat16.
        x, g = (jnp.pad(array, ((0, 1), (0, 0), (0, 0), (0, 0))) for array in (x, g))
    b, h, w, i = x.shape
    padded = jnp.pad(g, ((0, 0), *pads, (0, 0)))
    _, tall, wide, o = padded.shape
    images = padded.reshape(b, -1).T.reshape(1, tall, wide * o, b)
    product = jax.lax.conv_general_dilated(
        images, x, (1, 1), "VALID", rhs_dilation=(1, o), dimension_numbers=("NHWC", "IHWO", "NHWC")
    )
    return product.reshape(tall - h + 1, wide - w + 1, o, i)[::-1, ::-1].swapaxes(2, 3)


by_hand.defvjp(_forward, _backward)


@jax.custom_vjp
def add_bias(x: Float[Array, "b h w o"], bias: Float[Array, " o"]) -> Float[Array, "b h w o"]:
    """Add a number a channel, rounded to the type of `x`; its gradient is summed in float32."""
    return x + bias.astype(x.dtype).reshape(1, 1, 1, -1)


add_bias.defvjp(lambda x, bias: (add_bias(x, bias), None), lambda _, g: (g, channel_sums(g)[0]))
