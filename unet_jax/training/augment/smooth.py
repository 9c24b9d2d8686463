"""Smooth fields from a few numbers: uniform cubic B-splines."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32


def smooth_field(nodes: Float[Array, "b c i j"], h: int, w: int) -> Float[Array, "b c h w"]:
    """Spread a grid of numbers over h x w pixels; all values stay between the grid's least and greatest.

    Args:
        nodes: control points of a uniform cubic B-spline, at least 4 along each side: i - 3 cells over the height and
            j - 3 over the width.
        h, w: in pixels.
    """
    down, across = (jnp.asarray(_basis(n, side)) for n, side in zip(nodes.shape[2:], (h, w), strict=True))
    columns = jnp.matmul(down[None, None], nodes, precision="highest")
    return jnp.matmul(columns, across.T[None, None], precision="highest")


def _basis(nodes: int, side: int) -> Float32[np.ndarray, "side nodes"]:
    """Weight of each node at the centre of each pixel; those of a pixel are at least 0 and their sum is 1."""
    place = (np.arange(side) + 0.5) / side * (nodes - 3)
    d = np.abs(place[:, None] - np.arange(-1, nodes - 1))
    near, far = 2 / 3 - d**2 + d**3 / 2, np.clip(2 - d, 0, None) ** 3 / 6
    return np.where(d < 1, near, far).astype(np.float32)
