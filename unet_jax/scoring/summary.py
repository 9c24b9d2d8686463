"""From the counts of each slice to what is reported: rows, summary, threshold. NumPy on the host, float64 scores."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, UInt8

from unet_jax.config import TUMORS
from unet_jax.scoring.metrics import Counts, apply_threshold, dice, iou, pixel_accuracy

THRESHOLDS = tuple(i / 20 for i in range(1, 20))
"""The thresholds tried on validation: 0.05, 0.10 ... 0.95."""

RESOLUTIONS = ("network", "native")

_SLICE_SCORES: dict[str, Callable[[Counts], Any]] = {"iou": iou, "dice": dice, "pixel_accuracy": pixel_accuracy}


@dataclass(frozen=True)
class SliceScore:
    """One scored slice."""

    slice: int
    pid: str
    """Patient."""
    tumor: str
    """Tumour type, one of `config.TUMORS`."""
    network: Counts
    """Pixels at the network's resolution, host integers."""
    native: Counts
    """Pixels at the slice's own resolution, host integers."""


def slice_rows(scores: Iterable[SliceScore]) -> list[dict[str, Any]]:
    """The rows of `slices.csv`: the scores of each slice.

    Args:
        scores: in any order.

    Returns:
        By slice number; each with slice, pid, tumor, {network,native}_{iou,dice,pixel_accuracy}, and the true and
        predicted tumour's pixels at native resolution.
    """
    rows = []
    for s in sorted(scores, key=lambda s: s.slice):
        row: dict[str, Any] = {"slice": s.slice, "pid": s.pid, "tumor": s.tumor}
        for resolution in RESOLUTIONS:
            counts = getattr(s, resolution)
            row |= {f"{resolution}_{name}": float(score(counts)) for name, score in _SLICE_SCORES.items()}
        row["native_tumor_pixels"] = int(s.native.tp + s.native.fn)
        row["native_predicted_pixels"] = int(s.native.tp + s.native.fp)
        rows.append(row)
    return rows


def patient_rows(scores: Iterable[SliceScore]) -> list[dict[str, Any]]:
    """The rows of `patients.csv`: the scores of each patient, pooled and averaged over the patient's slices.

    Args:
        scores: in any order.

    Returns:
        By pid; each with pid, tumor (several types joined by `+`), n_slices, and
        {network,native}_{micro_iou,micro_dice,mean_iou,mean_dice,pixel_accuracy}.
    """
    patients: dict[str, list[SliceScore]] = {}
    for s in scores:
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
            row |= {f"{resolution}_{name}": value for name, value in _figures(group, resolution).items()}
        rows.append(row)
    return rows


def summarize(scores: Sequence[SliceScore], *, split: str, threshold: float, mask_rule: str) -> dict[str, Any]:
    """The content of `summary.json`.

    Args:
        scores: the slices of the split, in any order.
        split: its name.
        threshold: probability from which a pixel counts as tumour.
        mask_rule: how the network-size masks were made; scores under different rules are not comparable.

    Returns:
        split, n_slices, n_patients, threshold, mask_rule, and for `network` and `native` micro_* (pooled over all
        pixels), mean_* (mean of the slices' scores) and pixel_accuracy, each also under by_tumor.TYPE, with n_slices.
        A score of no slices is None.
    """
    summary: dict[str, Any] = {
        "split": split,
        "n_slices": len(scores),
        "n_patients": len({s.pid for s in scores}),
        "threshold": threshold,
        "mask_rule": mask_rule,
    }
    for resolution in RESOLUTIONS:
        by_tumor = {}
        for tumor in TUMORS:
            group = [s for s in scores if s.tumor == tumor]
            by_tumor[tumor] = {"n_slices": len(group)} | _figures(group, resolution)
        summary[resolution] = _figures(scores, resolution) | {"by_tumor": by_tumor}
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


def _figures(scores: Sequence[SliceScore], resolution: str) -> dict[str, float | None]:
    """Pooled and averaged scores of some slices at one resolution."""
    names = ("micro_iou", "micro_dice", "mean_iou", "mean_dice", "pixel_accuracy")
    if not scores:
        return dict.fromkeys(names)
    matrix = np.array([_row(getattr(s, resolution)) for s in scores], np.int64)
    pooled, each = Counts(*matrix.sum(axis=0)), Counts(*matrix.T)
    values = (iou(pooled), dice(pooled), iou(each).mean(), dice(each).mean(), pixel_accuracy(pooled))
    return {name: float(value) for name, value in zip(names, values, strict=True)}


def _row(counts: Counts) -> tuple[int, int, int, int]:
    return int(counts.tp), int(counts.fp), int(counts.fn), int(counts.tn)
