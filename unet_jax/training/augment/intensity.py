"""Bias field, contrast, brightness, gamma and noise: changes of a pixel's value, as `table.INTENSITY` has them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.training.augment.draws import draw_factors, draw_within
from unet_jax.training.augment.smooth import smooth_field

BIAS_CELLS = 2
"""Cells of the grid of a bias field along a side."""


def bias_field(key: Array, x: Float[Array, "b h w 1"], reach: float) -> Float[Array, "b h w 1"]:
    """Brighten some parts and darken others smoothly: x * (1 + field), the field within `reach` either way.

    The field is a cubic B-spline over nodes drawn evenly from the range, as a scanner's coil is uneven.
    """
    b, h, w, _ = x.shape
    nodes = jax.random.uniform(key, (b, 1, BIAS_CELLS + 3, BIAS_CELLS + 3), minval=-reach, maxval=reach)
    return x * (1 + smooth_field(nodes, h, w).reshape(x.shape))


def noise(key: Array, x: Float[Array, "b h w 1"], most: float) -> Float[Array, "b h w 1"]:
    """Add Gaussian noise: x + s * n, n standard normal for each pixel and s even from 0 to `most` for each slice."""
    key_of_slices, key_of_pixels = jax.random.split(key)
    deviation = jax.random.uniform(key_of_slices, (x.shape[0], 1, 1, 1), maxval=most)
    return x + deviation * jax.random.normal(key_of_pixels, x.shape)


def contrast(key: Array, x: Float[Array, "b h w 1"], more: float) -> Float[Array, "b h w 1"]:
    """Scale distances from the slice's mean: m + f * (x - m), with f from 1 / (1 + more) to 1 + more."""
    factor = draw_factors(key, x.shape[0], more).reshape(-1, 1, 1, 1)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    return mean + factor * (x - mean)


def brightness(key: Array, x: Float[Array, "b h w 1"], reach: float) -> Float[Array, "b h w 1"]:
    """Add a number to the whole slice: x + d, with d within `reach` either way."""
    return x + draw_within(key, x.shape[0], reach).reshape(-1, 1, 1, 1)


def gamma(key: Array, x: Float[Array, "b h w 1"], more: float) -> Float[Array, "b h w 1"]:
    """Bend the scale of greys: x ** f of x clipped to 0 to 1, with f from 1 / (1 + more) to 1 + more."""
    exponent = draw_factors(key, x.shape[0], more).reshape(-1, 1, 1, 1)
    return jnp.clip(x, 0.0, 1.0) ** exponent
