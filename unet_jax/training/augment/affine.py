"""Rotation, zoom, stretch, shear and shift as matrices.

A matrix takes a place (y, x, 1) of the changed slice to the place of the original that is seen there, both in pixels
from the centre of the slice. `table.AFFINE` has the operations.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.training.augment.draws import draw_factors, draw_within


def rotation(key: Array, shape: tuple[int, int, int], degrees: float) -> Float[Array, "b 3 3"]:
    """Turn about the centre, by an angle within `degrees` either way: (y cos - x sin, y sin + x cos)."""
    angle = draw_within(key, shape[0], math.radians(degrees))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return _matrix(((cos, -sin, 0), (sin, cos, 0)))


def zoom(key: Array, shape: tuple[int, int, int], more: float) -> Float[Array, "b 3 3"]:
    """Enlarge from the centre by a factor f from 1 / (1 + more) to 1 + more: (y / f, x / f)."""
    factor = draw_factors(key, shape[0], more)
    return _matrix(((1 / factor, 0, 0), (0, 1 / factor, 0)))


def stretch(key: Array, shape: tuple[int, int, int], more: float) -> Float[Array, "b 3 3"]:
    """Change height against width by a factor f from 1 / (1 + more) to 1 + more, areas kept: (y / sqrt f, x sqrt f)."""
    root = jnp.sqrt(draw_factors(key, shape[0], more))
    return _matrix(((1 / root, 0, 0), (0, root, 0)))


def shear(key: Array, shape: tuple[int, int, int], degrees: float) -> Float[Array, "b 3 3"]:
    """Slant upright lines by an angle a within `degrees` either way: (y, x + y tan a)."""
    slope = jnp.tan(draw_within(key, shape[0], math.radians(degrees)))
    return _matrix(((1, 0, 0), (slope, 1, 0)))


def shift(key: Array, shape: tuple[int, int, int], fraction: float) -> Float[Array, "b 3 3"]:
    """Move down and to the right, each by a distance d within `fraction` of the side either way: (y - d, x - d)."""
    b, h, w = shape
    down, right = draw_within(key, 2 * b, fraction).reshape(2, b)
    return _matrix(((1, 0, -down * h), (0, 1, -right * w)))


def _matrix(rows: tuple[tuple[Float[Array, " b"] | int, ...], ...]) -> Float[Array, "b 3 3"]:
    """Put together matrices of their upper two rows, of which at least one entry is an array."""
    entries = jnp.broadcast_arrays(*rows[0], *rows[1], 0, 0, 1)
    return jnp.stack(entries, axis=-1).astype(jnp.float32).reshape(-1, 3, 3)
