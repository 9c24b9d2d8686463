"""Conversion of colour to grey."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Shaped

BAND = 256
"""Rows at a time: the channels of a large picture in floating point take gigabytes."""


def to_grey(
    height: int,
    band: Callable[[slice], Shaped[np.ndarray, "rows w channels"]],
    opaque: float | None = None,
    *,
    premultiplied: bool = False,
) -> Shaped[np.ndarray, "h w"]:
    """Turn a colour picture into grey: the channel itself where the three are equal everywhere, else BT.601's luma.

    Args:
        height: height of the picture.
        band: function from rows to their pixels: red, green, blue, and others that do not matter.
        opaque: value of a fourth channel, the opacity, where nothing behind is seen; the picture is laid over black.
            None where the fourth is none.
        premultiplied: the colours are over black already.

    Returns:
        The channel in the picture's own type, or luma in the type of `as_float`; masked where it is transparent.
    """
    bands = [slice(start, start + BAND) for start in range(0, height, BAND)]
    if opaque is None:
        return _grey(bands, band)
    opacity = np.concatenate([band(rows)[..., 3] for rows in bands])
    if premultiplied or (opacity == opaque).all():
        grey = _grey(bands, band)
    else:
        grey = _grey(bands, lambda rows: _over_black(band(rows), opaque))
    transparent = opacity == 0
    return np.ma.MaskedArray(grey, transparent) if transparent.any() else grey


def opaque_value(opacity: Shaped[np.ndarray, "*shape"]) -> float | None:
    """Tell the value of full opacity by the type of a fourth channel, or its values; None where that is no opacity."""
    if opacity.dtype in (np.uint8, np.uint16):
        return float(np.iinfo(opacity.dtype).max)
    return 1.0 if opacity.dtype.kind == "f" and ((opacity >= 0) & (opacity <= 1)).all() else None


def _over_black(colours: np.ndarray, opaque: float) -> np.ndarray:
    colours, opacity = colours[..., :3], colours[..., 3:4]
    if colours.dtype.kind == "f":
        return colours * (opacity / opaque)
    top = np.uint32(opaque)
    return ((colours.astype(np.uint32) * opacity + top // 2) // top).astype(colours.dtype)


def _grey(bands: list[slice], band: Callable[[slice], np.ndarray]) -> np.ndarray:
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
