"""Elastic deformation: every part of a slice moves a little, and its neighbours nearly alike."""

import jax
import numpy as np
from jaxtyping import Array, Float

from unet_jax.training.augment.smooth import smooth_field

CELLS = 4
"""Cells of the grid along a side: neighbouring nodes, a quarter of the side apart, move independently."""


def elastic(key: Array, shape: tuple[int, int, int], fraction: float) -> Float[Array, "b 2 h w"]:
    """Displace along each axis within `fraction` of the side: a cubic B-spline over nodes drawn evenly from the range.

    Seven in ten displacements are less than a third of the range. Below a fraction of
    1/16 no part of a square slice can fold over another: a derivative is at most 2 * fraction * CELLS.
    """
    b, h, w = shape
    nodes = jax.random.uniform(key, (b, 2, CELLS + 3, CELLS + 3), minval=-fraction, maxval=fraction)
    return smooth_field(nodes * np.array([h, w], np.float32).reshape(1, 2, 1, 1), h, w)
