"""Tables and figures of the HTML report, as HTML text; all that comes from outside is escaped. No jax."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Literal

from matplotlib.figure import Figure

from unet_jax.config import TUMORS
from unet_jax.reporting.figures import history_figure, threshold_figure
from unet_jax.reporting.pictures import data_uri
from unet_jax.reporting.plots import dice_figure, reliability_figure, svg

Kind = Literal["score", "distance", "fraction", "count"]

NONE = "\N{EN DASH}"
"""Stands for a value that there is not."""

_COLUMNS: tuple[tuple[str, tuple[tuple[str, str, Kind], ...]], ...] = (
    ("Pooled over all pixels", (("micro_iou", "IoU", "score"), ("micro_dice", "Dice", "score"))),
    (
        "Mean over slices",
        (
            ("mean_iou", "IoU", "score"),
            ("mean_dice", "Dice", "score"),
            ("hd95", "HD95", "distance"),
            ("assd", "ASSD", "distance"),
            ("nsd", "NSD", "score"),
            ("precision", "Precision", "score"),
            ("sensitivity", "Sensi&shy;tivity", "score"),
            ("specificity", "Speci&shy;ficity", "score"),
        ),
    ),
    ("Slices", (("missed", "Missed", "fraction"),)),
)
"""Groups of columns of the summary: key in summary.json, heading (HTML), kind of number."""

_RESOLUTIONS = (("native", "Native resolution"), ("network", "Resolution of the network"))


def number(value: int | float | None, kind: Kind) -> str:
    """A value as it is printed; None and what is not finite as an en dash."""
    if value is None or not math.isfinite(value):
        return NONE
    return {
        "score": f"{value:.3f}",
        "distance": f"{value:.2f}",
        "fraction": f"{100 * value:.1f} %",
        "count": f"{value:,.0f}",
    }[kind]


def facts(summary: Mapping[str, Any]) -> str:
    """What was scored and how: the items of a description list."""
    unit = summary.get("distance_unit") or "px"
    spacing = summary.get("spacing_mm")
    items = [
        ("Split", str(summary["split"])),
        ("Slices", number(summary["n_slices"], "count")),
        ("Patients", number(summary["n_patients"], "count")),
        ("Threshold", _thresholds(summary)),
        ("Mask rule", str(summary["mask_rule"])),
        ("Distances", unit if spacing is None else f"{unit}, {spacing:g} mm a pixel"),
    ]
    if summary.get("tta"):
        items.append(("Test-time augmentation", "averaged with the mirror image"))
    if cleaning := summary.get("postprocess"):
        holes = ", holes filled" if cleaning["fill_holes"] else ""
        items.append(("Native masks", f"without components of under {cleaning['min_pixels']} pixels{holes}"))
    return "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in items)


def summary_table(summary: Mapping[str, Any]) -> str:
    """The table of scores by resolution and tumour type, each with its 95 % interval, and the notes under it."""
    unit = summary.get("distance_unit") or "px"
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(columns)}" class="first">{name}</th>' for name, columns in _COLUMNS
    )
    heads = "".join(
        f'<th scope="col"{_first(i)}>{heading}{f", {escape(unit)}" if kind == "distance" else ""}</th>'
        for _, columns in _COLUMNS
        for i, (_, heading, kind) in enumerate(columns)
    )
    width = 2 + sum(len(columns) for _, columns in _COLUMNS)
    bodies = ""
    for resolution, title in _RESOLUTIONS:
        scores = summary[resolution]
        rows = [_row("All", summary["n_slices"], scores)]
        rows += [_row(t.capitalize(), scores["by_tumor"][t]["n_slices"], scores["by_tumor"][t]) for t in TUMORS]
        head = f'<tr class="part"><th scope="rowgroup" colspan="{width}">{title}</th></tr>'
        bodies += f'<tbody id="scores-{resolution}">{head}{"".join(rows)}</tbody>'
    notes = "".join(f"<li>{escape(note)}</li>" for note in _notes(summary, unit))
    return (
        '<div class="wide" role="region" aria-label="Table of scores" tabindex="0"><table class="scores">'
        f"<thead><tr><td></td><td></td>{groups}</tr>"
        f'<tr><td></td><th scope="col">Slices</th>{heads}</tr></thead>'
        f'{bodies}</table></div><ul class="notes">{notes}</ul>'
    )


def detection(summary: Mapping[str, Any]) -> str:
    """How many tumours were found, as the items of a description list; empty where the summary has none of it."""
    found = summary.get("detection")
    if not found:
        return ""
    items: tuple[tuple[str, str, Kind], ...] = (
        ("tumors", "Tumours (connected regions of the truth)", "count"),
        ("found", "of them touched by the prediction", "fraction"),
        ("found_half", "of them covered by half or more", "fraction"),
        ("false_components_per_slice", "Predicted regions that touch no tumour, per slice", "distance"),
    )
    return "".join(f"<div><dt>{name}</dt><dd>{_data(found.get(key), kind)}</dd></div>" for key, name, kind in items)


def figures(
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    records: Sequence[dict[str, Any]],
    thresholds: Mapping[str, float] | None,
    calibration: Mapping[str, Any] | None,
    threshold_cost: Mapping[str, Any] | None,
) -> str:
    """The plots with their captions; what there is nothing of is left out."""
    parts = []
    if records:
        caption = "Learning curves, at the network's resolution and threshold 0.5."
        alt = f"Loss, pixel accuracy and micro-IoU of training and validation over {len(records)} epochs"
        parts.append(_figure(history_figure(records), alt, caption, broad=True))
    cost = "" if threshold_cost is None else _cost(threshold_cost)
    if thresholds:
        plot = threshold_figure([float(t) for t in thresholds], list(thresholds.values()), summary.get("threshold"))
        parts.append(_figure(plot, "Micro-IoU on validation over thresholds", cost))
    if calibration is not None:
        everywhere, candidates = (number(calibration.get(k), "score") for k in ("ece", "ece_candidates"))
        caption = (
            f"Expected calibration error (ECE) {everywhere} over all pixels, which plain background dominates; "
            f"{candidates} over the pixels of probability 0.05 or more."
        )
        alt = f"Fraction of tumour over predicted probability; ECE {everywhere}"
        parts.append(_figure(reliability_figure(calibration), alt, caption))
    if any(r["native_dice"] is not None for r in rows):
        caption = (
            "A point is a slice. Boxes go from quartile to quartile, whiskers from the 5th to the 95th percentile."
        )
        parts.append(_figure(dice_figure(rows), "Native Dice of the slices of each tumour type", caption))
    if cost and not thresholds:
        parts.append(f'<p class="broad">{escape(cost)}</p>')
    return "".join(parts)


def _row(name: str, n_slices: int, scores: Mapping[str, Any]) -> str:
    intervals = scores.get("ci95") or {}
    cells = f'<th scope="row">{name}</th><td>{_data(n_slices, "count")}</td>'
    for _, columns in _COLUMNS:
        for i, (key, _, kind) in enumerate(columns):
            interval = ""
            if intervals.get(key) is not None:
                low, high = (_data(v, kind) for v in intervals[key])
                interval = f"<small>{low} to {high}</small>"
            cells += f'<td data-key="{key}"{_first(i)}>{_data(scores.get(key), kind)}{interval}</td>'
    return f"<tr>{cells}</tr>"


def _first(i: int) -> str:
    """Marks the first column of a group, which a line sets apart."""
    return "" if i else ' class="first"'


def _data(value: int | float | None, kind: Kind) -> str:
    """The printed value, and beside it, for programs, the whole one."""
    text = number(value, kind)
    return text if text == NONE else f'<data value="{value}">{text}</data>'


def _notes(summary: Mapping[str, Any], unit: str) -> list[str]:
    bootstrap, tolerance = summary.get("bootstrap"), summary.get("nsd_tolerance")
    notes = []
    if summary.get("empty_rule"):
        notes.append(f"Empty masks: {summary['empty_rule']}")
    if bootstrap:
        notes.append(
            f"Small figures: 95 % interval, percentile bootstrap over {bootstrap['unit']}s "
            f"({bootstrap['resamples']:,} resamples, seed {bootstrap['seed']})."
        )
    within = "a tolerance" if tolerance is None else f"{tolerance:g} {unit}"
    pixels = " Pixels are those of the resolution in question." if unit == "px" else ""
    notes.append(
        "HD95: 95th percentile of the distances between the outlines. ASSD: their mean, both ways. "
        f"NSD: fraction of the outlines within {within} of each other.{pixels}"
    )
    notes.append("Missed: slices with a tumour that the prediction does not touch.")
    return notes


def _cost(cost: Mapping[str, Any]) -> str:
    best = f"{cost['best_on_split']:g} with {number(cost['best_micro_iou'], 'score')}"
    if cost["cost"] is None:
        return (
            f"Threshold {cost['chosen']:g} is none of those compared; of them the best for this split would be {best}."
        )
    return (
        f"Threshold {cost['chosen']:g} gives pooled IoU {number(cost['micro_iou'], 'score')} on this split. The best "
        f"for this split would be {best}: to choose without a look at it costs {number(cost['cost'], 'score')}."
    )


def _thresholds(summary: Mapping[str, Any]) -> str:
    one, several = summary.get("threshold"), summary.get("thresholds")
    values = [one] if one is not None else several or []
    return ", ".join(f"{value:g}" for value in values) or NONE


def _figure(figure: Figure, alt: str, caption: str, broad: bool = False) -> str:
    if not broad:  # three stand side by side: smaller, their letters are as large as the others'
        figure.set_size_inches(5.6, 4.2)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    image = (
        f'<img src="{data_uri("image/svg+xml", svg(figure))}" alt="{escape(alt)}" width="{width}" height="{height}">'
    )
    if broad:  # on a narrow screen it scrolls
        image = f'<div class="wide" role="region" aria-label="{escape(alt)}" tabindex="0">{image}</div>'
    return (
        f"<figure{' class=broad' if broad else ''}>{image}"
        f"{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>"
    )
