"""Contact sheet of augmented slices, as PNG: originals on the left, beside them what training sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float32, UInt8
from matplotlib.figure import Figure

from unet_jax.reporting.figures import ORANGE, STYLE, write_png


@dataclass(frozen=True)
class SheetRow:
    """One slice, unchanged and then as augmented."""

    label: str
    """Stands at the left; lines are parted by newlines."""
    images: Float32[np.ndarray, "n h w"]
    """From 0, shown black, to 1, shown white; the first one is the original."""
    masks: UInt8[np.ndarray, "n h w"]
    """0 or 1."""


def sheet_figure(rows: Sequence[SheetRow]) -> Figure:
    """Draw slices with the outlines of their masks: a row a slice, the original in the first column.

    Args:
        rows: at least one, all with the same number of images.

    Returns:
        A figure of an axes an image, row after row.
    """
    # In inches, laid out by hand, as the gallery is.
    side, gap, label, head = 1.6, 0.05, 1.15, 0.35
    n, columns = len(rows), len(rows[0].images)
    width, height = label + columns * (side + gap), head + n * (side + gap)
    titles = ["Original", *(f"Version {k}" for k in range(1, columns))]
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        for i, row in enumerate(rows):
            bottom = height - head - (i + 1) * (side + gap) + gap
            middle = (bottom + side / 2) / height
            figure.text((label - 0.12) / width, middle, row.label, ha="right", va="center", linespacing=1.5)
            for j, (image, mask) in enumerate(zip(row.images, row.masks, strict=True)):
                box = ((label + j * (side + gap)) / width, bottom / height, side / width, side / height)
                axes = figure.add_axes(box)
                axes.set_axis_off()
                axes.imshow(image, cmap="gray", vmin=0, vmax=1)
                if 0 < np.count_nonzero(mask) < mask.size:  # else there is no line, and matplotlib warns
                    axes.contour(mask.astype(np.float32), levels=[0.5], colors=[ORANGE], linewidths=1.2)
                if i == 0:
                    axes.set_title(titles[j])
    return figure


def sheet_png(rows: Sequence[SheetRow], path: Path) -> None:
    """Write `sheet_figure` to `path` as PNG."""
    write_png(sheet_figure(rows), path, dpi=100)
