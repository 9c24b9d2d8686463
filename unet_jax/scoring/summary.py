"""From the scores of each slice to what is reported: rows, summary, threshold. NumPy on the host, float64 scores."""

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8

from unet_jax.config import TUMORS
from unet_jax.scoring.metrics import (
    EMPTY_RULE,
    Counts,
    apply_threshold,
    dice,
    iou,
)
from unet_jax.scoring.slices import FIGURES, MEASURES, RESOLUTIONS, SliceScore, figures_of, slice_columns
from unet_jax.scoring.statistics import RESAMPLES, SEED, interval, patient_sums, resampled_sums

THRESHOLDS = tuple(i / 20 for i in range(1, 20))
"""The thresholds tried on validation: 0.05, 0.10 ... 0.95."""


def summarize(
    scores: Sequence[SliceScore],
    *,
    split: str,
    threshold: float | None,
    mask_rule: str,
    spacing: float | None,
    tolerance: float,
    seed: int = SEED,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        scores: the slices of the split, in any order.
        split: its name.
        threshold: probability from which a pixel counts as tumour; None where it was not the same for all.
        mask_rule: how the network-size masks were made; scores under different rules are not comparable.
        spacing: as `score_slice` was given it.
        tolerance: likewise.
        seed: of the bootstrap.
        resamples: samples of patients.

    Returns:
        split, n_slices, n_patients, threshold, mask_rule, distance_unit (px or mm), spacing_mm, nsd_tolerance,
        empty_rule, bootstrap, detection (tumors, the fractions found and found_half, false_components_per_slice), and
        for `network` and `native` FIGURES, `std` (divided by n) and `median` of the slices' measures, `ci95` (low and
        high of each figure; None for fewer than two patients), the same under by_tumor.TYPE with n_slices and
        n_patients, and under `patients` means over patients of the means over each one's slices. A figure of nothing
        is None.
    """
    scores = sorted(scores, key=lambda s: s.slice)  # so that no sum depends on the order they came in
    summary: dict[str, Any] = {
        "split": split,
        "n_slices": len(scores),
        "n_patients": _count_patients(scores),
        "threshold": threshold,
        "mask_rule": mask_rule,
        "distance_unit": "px" if spacing is None else "mm",
        "spacing_mm": spacing,
        "nsd_tolerance": tolerance,
        "empty_rule": EMPTY_RULE,
        "bootstrap": {"resamples": resamples, "seed": seed, "unit": "patient"},
        "detection": _detection(scores),
    }
    for resolution in RESOLUTIONS:
        by_tumor = {}
        for tumor in TUMORS:
            group = [s for s in scores if s.tumor == tumor]
            sizes = {"n_slices": len(group), "n_patients": _count_patients(group)}
            by_tumor[tumor] = sizes | _group(group, resolution, seed, resamples)
        whole = _group(scores, resolution, seed, resamples)
        summary[resolution] = whole | {"patients": _over_patients(scores, resolution), "by_tumor": by_tumor}
    return summary


def threshold_counts(
    probs: Float[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]
) -> Int64[np.ndarray, "t 4"]:
    """Counts of one slice under every threshold, in one pass; equal to `apply_threshold` and counting at each.

    Args:
        probs: probabilities in [0, 1].
        mask: the true tumour, bool or 0/1.

    Returns:
        A row of tp, fp, fn, tn for each of THRESHOLDS. Rows of several slices add up.
    """
    truth = mask.astype(bool)
    # Most of a brain stays below the lowest threshold: only the rest is sorted into bins. (Nor does NaN pass.)
    candidates = apply_threshold(probs, THRESHOLDS[0])
    values, tumor = probs[candidates].astype(np.float32), truth[candidates]
    highest = np.searchsorted(np.asarray(THRESHOLDS, np.float32), values, side="right") - 1
    bins = len(THRESHOLDS)
    histogram = np.bincount(highest + bins * tumor, minlength=2 * bins).reshape(2, bins)
    # Predicted under a threshold is every pixel whose highest threshold reached is that one or a later one.
    fp, tp = histogram[:, ::-1].cumsum(axis=1)[:, ::-1]
    positives = int(truth.sum())
    return np.stack([tp, fp, positives - tp, truth.size - positives - fp], axis=1).astype(np.int64)


def threshold_ious(counts: Int64[np.ndarray, "t 4"]) -> Float64[np.ndarray, " t"]:
    """The micro-IoU under each of THRESHOLDS.

    Args:
        counts: what `threshold_counts` gives, summed over slices.

    Returns:
        In [0, 1], in the order of THRESHOLDS.
    """
    return iou(Counts(*counts.T))


def best_threshold(counts: Int64[np.ndarray, "t 4"]) -> tuple[float, float]:
    """The threshold of the highest micro-IoU; of equals the nearest to 0.5, of two as near the lower.

    Args:
        counts: what `threshold_counts` gives, summed over slices.

    Returns:
        The threshold, and its micro-IoU.
    """
    ious = threshold_ious(counts)
    middle = len(THRESHOLDS) // 2
    best = min(range(len(THRESHOLDS)), key=lambda i: (-ious[i], abs(i - middle), i))
    return THRESHOLDS[best], float(ious[best])


def choose_gallery(scores: Iterable[SliceScore], per_tumor: int = 3) -> list[SliceScore]:
    """Representative slices: of each tumour type those at even quantiles of native Dice, neither best nor worst.

    With `per_tumor` 3 they stand at the quartiles, about the 25th, 50th and 75th percentile of their type.

    Args:
        scores: in any order.
        per_tumor: how many of each type, at most.

    Returns:
        Distinct slices, by type in the order of `config.TUMORS`, then by rising Dice; a type of fewer slices gives all.
    """
    scores, chosen = list(scores), []
    for tumor in TUMORS:
        group = sorted((s for s in scores if s.tumor == tumor), key=lambda s: (float(dice(s.native)), s.slice))
        n, k = len(group), min(per_tumor, len(group))
        chosen += [group[(i + 1) * n // (k + 1)] for i in range(k)]
    return chosen


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV: a header line, UTF-8, `\\n` line ends, floats in full, None as an empty field.

    Args:
        path: replaced if it exists.
        rows: at least one, all with the keys of the first.

    Raises:
        ValueError: no rows, or a row with other keys.
    """
    if not rows:
        raise ValueError(f"no rows for {path}; expected at least one.")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_json(path: Path, content: Any) -> None:
    """Write JSON: indented, keys in the order given, floats in full, a last newline.

    Args:
        path: replaced if it exists.
        content: dicts, lists, str, int, float, None; NumPy scalars too.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not have.
    """
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False, default=_plain)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in JSON.")


def _group(scores: Sequence[SliceScore], resolution: str, seed: int, resamples: int) -> dict[str, Any]:
    """FIGURES of some slices at one resolution; `std` and `median` of their measures; `ci95` of each figure."""
    if not scores:
        figures, spread = dict.fromkeys(FIGURES), dict.fromkeys(MEASURES)
        return figures | {"std": spread, "median": dict(spread), "ci95": dict(figures)}
    columns = slice_columns(scores, resolution)
    sums = patient_sums(np.stack(list(columns.values()), axis=1), [s.pid for s in scores])
    figures = figures_of(dict(zip(columns, sums.sum(axis=0), strict=True)))
    resampled = figures_of(dict(zip(columns, resampled_sums(sums, seed=seed, resamples=resamples).T, strict=True)))
    return {name: None if np.isnan(value) else float(value) for name, value in figures.items()} | {
        "std": {name: float(columns[name].std()) for name in MEASURES},
        "median": {name: float(np.median(columns[name])) for name in MEASURES},
        "ci95": {name: interval(values) if len(sums) > 1 else None for name, values in resampled.items()},
    }


def _over_patients(scores: Sequence[SliceScore], resolution: str) -> dict[str, float | None]:
    """Means over patients of the means over each one's slices: a patient of many slices counts no more than another."""
    names = {"mean_iou": "iou", "mean_dice": "dice", "hd95": "hd95", "assd": "assd", "nsd": "nsd"}
    if not scores:
        return dict.fromkeys(names)
    columns = slice_columns(scores, resolution)
    picked = np.stack([columns["slices"], *(columns[column] for column in names.values())], axis=1)
    sums = patient_sums(picked, [s.pid for s in scores])
    means = (sums[:, 1:] / sums[:, :1]).mean(axis=0)
    return {name: float(mean) for name, mean in zip(names, means, strict=True)}


def _detection(scores: Sequence[SliceScore]) -> dict[str, Any]:
    tumors = sum(s.detection.tumors for s in scores)
    false_components = sum(s.detection.false_components for s in scores)
    return {
        "tumors": tumors,
        "found": sum(s.detection.found for s in scores) / tumors if tumors else None,
        "found_half": sum(s.detection.found_half for s in scores) / tumors if tumors else None,
        "false_components_per_slice": false_components / len(scores) if scores else None,
    }


def _count_patients(scores: Iterable[SliceScore]) -> int:
    return len({s.pid for s in scores})
