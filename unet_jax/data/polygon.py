"""Polygons to pixels: the inside of a polygon, and the pixels that its outline passes through."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

_EDGES = 1000
"""Edges drawn at a time, so that a polygon of any length takes little memory."""


def fill_polygon(corners: Float64[np.ndarray, "n 2"], shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels whose centre lies inside a polygon, by the even-odd rule.

    A centre exactly on the outline is inside on a left or upper side, and outside on a right or lower one, so that
    polygons that share a side share no pixel.

    Args:
        corners: (x, y) in pixels, float64 (n, 2), finite, counted from 0 at the centre of the first pixel; the last one
            is joined to the first one.
        shape: height and width of the result.
    """
    height, width = shape
    crossings = np.zeros((height, width + 1), np.uint8)  # whose parity is all that matters
    for start, end in _edges(corners):
        # Rows whose centre line an edge crosses: from its upper end, included, to its lower one, excluded.
        upper, lower = np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])
        first, stop = (np.clip(np.ceil(y), 0, height).astype(np.int64) for y in (upper, lower))
        edge, k = _counted(stop - first)
        row = first[edge] + k
        step = end[edge] - start[edge]
        x = start[edge, 0] + (row - start[edge, 1]) * step[:, 0] / step[:, 1]
        np.add.at(crossings, (row, np.clip(np.ceil(x), 0, width).astype(np.int64)), 1)
    return np.cumsum(crossings, axis=1, dtype=np.uint8)[:, :width] % 2 == 1


def trace_polygon(corners: Float64[np.ndarray, "n 2"], shape: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Mark the pixels that a polygon's outline passes through.

    Args:
        corners: as `fill_polygon` takes them; the work grows with the length of the sides, outside the shape too.
        shape: height and width of the result.
    """
    height, width = shape
    outline = np.zeros((height, width), bool)
    for start, end in _edges(corners):
        step = end - start
        length = np.ceil(np.abs(step).max(1)).astype(np.int64)  # in pixels, so that no pixel is stepped over
        edge, k = _counted(length + 1)
        x, y = np.rint(start[edge] + step[edge] * (k / np.maximum(length[edge], 1))[:, None]).astype(np.int64).T
        seen = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        outline[y[seen], x[seen]] = True
    return outline


def _edges(corners: Float64[np.ndarray, "n 2"]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the beginnings and ends of a polygon's sides, up to `_EDGES` at a time."""
    ends = np.roll(corners, -1, axis=0)
    for i in range(0, len(corners), _EDGES):
        yield corners[i : i + _EDGES], ends[i : i + _EDGES]


def _counted(counts: Shaped[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"]]:
    """Repeat each index as often as its count says, and number the repetitions: [2, 1] gives [0, 0, 1], [0, 1, 0]."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
