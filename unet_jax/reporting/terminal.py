"""summary.json as lines to read on a terminal."""

from typing import Any

from unet_jax.config import TUMORS

_OVERLAP = ("micro_iou", "micro_dice", "mean_iou", "mean_dice", "pixel_accuracy")
_OTHERS = ("precision", "sensitivity", "specificity", "hd95", "assd", "nsd", "missed")
_HEADINGS = {
    "micro_iou": "micro IoU",
    "micro_dice": "micro Dice",
    "mean_iou": "mean IoU",
    "mean_dice": "mean Dice",
    "pixel_accuracy": "accuracy",
    "hd95": "HD95",
    "assd": "ASSD",
    "nsd": "NSD",
}
_INTERVALS = ("mean_dice", "mean_iou", "micro_iou", "hd95")


def summary_table(summary: dict[str, Any]) -> str:
    """What `summarize` gave, as a table of overlap, one of the other measures, and the lines that go with them."""
    unit = summary["distance_unit"]
    threshold = "each fold's own threshold" if summary["threshold"] is None else f"threshold {summary['threshold']:.2f}"
    native, found = summary["native"], summary["detection"]
    lines = [
        f"{summary['split']}: {summary['n_slices']} slices of {summary['n_patients']} patients, {threshold}, mask rule "
        f"{summary['mask_rule']}",
        *_block(summary, _OVERLAP),
        f"Mean over slices; distances in {unit}, NSD within {summary['nsd_tolerance']:g} {unit}:",
        *_block(summary, _OTHERS),
    ]
    intervals = [
        f"{_HEADINGS[name]} {native[name]:.4g} ({low:.4g} to {high:.4g})"
        for name in _INTERVALS
        if native[name] is not None and (ci := native["ci95"][name]) is not None
        for low, high in [ci]
    ]
    if intervals:
        lines.append(f"95 % intervals over patients, native: {', '.join(intervals)}")
    if found["found"] is not None:
        lines.append(
            f"Tumours touched: {found['found']:.1%}, at least half covered: {found['found_half']:.1%}; "
            f"predicted components that touch none: {found['false_components_per_slice']:.2f} a slice"
        )
    lines.append(summary["empty_rule"])
    return "\n".join(lines)


def _block(summary: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    lines = [f"{'':22}" + "".join(f"{_HEADINGS.get(name, name):>12}" for name in names)]
    for resolution in ("network", "native"):
        figures = summary[resolution]
        for label, group in [(resolution, figures)] + [(f"  {t}", figures["by_tumor"][t]) for t in TUMORS]:
            lines.append(f"{label:22}" + "".join(f"{_number(group[name]):>12}" for name in names))
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
