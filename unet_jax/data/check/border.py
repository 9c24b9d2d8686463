"""Agreement of a tumour's outline with its mask."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Shaped, UInt8

_EDGES = 1000
"""Edges drawn at a time, so that an outline of any length takes little memory."""


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
    inside, outline = _draw(border, mask.shape)
    return max(_iou(inside, marked), _iou(inside | outline, marked))


def _iou(a: Bool[np.ndarray, "h w"], b: Bool[np.ndarray, "h w"]) -> float:
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def _draw(
    border: Float64[np.ndarray, "n 2"], shape: tuple[int, ...]
) -> tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Draw the pixels whose centre is inside (even-odd rule), and those that the outline passes through."""
    height, width = shape
    # Far outside nothing is drawn, so that no coordinate, however absurd, costs time or overflows.
    corners = np.clip(border - 1, -max(shape), 2 * max(shape))
    crossings = np.zeros((height, width + 1), np.uint8)  # whose parity is all that matters
    outline = np.zeros((height, width), bool)
    for start, end in _edges(corners):
        step = end - start
        # Rows whose centre line an edge crosses: from its upper end, included, to its lower one, excluded.
        upper, lower = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
        first, stop = (np.clip(np.ceil(y), 0, height).astype(np.int64) for y in (upper, lower))
        edge, k = _counted(stop - first)
        row = first[edge] + k
        x = start[edge, 0] + (row - start[edge, 1]) * step[edge, 0] / step[edge, 1]
        np.add.at(crossings, (row, np.clip(np.ceil(x), 0, width).astype(np.int64)), 1)
        length = np.ceil(np.abs(step).max(1)).astype(np.int64)  # in pixels, so that no pixel is stepped over
        edge, k = _counted(length + 1)
        x, y = np.rint(start[edge] + step[edge] * (k / np.maximum(length[edge], 1))[:, None]).astype(np.int64).T
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        outline[y[seen], x[seen]] = True
    return np.cumsum(crossings, axis=1, dtype=np.uint8)[:, :width] % 2 == 1, outline


def _edges(corners: Float64[np.ndarray, "n 2"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    ends = np.roll(corners, -1, axis=0)
    for i in range(0, len(corners), _EDGES):
        yield corners[i : i + _EDGES], ends[i : i + _EDGES]


def _counted(counts: Shaped[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
    """Repeat each index as often as its count says, and number its repetitions: [2, 1] gives [0, 0, 1], [0, 1, 0]."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
