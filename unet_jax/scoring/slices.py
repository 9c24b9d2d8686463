"""Scored slices: counts, distances and tumours of each, rows of tables, figures of many. NumPy, float64."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from unet_jax.config import TUMORS
from unet_jax.scoring.components import Detection, detect
from unet_jax.scoring.metrics import (
    Counts,
    count_per_slice,
    dice,
    iou,
    pixel_accuracy,
    precision,
    sensitivity,
    specificity,
    volumetric_similarity,
)
from unet_jax.scoring.surface import SurfaceScore, surface_scores

RESOLUTIONS = ("network", "native")

COUNT_MEASURES: dict[str, Callable[[Counts], Any]] = {
    measure.__name__: measure
    for measure in (iou, dice, pixel_accuracy, precision, sensitivity, specificity, volumetric_similarity)
}
"""Measures that are made of a slice's counts."""

SURFACE_MEASURES = ("hd95", "assd", "nsd")
"""Measures that are made of a slice's outlines."""

MEASURES = tuple(name for name in (*COUNT_MEASURES, *SURFACE_MEASURES) if name != "pixel_accuracy")
"""Measures of a slice that follow EMPTY_RULE."""

_FIRST = ("iou", "dice", "pixel_accuracy")
"""The measures of a slice that stand first in a row."""

_FURTHER = tuple(name for name in MEASURES if name not in _FIRST)

FIGURES = (
    "micro_iou",
    "micro_dice",
    "mean_iou",
    "mean_dice",
    "pixel_accuracy",
    *SURFACE_MEASURES,
    "precision",
    "sensitivity",
    "specificity",
    "volumetric_similarity",
    "missed",
    "micro_precision",
    "micro_sensitivity",
    "micro_specificity",
)
"""Figures reported of some slices. micro_* and pixel_accuracy are pooled over their pixels; missed is the part of the
slices with a tumour of which no pixel is predicted; the others are means of the slices' own scores."""


@dataclass(frozen=True)
class SliceScore:
    """One scored slice."""

    slice: int
    """Number of the slice."""
    pid: str
    """Patient."""
    tumor: str
    """Tumour type, one of `config.TUMORS`."""
    network: Counts
    """Pixels at the network's resolution, host integers."""
    native: Counts
    """Pixels at the slice's own resolution, host integers."""
    network_surface: SurfaceScore
    """Distances between the outlines at the network's resolution."""
    native_surface: SurfaceScore
    """Distances between the outlines at the slice's own resolution."""
    detection: Detection
    """Tumours at the slice's own resolution."""


def score_slice(
    *,
    slice: int,
    pid: str,
    tumor: str,
    network_pred: Bool[np.ndarray, "size size"],
    network_mask: Bool[np.ndarray, "size size"],
    native_pred: Bool[np.ndarray, "h w"],
    native_mask: Bool[np.ndarray, "h w"],
    spacing: float | None,
    tolerance: float,
) -> SliceScore:
    """Score one slice at the network's size and at its own.

    Args:
        slice, pid, tumor: as in `SliceScore`.
        network_pred, network_mask: predicted and true tumour at the network's size.
        native_pred, native_mask: predicted and true tumour at the slice's own size.
        spacing: mm a native pixel, for distances in mm; None for distances in pixels of each resolution.
        tolerance: of the NSD, in mm or pixels likewise.
    """
    # At the network's size a slice is padded to a square of its longer side and resized.
    native_spacing = 1.0 if spacing is None else spacing
    network_spacing = 1.0 if spacing is None else spacing * max(native_mask.shape) / network_mask.shape[0]
    return SliceScore(
        slice=slice,
        pid=pid,
        tumor=tumor,
        network=count_per_slice(network_pred, network_mask),
        native=count_per_slice(native_pred, native_mask),
        network_surface=surface_scores(network_pred, network_mask, network_spacing, tolerance=tolerance),
        native_surface=surface_scores(native_pred, native_mask, native_spacing, tolerance=tolerance),
        detection=detect(native_pred, native_mask),
    )


def slice_rows(scores: Iterable[SliceScore]) -> list[dict[str, Any]]:
    """Make the rows of `slices.csv`: the scores of each slice.

    Returns:
        By slice number; each with slice, pid, tumor, {network,native}_{iou,dice,pixel_accuracy}, the true and the
        predicted tumour's pixels at native resolution, {network,native}_{precision,sensitivity,specificity,
        volumetric_similarity,hd95,assd,nsd}, and of the native resolution missed (1: a tumour, and no pixel of it
        predicted), tumors, tumors_found, tumors_found_half, false_components.
    """
    scores = sorted(scores, key=lambda s: s.slice)
    columns = {resolution: slice_columns(scores, resolution) for resolution in RESOLUTIONS} if scores else {}
    rows = []
    for i, s in enumerate(scores):
        row: dict[str, Any] = {"slice": s.slice, "pid": s.pid, "tumor": s.tumor}
        for resolution in RESOLUTIONS:
            row |= {f"{resolution}_{name}": float(columns[resolution][name][i]) for name in _FIRST}
        row["native_tumor_pixels"] = int(s.native.tp + s.native.fn)
        row["native_predicted_pixels"] = int(s.native.tp + s.native.fp)
        for resolution in RESOLUTIONS:
            row |= {f"{resolution}_{name}": float(columns[resolution][name][i]) for name in _FURTHER}
        row |= {
            "missed": int(columns["native"]["missed"][i]),
            "tumors": s.detection.tumors,
            "tumors_found": s.detection.found,
            "tumors_found_half": s.detection.found_half,
            "false_components": s.detection.false_components,
        }
        rows.append(row)
    return rows


def patient_rows(scores: Iterable[SliceScore]) -> list[dict[str, Any]]:
    """Make the rows of `patients.csv`: the scores of each patient, pooled and averaged over the patient's slices.

    Returns:
        By pid; each with pid, tumor (several types joined by `+`), n_slices,
        {network,native}_{micro_iou,micro_dice,mean_iou,mean_dice,pixel_accuracy}, and the mean of each further column
        of `slice_rows` from network_precision on.
    """
    patients: dict[str, list[SliceScore]] = {}
    for s in sorted(scores, key=lambda s: s.slice):
        patients.setdefault(s.pid, []).append(s)
    rows = []
    for pid in sorted(patients):
        group = patients[pid]
        row: dict[str, Any] = {
            "pid": pid,
            "tumor": "+".join(t for t in TUMORS if any(s.tumor == t for s in group)),
            "n_slices": len(group),
        }
        for resolution in RESOLUTIONS:
            figures = figures_of({name: values.sum() for name, values in slice_columns(group, resolution).items()})
            for name in ("micro_iou", "micro_dice", "mean_iou", "mean_dice", "pixel_accuracy"):
                row[f"{resolution}_{name}"] = float(figures[name])
        slices = slice_rows(group)
        columns = list(slices[0])
        for name in columns[columns.index("network_precision") :]:
            row[name] = float(np.mean([s[name] for s in slices]))
        rows.append(row)
    return rows


def slice_columns(scores: Sequence[SliceScore], resolution: str) -> dict[str, Float64[np.ndarray, " n"]]:
    """Give what is summed over slices, at least one, at a resolution: every figure is a ratio of such sums.

    Returns:
        A value a slice of each measure, of the counts, of `with_tumor` and `missed` (0 or 1), and of `slices` (1).
    """
    counts = Counts(*np.array([getattr(s, resolution) for s in scores], np.float64).T)
    surfaces = [getattr(s, f"{resolution}_surface") for s in scores]
    return {
        "slices": np.ones(len(scores)),
        **counts._asdict(),
        "with_tumor": (counts.tp + counts.fn > 0).astype(np.float64),
        "missed": ((counts.tp == 0) & (counts.fn > 0)).astype(np.float64),
        **{name: measure(counts) for name, measure in COUNT_MEASURES.items()},
        **{name: np.array([getattr(s, name) for s in surfaces], np.float64) for name in SURFACE_MEASURES},
    }


def figures_of(sums: dict[str, Any]) -> dict[str, Any]:
    """Compute FIGURES of some slices.

    Args:
        sums: of what `slice_columns` gives, over at least one slice; of any shape, for many samples at a time.

    Returns:
        Of that shape each; `missed` is NaN where no slice has a tumour.
    """
    pooled = Counts(*(sums[kind] for kind in Counts._fields))
    figures = {name: sums[name] / sums["slices"] for name in MEASURES}
    figures |= {f"mean_{name}": figures.pop(name) for name in ("iou", "dice")}
    figures |= {f"micro_{name}": measure(pooled) for name, measure in COUNT_MEASURES.items()}
    figures["pixel_accuracy"] = figures.pop("micro_pixel_accuracy")
    figures["missed"] = sums["missed"] / np.where(sums["with_tumor"] > 0, sums["with_tumor"], np.nan)
    return {name: figures[name] for name in FIGURES}
