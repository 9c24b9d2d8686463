"""The report of an evaluation as one HTML file: scores, plots, and every slice. The file needs no network.

Its templates are in `page/`. All that they print is escaped but the style and the script, which are the project's own.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment
from matplotlib.figure import Figure

from unet_jax.config import TUMORS
from unet_jax.reporting.figures import dice_figure, history_figure, reliability_figure, svg, threshold_figure
from unet_jax.reporting.pictures import Picture, colour_bar, data_uri, picture_record
from unet_jax.reporting.templates import templates
from unet_jax.reporting.terminal import seen_before, training_slices
from unet_jax.shared.files import plain, replacing

PRINTED_CARDS = 24
"""Slices of the gallery that are printed."""

_RESOLUTIONS = {"native": "Native resolution", "network": "Resolution of the network"}

_PER_RESOLUTION = (
    ("dice", "Dice", "score", "lowest"),
    ("iou", "IoU", "score", "lowest"),
    ("hd95", "HD95", "distance", "highest"),
    ("assd", "ASSD", "distance", "highest"),
    ("nsd", "NSD", "score", "lowest"),
    ("precision", "Precision", "score", "lowest"),
    ("sensitivity", "Sensitivity", "score", "lowest"),
    ("specificity", "Specificity", "score", "lowest"),
    ("volumetric_similarity", "Volumetric similarity", "score", "lowest"),
    ("pixel_accuracy", "Pixel accuracy", "score", "lowest"),
)
"""Measures of a slice at each resolution: name, label, kind of number, and the end that is worst."""

_PER_SLICE = (
    ("native_tumor_pixels", "True tumour, native pixels", "count", "lowest"),
    ("native_predicted_pixels", "Predicted tumour, native pixels", "count", "lowest"),
    ("missed", "Missed", "count", "highest"),
    ("tumors", "Tumours", "count", "highest"),
    ("tumors_found", "Tumours touched", "count", "lowest"),
    ("tumors_found_half", "Tumours covered by half or more", "count", "lowest"),
    ("false_components", "Predicted regions that touch no tumour", "count", "highest"),
)
"""Measures of a slice as a whole, likewise."""


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    records: Sequence[dict[str, Any]],
    thresholds: Mapping[str, float] | None,
    calibration: Mapping[str, Any],
    pictures: Iterable[Picture],
) -> None:
    """Write the report. The same input gives the same bytes.

    Args:
        path: where to; an existing file is replaced once the new one is whole.
        title: the run's name.
        summary: content of summary.json.
        rows: those of slices.csv, at least one.
        records: lines of metrics.jsonl; without any there are no learning curves.
        thresholds: micro-IoU on validation by threshold; None where there was not one threshold for all.
        calibration: `ece`, `ece_candidates` and `bins`.
        pictures: one of each row's slice, in any order. They are taken one by one and not kept.

    Raises:
        ValueError: the pictures' slices are not those of the rows.
    """
    page = resources.files("unet_jax.reporting") / "page"
    curve = None
    if thresholds:
        curve = threshold_figure([float(t) for t in thresholds], list(thresholds.values()), summary["threshold"])
    plots = {
        "history": _embedded(history_figure(records)) if records else None,
        # Three stand side by side: drawn smaller, their letters are as large as the others'.
        "threshold": _embedded(curve, size=(5.6, 4.2)) if curve else None,
        "reliability": _embedded(reliability_figure(calibration), size=(5.6, 4.2)),
        "dice": _embedded(dice_figure(rows), size=(5.6, 4.2)),
    }
    template = _templates().get_template("report.html")
    content = template.stream(
        title=title,
        summary=summary,
        trained_on=training_slices(summary["training_slices"]) if "training_slices" in summary else None,
        started=seen_before(summary),
        resolutions=_RESOLUTIONS,
        plots=plots,
        n_epochs=len(records),
        calibration=calibration,
        colour_bar=colour_bar(),
        data=_page_data(summary, rows),
        pictures=map(picture_record, _checked(pictures, {row["slice"] for row in rows})),
        style=page.joinpath("report.css").read_text("utf-8"),
        script=page.joinpath("report.js").read_text("utf-8"),
    )
    with replacing(path) as file:
        # A title that is a name of a file can hold what UTF-8 cannot.
        content.dump(file, encoding="utf-8", errors="replace")


def _templates() -> Environment:
    environment = templates(escape=True)
    environment.filters["digest"] = _digest
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "default": plain}
    return environment


def _digest(text: str) -> str:
    """Name a script or style in a content-security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _embedded(figure: Figure, size: tuple[float, float] | None = None) -> dict[str, Any]:
    """Give an image element its source, width and height in pixels; `size` is another than the figure's, in inches."""
    if size is not None:
        figure.set_size_inches(size)
    width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return {"source": data_uri("image/svg+xml", svg(figure)), "width": width, "height": height}


def _checked(pictures: Iterable[Picture], slices: set[int]) -> Iterator[Picture]:
    """Pass pictures on, and make sure that there is one of each slice."""
    left = set(slices)
    for picture in pictures:
        if picture.slice not in left:
            raise ValueError(f"slice {picture.slice} has two pictures or no row; expected a picture of each row.")
        left.remove(picture.slice)
        yield picture
    if left:
        raise ValueError(f"{len(left)} slices have no picture, {min(left)} the first; expected a picture of each row.")


def _page_data(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Collect what the script needs besides the pictures: the rows without their keys, and the measures among them."""
    columns = list(rows[0])
    measures = [
        (f"{resolution}_{name}", group, *rest)
        for resolution, group in _RESOLUTIONS.items()
        for name, *rest in _PER_RESOLUTION
    ]
    measures += [(key, "Slice", *rest) for key, *rest in _PER_SLICE]
    names = ("key", "group", "label", "kind", "worst")
    present = {row["tumor"] for row in rows}
    return {
        "unit": summary["distance_unit"],
        "threshold": summary["threshold"],
        "printed": PRINTED_CARDS,
        "tumors": [t for t in TUMORS if t in present],
        "measures": [dict(zip(names, m, strict=True)) for m in measures if m[0] in columns],
        "columns": columns,
        "rows": [[row[c] for c in columns] for row in rows],
    }
