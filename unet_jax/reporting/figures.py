"""Plots of training and of an evaluation: learning curves, thresholds, reliability, Dice. Matplotlib only, no pyplot.

Each plot is a function that builds a Figure; `write_png` and `svg` make files of it. The same input gives the same
bytes.
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from unet_jax.config import TUMORS
from unet_jax.shared.files import replacing

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, VERMILLION, SKY, ORANGE, GREY = "#0072B2", "#D55E00", "#56B4E9", "#E69F00", "#6B6B6B"

STYLE: dict[Any, Any] = {  # Any: matplotlib types its keys as a list of literals
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
}

_GOLDEN = (math.sqrt(5) - 1) / 2


def history_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Plot learning curves: loss, pixel accuracy and micro-IoU of training and validation, the best epoch marked.

    The best epoch is that of the highest validation micro-IoU, of equals the latest: the one whose checkpoint is kept.

    Args:
        records: lines of `metrics.jsonl`, at least one. A value that is None or not finite leaves a gap.

    Returns:
        A figure of three axes, and a fourth for the learning rate on the loss's right side.
    """
    epochs = [r["epoch"] for r in records]
    val_iou = np.nan_to_num(_series(records, "val", "micro_iou"), nan=-np.inf)
    best = int(np.flatnonzero(val_iou == val_iou.max())[-1]) if np.isfinite(val_iou).any() else None
    # A line through one or a few points is not seen without marks.
    mark: dict[str, Any] = {"marker": "o", "markersize": 4} if len(records) <= 30 else {}
    with _new_figure(13.0, 4.5) as figure:
        loss, _, micro_iou = panels = figure.subplots(1, 3)
        titles = {"loss": "Loss", "pixel_accuracy": "Pixel accuracy", "micro_iou": "Micro-IoU"}
        for axes, (name, title) in zip(panels, titles.items(), strict=True):
            val = _series(records, "val", name)
            axes.plot(epochs, _series(records, "train", name), color=BLUE, label="train", **mark)
            axes.plot(epochs, val, color=VERMILLION, label="validation", **mark)
            if best is not None:
                label = f"highest validation micro-IoU: epoch {epochs[best]}"
                _mark(axes, float(epochs[best]), float(val[best]), label)
                if math.isfinite(val[best]):
                    title += f" (best epoch: {val[best]:.3f})"
            axes.set_title(title)
            axes.set_xlabel("Epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if len(records) == 1:
                axes.set_xlim(epochs[0] - 1, epochs[0] + 1)
        micro_iou.set_ylim(0, 1)
        rate = _add_learning_rate(loss, epochs, [r["learning_rate"] for r in records])
        figure.legend(handles=[*loss.get_legend_handles_labels()[0], rate], loc="outside lower center", ncols=4)
    return figure


def threshold_figure(thresholds: Sequence[float], ious: Sequence[float], chosen: float) -> Figure:
    """Plot the micro-IoU on validation over thresholds, the one in use marked with its value.

    Args:
        thresholds: rising, in [0, 1].
        ious: one for each.
        chosen: the one in use. One that is not among `thresholds` gets a line, and no value.
    """
    values = dict(zip(thresholds, ious, strict=True))
    with _new_figure(7.0, 4.5) as figure:
        axes = figure.subplots()
        axes.plot(thresholds, ious, color=BLUE, marker="o", markersize=4, label="validation")
        axes.set_xlim(0, 1)
        axes.set_xlabel("Threshold (a pixel is tumour where its probability is at least this)")
        axes.set_ylabel("Micro-IoU at native resolution")
        value = values.get(chosen, math.nan)
        _mark(axes, chosen, value, "chosen")
        found = "was not tried" if math.isnan(value) else f"gives micro-IoU {value:.3f}"
        axes.set_title(f"Threshold {chosen:g} {found} on validation")
    return figure


def reliability_figure(calibration: Mapping[str, Any]) -> Figure:
    """Plot how often pixels of a probability are tumour, and below how many pixels there are of each probability.

    Args:
        calibration: `bins`, a list of low, high (in [0, 1], rising), pixels, mean_probability and fraction_tumor, the
            last two None where a bin is empty.

    Returns:
        A figure of two axes; perfect calibration is the upper one's diagonal.
    """
    bins = calibration["bins"]
    filled = [b for b in bins if b["pixels"]]
    means, fractions = [b["mean_probability"] for b in filled], [b["fraction_tumor"] for b in filled]
    lows, widths = [b["low"] for b in bins], [b["high"] - b["low"] for b in bins]
    with _new_figure(7.0, 4.5) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfect calibration")
        upper.plot(means, fractions, color=BLUE, marker="o", markersize=4, label="network")
        upper.set_xlim(0, 1)
        upper.set_ylim(0, 1)
        upper.set_ylabel("Fraction that is tumour")
        upper.set_title("Reliability of the probabilities")
        upper.legend(loc="upper left")
        pixels = [b["pixels"] for b in bins]
        lower.bar(lows, pixels, widths, align="edge", color=BLUE, edgecolor="white", linewidth=0.5)
        if filled:  # a logarithmic axis of nothing has no limits
            lower.set_yscale("log")
        lower.set_ylabel("Pixels")
        lower.set_xlabel("Predicted probability")
    return figure


def dice_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot the native Dice of every slice by tumour type: a point a slice, a box between quartiles, the median marked.

    Args:
        rows: at least one; each with `tumor` and `native_dice`, in [0, 1].

    Returns:
        A figure of one axes, the types from above in the order of `config.TUMORS`; a type without slices is left out.
    """
    groups = {}
    for tumor in TUMORS:
        values = [r["native_dice"] for r in rows if r["tumor"] == tumor]
        if values:
            groups[tumor] = np.sort(np.array(values, np.float64))
    with _new_figure(7.0, 4.5) as figure:
        axes = figure.subplots()
        for place, each in enumerate(groups.values()):
            # Multiples of the golden ratio spread the points evenly, and the same way every time.
            spread = (np.arange(len(each)) * _GOLDEN % 1 - 0.5) * 0.6
            axes.plot(each, place + spread, color=BLUE, marker="o", markersize=3.5, linestyle="none", alpha=0.45, mew=0)
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


def history_png(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write `history_figure` to `path` as PNG."""
    write_png(history_figure(records), path, dpi=120)


def write_png(figure: Figure, path: Path, dpi: int) -> None:
    """Write a figure as PNG by `replacing`; equal figures give equal bytes."""
    # matplotlib would name its version.
    with matplotlib.rc_context(STYLE), replacing(path) as file:
        figure.savefig(file, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})


def svg(figure: Figure) -> bytes:
    """Draw a figure as SVG, letters as outlines; equal figures give equal bytes."""
    file = io.BytesIO()
    # Else ids in the file are random, and it names the time and the version of matplotlib.
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "unet-jax", "svg.fonttype": "path"}):
        figure.savefig(file, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    return file.getvalue()


@contextmanager
def _new_figure(width: float, height: float) -> Iterator[Figure]:
    """Make a figure of that size in inches, to be drawn on in the project's style."""
    with matplotlib.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1))


def _series(records: Sequence[dict[str, Any]], part: str, name: str) -> np.ndarray:
    """One metric over epochs, NaN where it is missing or not finite."""
    values = np.array([r[part][name] for r in records], np.float64)  # None becomes NaN
    return np.where(np.isfinite(values), values, np.nan)


def _mark(axes: Axes, x: float, y: float, label: str) -> None:
    """Mark the chosen point by a star, and by a line down to its place on the axis."""
    axes.axvline(x, color=GREY, linestyle="--", linewidth=1, zorder=1)
    edge: dict[str, Any] = {"markeredgecolor": "black", "markeredgewidth": 0.8}
    axes.plot([x], [y], "*", color=VERMILLION, markersize=15, label=label, zorder=4, **edge)


def _add_learning_rate(axes: Axes, epochs: Sequence[int], rates: Sequence[float]) -> Line2D:
    """Plot the learning rate on a scale of its own, to the right."""
    right = axes.twinx()
    mark = "." if len(rates) == 1 else ""
    (line,) = right.plot(epochs, rates, color=GREY, linestyle=":", linewidth=1.3, marker=mark, label="learning rate")
    right.set_ylabel("Learning rate", color=GREY)
    right.tick_params(axis="y", colors=GREY)
    right.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    right.set_ylim(bottom=0)
    right.grid(False)
    return line
