"""Blur and low resolution: loss of detail, as `table.INTENSITY` has them."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def blur(key: Array, x: Float[Array, "b h w 1"], most: float) -> Float[Array, "b h w 1"]:
    """Blur with a Gaussian of a standard deviation even from 0 to `most` pixels."""
    deviation = jax.random.uniform(key, (x.shape[0],), maxval=most)
    return mix_rows_and_columns(x, *(gaussian(deviation, side) for side in x.shape[1:3]))


def gaussian(deviation: Float[Array, " b"], side: int) -> Float[Array, "b side side"]:
    """Weights that blur a row of pixels: exp(-(d / s)**2 / 2) at distance d, divided by their sum within the row.

    Args:
        deviation: s in pixels, at least 0, where the weights are those of no change.
        side: pixels.
    """
    place = np.arange(side, dtype=np.float32)
    distance = (place - place[:, None])[None]
    least = 0.1  # a weight of 1e-22 for the neighbours: none
    weights = jnp.exp(-0.5 * (distance / jnp.maximum(deviation, least).reshape(-1, 1, 1)) ** 2)
    return weights / weights.sum(axis=2, keepdims=True)


def low_resolution(key: Array, x: Float[Array, "b h w 1"], more: float) -> Float[Array, "b h w 1"]:
    """Make pixels f times as large, with f even from 1 to 1 + more: means over cells, interpolated back bilinearly."""
    factor = jax.random.uniform(key, (x.shape[0],), minval=1.0, maxval=1.0 + more)
    return mix_rows_and_columns(x, *(coarsening(factor, side) for side in x.shape[1:3]))


def coarsening(factor: Float[Array, " b"], side: int) -> Float[Array, "b side side"]:
    """Weights that make of a row of pixels what is left of it at a lower resolution.

    The cells are f pixels wide, from the first pixel on; the last one ends with the row. A cell's value is the mean
    over it, and a pixel's that of the straight line between the centres of the two cells about it.

    Args:
        factor: f, at least 1, where the weights are those of no change.
        side: pixels.
    """
    f = factor.reshape(-1, 1)
    last = jnp.ceil(side / f) - 1
    # Place of each pixel's centre on the scale of the cells' numbers, each of which is the centre of its cell.
    place = jnp.clip((np.arange(side, dtype=np.float32)[None] + 0.5) / f - 0.5, 0, last)
    cell = jnp.floor(place)
    of_next = (place - cell)[..., None]
    here, following = (_means(jnp.minimum(c, last), f, side) for c in (cell, cell + 1))
    return here * (1 - of_next) + following * of_next


def _means(cell: Float[Array, "b side"], f: Float[Array, "b 1"], side: int) -> Float[Array, "b side side"]:
    """Weights of the mean over the cell of each pixel: the parts of each pixel of the row that are in it."""
    low, high = (cell * f)[..., None], jnp.minimum((cell + 1) * f, side)[..., None]
    pixel = np.arange(side, dtype=np.float32)[None, None]
    covered = jnp.clip(jnp.minimum(high, pixel + 1) - jnp.maximum(low, pixel), 0, 1)
    return covered / (high - low)


def mix_rows_and_columns(
    x: Float[Array, "b h w 1"], down: Float[Array, "b h h"], across: Float[Array, "b w w"]
) -> Float[Array, "b h w 1"]:
    """Replace each pixel by a weighted sum of its column's, then of its row's; weights of a pixel are a matrix row."""
    columns = jnp.matmul(down, x[..., 0], precision="highest")
    return jnp.matmul(columns, across.swapaxes(1, 2), precision="highest")[..., None]
