"""Gallery of predictions: slices beside their true and predicted masks, as PNG. Matplotlib only, no pyplot."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Bool, Num, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unet_jax.config import TUMORS
from unet_jax.reporting.figures import ORANGE, SKY, STYLE
from unet_jax.reporting.pictures import square_around
from unet_jax.scoring.metrics import dice
from unet_jax.scoring.slices import SliceScore


def choose_gallery(scores: Iterable[SliceScore], per_tumor: int = 3) -> list[SliceScore]:
    """Choose representative slices: of each tumour type those at even quantiles of native Dice, not best nor worst.

    With `per_tumor` 3 they stand at the quartiles, about the 25th, 50th and 75th percentile of their type.

    Returns:
        Distinct slices, by type in the order of `config.TUMORS`, then by rising Dice; a type of fewer slices gives all.
    """
    scores, chosen = list(scores), []
    for tumor in TUMORS:
        group = sorted((s for s in scores if s.tumor == tumor), key=lambda s: (float(dice(s.native)), s.slice))
        n, k = len(group), min(per_tumor, len(group))
        chosen += [group[(i + 1) * n // (k + 1)] for i in range(k)]
    return chosen


@dataclass(frozen=True)
class GalleryRow:
    """One slice of the gallery."""

    image: Num[np.ndarray, "h w"]
    """Raw intensities."""
    mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]
    """True tumour."""
    pred: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]
    """Predicted tumour."""
    tumor: str
    """Tumour type."""
    slice: int
    """Number of the slice."""
    dice: float
    """Dice of the prediction."""


def gallery_figure(rows: Sequence[GalleryRow]) -> Figure:
    """Draw slices beside their masks: image, true mask, predicted mask, and both outlines on the enlarged image.

    Args:
        rows: at least one. Sizes may differ.

    Returns:
        A figure of four axes a row, row after row.
    """
    n = len(rows)
    # In inches, laid out by hand: pictures of equal size with a fixed gap, whatever the number of rows.
    side, gap, label, head, foot = 2.0, 0.06, 1.15, 0.35, 0.4
    width, height = label + 4 * (side + gap), head + n * (side + gap) + foot
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        for i, row in enumerate(rows):
            bottom = height - head - (i + 1) * (side + gap) + gap
            figure.text(
                (label - 0.12) / width,
                (bottom + side / 2) / height,
                f"{row.tumor.capitalize()}\nslice {row.slice}\nDice {row.dice:.2f}",
                ha="right",
                va="center",
                linespacing=1.5,
            )
            low, high = np.percentile(row.image, (1, 99))  # shown as black and white
            high = max(high, low + 1e-6)
            pictures = (
                ("Image", row.image, low, high),
                ("True mask", row.mask, 0, 1),
                ("Predicted mask", row.pred, 0, 1),
                ("Outlines, enlarged", row.image, low, high),
            )
            for j, (title, picture, black, white) in enumerate(pictures):
                box = ((label + j * (side + gap)) / width, bottom / height, side / width, side / height)
                axes = figure.add_axes(box)
                axes.set_axis_off()
                axes.imshow(picture, cmap="gray", vmin=black, vmax=white)
                if i == 0:
                    axes.set_title(title)
            outlines = figure.axes[-1]
            # The true outline is broad and the predicted one thin, so that both show where they meet.
            for mask, color, thickness in ((row.mask, SKY, 2.4), (row.pred, ORANGE, 1.2)):
                if 0 < np.count_nonzero(mask) < mask.size:  # else there is no line, and matplotlib warns
                    outlines.contour(np.asarray(mask, np.float32), levels=[0.5], colors=[color], linewidths=thickness)
            square = square_around(row.mask.astype(bool) | row.pred.astype(bool))
            if square is not None:
                x, y, extent = square
                # Pixel centres are whole numbers here.
                outlines.set_xlim(x - 0.5, x - 0.5 + extent)
                outlines.set_ylim(y - 0.5 + extent, y - 0.5)
        keys = [Line2D([], [], color=SKY, linewidth=2.4), Line2D([], [], color=ORANGE, linewidth=1.2)]
        right = (label + 4 * side + 3 * gap) / width
        figure.legend(
            keys,
            ["true outline", "predicted outline"],
            loc="lower right",
            bbox_to_anchor=(right, 0.0),
            ncols=2,
            borderaxespad=0.3,
        )
    return figure
