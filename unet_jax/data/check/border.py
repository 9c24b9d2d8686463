"""A tumour's stored outline, compared with its mask."""

import numpy as np
from jaxtyping import Float64, UInt8

from unet_jax.data.polygon import fill_polygon, trace_polygon
from unet_jax.scoring.metrics import count_per_slice, iou


def border_iou(border: Float64[np.ndarray, "n 2"], mask: UInt8[np.ndarray, "h w"]) -> float:
    """Compute the intersection over union of a mask and the inside of an outline.

    Programs differ on whether the pixels under an outline belong to its inside: the better of the two readings counts.

    Args:
        border: corners (x, y) of the outline, counted from 1; the last is joined to the first.
        mask: 0 or 1.

    Returns:
        0 to 1; 1 where both are empty.
    """
    marked = mask > 0
    height, width = mask.shape
    # Far outside nothing is drawn, so that no coordinate, however absurd, costs time or overflows.
    side = max(height, width)
    corners = np.clip(border - 1, -side, 2 * side)
    inside = fill_polygon(corners, (height, width))
    outline = trace_polygon(corners, (height, width))
    return max(float(iou(count_per_slice(reading, marked))) for reading in (inside, inside | outline))
