"""Plots of the HTML report, and figures as SVG. Matplotlib only, no jax, no pyplot."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from unet_jax.config import TUMORS
from unet_jax.reporting.figures import BLUE, GREY, STYLE, VERMILLION

_GOLDEN = (math.sqrt(5) - 1) / 2


def reliability_figure(calibration: Mapping[str, Any]) -> Figure:
    """How often pixels of a probability are tumour: the diagonal is perfect; below, how many pixels there are of it.

    Args:
        calibration: `bins`, a list of low, high (in [0, 1], rising), pixels, mean_probability and fraction_tumor, the
            last two None where a bin is empty.

    Returns:
        A figure of two axes.
    """
    bins = calibration["bins"]
    filled = [b for b in bins if b["mean_probability"] is not None and b["fraction_tumor"] is not None]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 4.5), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1))
        FigureCanvasAgg(figure)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect calibration")
        upper.plot(
            [b["mean_probability"] for b in filled],
            [b["fraction_tumor"] for b in filled],
            color=BLUE,
            marker="o",
            markersize=4,
            label="network",
        )
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
        upper.set_ylabel("Fraction that is tumour")
        upper.set_title("Reliability of the probabilities")
        upper.legend(loc="upper left")
        lower.bar(
            [b["low"] for b in bins],
            [b["pixels"] for b in bins],
            width=[b["high"] - b["low"] for b in bins],
            align="edge",
            color=BLUE,
            edgecolor="white",
            linewidth=0.5,
        )
        if any(b["pixels"] for b in bins):  # a logarithmic axis of nothing has no limits
            lower.set_yscale("log")
        lower.set_ylabel("Pixels")
        lower.set_xlabel("Predicted probability")
    return figure


def dice_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Native Dice of every slice by tumour type: a point a slice, a box from quartile to quartile, the median marked.

    Args:
        rows: at least one; each with `tumor` and `native_dice`, in [0, 1] or None (left out).

    Returns:
        A figure of one axes, the types from above in the order of `config.TUMORS`; a type without slices is left out.
    """
    values = {t: [r["native_dice"] for r in rows if r["tumor"] == t and r["native_dice"] is not None] for t in TUMORS}
    groups = {tumor: np.sort(np.array(each, np.float64)) for tumor, each in values.items() if each}
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 4.5), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1))
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for place, each in enumerate(groups.values()):
            # Multiples of the golden ratio spread the points evenly, and the same way every time.
            spread = (np.arange(len(each)) * _GOLDEN % 1 - 0.5) * 0.6
            axes.plot(each, place + spread, color=BLUE, marker="o", markersize=3.5, linestyle="none", alpha=0.45, mew=0)
        if groups:
            axes.boxplot(
                list(groups.values()),
                positions=range(len(groups)),
                orientation="horizontal",
                widths=0.75,
                whis=(5, 95),
                showfliers=False,
                medianprops={"color": VERMILLION, "linewidth": 2.2},
            )
        axes.set_yticks(
            range(len(groups)),
            [f"{t.capitalize()}\n{len(g)} slices\nmedian {np.median(g):.3f}" for t, g in groups.items()],
        )
        axes.set_ylim(len(groups) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("Dice at native resolution")
        axes.set_title("Dice of every slice by tumour type")
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as SVG, letters as outlines; the same figure gives the same bytes."""
    file = io.BytesIO()
    # Else ids in the file are random, and it names the time and the version of matplotlib.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "unet-jax", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return file.getvalue()
