"""Conversion of colour to grey."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

BAND = 256
"""Rows at a time: the channels of a large picture in floating point take gigabytes."""


def to_grey(height: int, band: Callable[[slice], Shaped[np.ndarray, "rows w channels"]]) -> Shaped[np.ndarray, "h w"]:
    """Turn a colour picture into grey: the channel itself where the three are equal everywhere, else BT.601's luma.

    Args:
        height: height of the picture.
        band: function from rows to their pixels: red, green, blue, and others that do not matter.

    Returns:
        The channel in the picture's own type, or luma in the type of `as_float`.
    """
    bands = [slice(start, start + BAND) for start in range(0, height, BAND)]
    if all((colours[..., 1:3] == colours[..., :1]).all() for colours in map(band, bands)):
        return np.concatenate([band(rows)[..., 0] for rows in bands])
    return np.concatenate([_luma(band(rows)) for rows in bands])


def as_float(array: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Convert to the smallest of float32 and float64 that holds every value of the array's type."""
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _luma(colours: np.ndarray) -> np.ndarray:
    red, green, blue = (as_float(colours[..., i]) for i in range(3))
    # 0.299 red + 0.587 green + 0.114 blue, in the form that leaves grey pixels exactly as they are.
    return green + 0.299 * (red - green) + 0.114 * (blue - green)
