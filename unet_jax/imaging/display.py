"""Slices for a person to look at."""

import numpy as np
from jaxtyping import Shaped, UInt8

from unet_jax.imaging.formats.grey import as_float
from unet_jax.imaging.resize import filled, percentiles
from unet_jax.imaging.scan import compressed


def to_display(image: Shaped[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Turn a slice of any real type into a grey picture: 0 at its 1st percentile, 255 at its 99th, 0 if constant.

    What is masked is 0.
    """
    values = compressed(image)
    if not values.size:
        return np.zeros(image.shape, np.uint8)
    # Of floats in their own type, for the pixels of overlays to stay what they were.
    low, high = percentiles(image) if image.dtype.kind in "iu" else np.percentile(values, (1, 99))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(image.shape, np.uint8)
    scaled = (as_float(filled(image, low)) - float(low)) * (255 / float(high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
