"""The summary of scored slices, as `summary.json` holds it. NumPy on the host, float64 scores."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from unet_jax.config import TUMORS
from unet_jax.scoring.metrics import EMPTY_RULE
from unet_jax.scoring.slices import FIGURES, MEASURES, RESOLUTIONS, SliceScore, figures_of, slice_columns
from unet_jax.scoring.statistics import RESAMPLES, SEED, interval, patient_sums, resampled_sums
from unet_jax.scoring.tumor_free import tumor_free_figures


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
    """Summarise the scored slices of a split, which come in any order.

    Args:
        threshold: probability from which a pixel counts as tumour; None where it was not the same for all.
        mask_rule: how the network-size masks were made; scores under different rules are not comparable.
        spacing, tolerance: as `score_slice` was given them.
        seed, resamples: as `resampled_sums` takes them.

    Returns:
        The content of `summary.json`: split, n_slices, n_patients, threshold, mask_rule, distance_unit (px or mm),
        spacing_mm, nsd_tolerance, empty_rule, bootstrap, detection (tumors, the fractions found and found_half,
        false_components_per_slice), tumor_free (`tumor_free_figures` of the slices without a tumour), and for `network`
        and `native` FIGURES, `std` (divided by n) and `median` of the slices' measures, `ci95` (low and high of each
        figure; None for fewer than two patients), the same under by_tumor.TYPE with n_slices and n_patients, and under
        `patients` means over patients of the means over each one's slices. A figure of nothing is None.
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
        "tumor_free": _tumor_free(scores),
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


def _group(scores: Sequence[SliceScore], resolution: str, seed: int, resamples: int) -> dict[str, Any]:
    """Compute FIGURES of some slices at one resolution; `std` and `median` of their measures; `ci95` of each figure."""
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
    """Average over patients the means over each one's slices: a patient of many slices counts no more than another."""
    names = {"mean_iou": "iou", "mean_dice": "dice", "hd95": "hd95", "assd": "assd", "nsd": "nsd"}
    if not scores:
        return dict.fromkeys(names)
    columns = slice_columns(scores, resolution)
    picked = np.stack([columns["slices"], *(columns[column] for column in names.values())], axis=1)
    sums = patient_sums(picked, [s.pid for s in scores])
    means = (sums[:, 1:] / sums[:, :1]).mean(axis=0)
    return {name: float(mean) for name, mean in zip(names, means, strict=True)}


def _detection(scores: Sequence[SliceScore]) -> dict[str, Any]:
    """Summarise which tumours were found."""
    tumors = sum(s.detection.tumors for s in scores)
    false_components = sum(s.detection.false_components for s in scores)
    return {
        "tumors": tumors,
        "found": sum(s.detection.found for s in scores) / tumors if tumors else None,
        "found_half": sum(s.detection.found_half for s in scores) / tumors if tumors else None,
        "false_components_per_slice": false_components / len(scores) if scores else None,
    }


def _tumor_free(scores: Sequence[SliceScore]) -> dict[str, Any]:
    """Summarise, at native resolution, what was predicted in slices without a tumour."""
    empty = [s.native for s in scores if s.native.tp + s.native.fn == 0]
    return tumor_free_figures(np.array([counts.fp / (counts.fp + counts.tn) for counts in empty], np.float64))


def _count_patients(scores: Iterable[SliceScore]) -> int:
    return len({s.pid for s in scores})
