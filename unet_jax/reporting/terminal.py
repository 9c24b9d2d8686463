"""Tables of an evaluation, and of a comparison of two, as lines to read on a terminal."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

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

_COMPARED = {
    "A": 10,
    "B": 10,
    "B - A": 10,
    "95 % interval": 22,
    "p patients": 12,
    "p slices": 12,
    "better/same/worse": 19,
}
"""Columns of a comparison, and their widths."""


def summary_table(summary: dict[str, Any]) -> str:
    """Print the content of summary.json: a table of overlap, one of the other measures, and what goes with them."""
    threshold = "each fold's own threshold" if summary["threshold"] is None else f"threshold {summary['threshold']:.2f}"
    known = summary.get("training_slices")
    lines = [] if known is None else [f"Trained on: {training_slices(known)}"]
    if started := seen_before(summary):
        lines.append(f"Started from: {started}")
    lines += [
        f"{summary['split']}: {_sizes(summary)}, {threshold}, mask rule {summary['mask_rule']}",
        *_scores(summary, _OVERLAP),
        f"Mean over slices; {_distances(summary)}:",
        *_scores(summary, _OTHERS),
    ]
    native, found = summary["native"], summary["detection"]
    intervals = []
    for name in _INTERVALS:
        if native["ci95"][name] is not None:
            low, high = native["ci95"][name]
            intervals.append(f"{_HEADINGS[name]} {native[name]:.4g} ({low:.4g} to {high:.4g})")
    if intervals:
        lines.append(f"95 % intervals over patients, native: {', '.join(intervals)}")
    if found["found"] is not None:
        lines.append(
            f"Tumours touched: {found['found']:.1%}, at least half covered: {found['found_half']:.1%}; "
            f"predicted components that touch none: {found['false_components_per_slice']:.2f} a slice"
        )
    free = summary["tumor_free"]
    if free["n_slices"]:
        lines.append(
            f"Slices without a tumour: {free['n_slices']}, with anything predicted: {free['any']:.1%}, with more than "
            f"0.1 % of the picture: {free['over_0.1_percent']:.1%}; mean area predicted: {free['mean_area']:.3%}"
        )
    lines.append(summary["empty_rule"])
    return "\n".join(lines)


def training_slices(known: Mapping[str, Any]) -> str:
    """Tell how many slices a network is known to have been trained on: `training_slices` of summary.json."""
    keys = known["by_key"]
    return (
        f"{known['n']} of these {known['n'] + known['not_recognised']} slices (the same file: {keys['file']}; the same "
        f"number, tumour type and patient: {keys['identity']}; nearly the same picture: {keys['fingerprint']}). "
        f"Not recognised: {known['not_recognised']}."
    )


def seen_before(summary: Mapping[str, Any]) -> str | None:
    """Tell how many scored slices the weights had seen that a network started from: `initial` of summary.json.

    Returns:
        A sentence; None where they had seen none, or the network started from none.
    """
    initial = summary.get("initial")
    if initial is None or initial["seen"] == 0:
        return None
    # Of folders the names alone, since this is passed on with reports and model cards.
    sources = sorted({Path(run["init_from"]["source"]).name for run in initial["runs"] if run["init_from"]})
    found = "it cannot be told how many" if initial["seen"] is None else str(initial["seen"])
    return f"{', '.join(sources)}; {found} of these {summary['n_slices']} slices are of patients trained on there."


def comparison_table(result: dict[str, Any]) -> str:
    """Print a comparison: a line a measure, Dice also by tumour type, and how to read them.

    Args:
        result: what `compare_evaluations` gave, and besides `a`, `b` (names of the two) and `split`.
    """
    widths = _COMPARED.values()
    lines = [
        f"A: {result['a']}",
        f"B: {result['b']}",
        f"{result['split']}: {_sizes(result)}, {result['resolution']} resolution, mask rule {result['mask_rule']}; "
        f"{_distances(result)}",
        _line("", 14, _COMPARED, widths),
    ]
    for name, figures in result["measures"].items():
        lines.append(_line(name, 14, _compared(figures), widths))
        if name == "dice":
            for tumor, group in result["by_tumor"].items():
                lines.append(_line(f"  {tumor}", 14, _compared(group["dice"]), widths))
    lines += [
        "Intervals resample patients. p patients is Wilcoxon's signed-rank test of the patients' mean differences: the "
        "one to go by.",
        "p slices takes slices for independent, which those of one patient are not, and so comes out too small.",
        "better/same/worse counts the slices on which B is so; hd95 and assd are better where they are smaller.",
    ]
    return "\n".join(lines)


def _scores(summary: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """Print some figures of each resolution, and there of each tumour type."""
    widths = (12,) * len(names)
    lines = [_line("", 22, [_HEADINGS.get(name, name) for name in names], widths)]
    for resolution in ("network", "native"):
        groups = {resolution: summary[resolution]}
        groups |= {f"  {tumor}": group for tumor, group in summary[resolution]["by_tumor"].items()}
        for label, group in groups.items():
            lines.append(_line(label, 22, [_figure(group[name]) for name in names], widths))
    return lines


def _compared(figures: dict[str, Any]) -> list[str]:
    """Print one measure of two runs, a cell a column of _COMPARED."""
    return [
        f"{figures['mean_a']:.4f}",
        f"{figures['mean_b']:.4f}",
        f"{figures['difference']:+.4f}",
        "-" if figures["ci95"] is None else "{:+.4f} to {:+.4f}".format(*figures["ci95"]),
        _p(figures["p_patients"]),
        _p(figures["p_slices"]),
        f"{figures['wins']}/{figures['ties']}/{figures['losses']}",
    ]


def _sizes(content: dict[str, Any]) -> str:
    return f"{content['n_slices']} slices of {content['n_patients']} patients"


def _distances(content: dict[str, Any]) -> str:
    unit = content["distance_unit"]
    return f"distances in {unit}, NSD within {content['nsd_tolerance']:g} {unit}"


def _line(label: str, label_width: int, cells: Iterable[str], widths: Iterable[int]) -> str:
    return f"{label:{label_width}}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _figure(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "<0.0001"
