"""Plots as PNG files: learning curves, IoU over thresholds, gallery of predictions. Matplotlib only, no jax, no pyplot.

Each picture is a function that builds a Figure and one that writes it. The same input gives the same bytes.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from jaxtyping import Float64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

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


def history_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """Learning curves: loss, pixel accuracy and micro-IoU over epochs, train and validation, the best epoch marked.

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
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(13, 4.5), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1))
        FigureCanvasAgg(figure)
        loss, accuracy, micro_iou = figure.subplots(1, 3)
        panels = (
            (loss, "loss", "Loss"),
            (accuracy, "pixel_accuracy", "Pixel accuracy"),
            (micro_iou, "micro_iou", "Micro-IoU"),
        )
        for axes, name, title in panels:
            val = _series(records, "val", name)
            axes.plot(epochs, _series(records, "train", name), color=BLUE, label="train", **mark)
            axes.plot(epochs, val, color=VERMILLION, label="validation", **mark)
            if best is not None:
                _mark(
                    axes, float(epochs[best]), float(val[best]), f"highest validation micro-IoU: epoch {epochs[best]}"
                )
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


def threshold_figure(
    thresholds: Sequence[float], ious: Sequence[float] | Float64[np.ndarray, " t"], chosen: float | None
) -> Figure:
    """Micro-IoU on validation over thresholds, the one in use marked with its value.

    Args:
        thresholds: rising, in [0, 1].
        ious: one for each.
        chosen: the one in use. One that is not among `thresholds` gets a line, and no value; None marks nothing.

    Returns:
        A figure of one axes.
    """
    values = dict(zip(thresholds, ious, strict=True))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 4.5), layout=ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1))
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.plot(thresholds, ious, color=BLUE, marker="o", markersize=4, label="validation")
        axes.set_xlim(0, 1)
        axes.set_xlabel("Threshold (a pixel is tumour where its probability is at least this)")
        axes.set_ylabel("Micro-IoU at native resolution")
        if chosen is None:
            axes.set_title("Micro-IoU on validation")
        else:
            value = values.get(chosen, math.nan)
            _mark(axes, chosen, value, "chosen")
            found = "was not tried" if math.isnan(value) else f"gives micro-IoU {value:.3f}"
            axes.set_title(f"Threshold {chosen:g} {found} on validation")
    return figure


def history_png(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write `history_figure` to `path` as PNG."""
    _save(history_figure(records), path, dpi=120)


def threshold_png(
    thresholds: Sequence[float], ious: Sequence[float] | Float64[np.ndarray, " t"], chosen: float, path: Path
) -> None:
    """Write `threshold_figure` to `path` as PNG."""
    _save(threshold_figure(thresholds, ious, chosen), path, dpi=120)


def _save(figure: Figure, path: Path, dpi: int) -> None:
    # Without the version of matplotlib, which it writes by itself, equal pictures are equal files.
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})


def _series(records: Sequence[dict[str, Any]], part: str, name: str) -> np.ndarray:
    """One metric over epochs, NaN where it is missing or not finite."""
    values = np.array([r[part][name] for r in records], np.float64)  # None becomes NaN
    return np.where(np.isfinite(values), values, np.nan)


def _mark(axes: Axes, x: float, y: float, label: str) -> None:
    """The chosen point: a star, and a line down to its place on the axis."""
    axes.axvline(x, color=GREY, linestyle="--", linewidth=1, zorder=1)
    axes.plot(
        [x],
        [y],
        marker="*",
        markersize=15,
        linestyle="none",
        color=VERMILLION,
        markeredgecolor="black",
        markeredgewidth=0.8,
        label=label,
        zorder=4,
    )


def _add_learning_rate(axes: Axes, epochs: Sequence[int], rates: Sequence[float]) -> Line2D:
    right = axes.twinx()
    mark = "." if len(rates) == 1 else ""
    (line,) = right.plot(epochs, rates, color=GREY, linestyle=":", linewidth=1.3, marker=mark, label="learning rate")
    right.set_ylabel("Learning rate", color=GREY)
    right.tick_params(axis="y", colors=GREY)
    right.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    right.set_ylim(bottom=0)
    right.grid(False)
    return line
