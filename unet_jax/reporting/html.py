"""The report of an evaluation as one HTML file: scores, plots, and every slice. It needs no network. No jax."""

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from unet_jax.config import TUMORS
from unet_jax.reporting.pictures import Picture, colour_bar, picture_record
from unet_jax.reporting.sections import detection, facts, figures, summary_table

__all__ = ["Picture", "write_report"]

PRINTED_CARDS = 24
"""Slices of the gallery that are printed."""

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


def write_report(
    path: Path,
    *,
    title: str,
    summary: dict[str, Any],
    rows: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    thresholds: Mapping[str, float] | None,
    calibration: dict[str, Any] | None,
    threshold_cost: dict[str, Any] | None,
    pictures: Iterable[Picture],
) -> None:
    """Write the report. The same input gives the same bytes.

    Args:
        path: where to; an existing file is replaced once the new one is whole.
        title: the run's name.
        summary: content of summary.json.
        rows: those of slices.csv, at least one.
        records: lines of metrics.jsonl; without any there are no learning curves.
        thresholds: micro-IoU on validation by threshold.
        calibration: `ece`, `ece_candidates` and `bins`.
        threshold_cost: `chosen`, `micro_iou`, `best_on_split`, `best_micro_iou` and `cost`.
        pictures: one of each row's slice, in any order. They are taken one by one and not kept.

    Raises:
        ValueError: the pictures' slices are not those of the rows.
    """
    page = resources.files("unet_jax.reporting") / "page"
    style, script, template = (page.joinpath(f"report.{kind}").read_text("utf-8") for kind in ("css", "js", "html"))
    # The page may show pictures that it holds, and run this script and style, and do nothing else.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head, tail = template.split("$pictures\n")
    values = {
        "title": escape(title),
        "split": escape(str(summary["split"])),
        "policy": policy,
        "style": style,
        "script": script,
        "facts": facts(summary),
        "scores": summary_table(summary),
        "detection": detection(summary),
        "figures": figures(summary, rows, records, thresholds, calibration, threshold_cost),
        "unit": escape(str(summary.get("distance_unit") or "px")),
        "colour_bar": colour_bar(),
        "data": _json(_page_data(summary, rows)),
    }
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        # A title that is a name of a file can hold what UTF-8 cannot.
        with part.open("x", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(Template(head).substitute(values))
            for picture in _checked(pictures, {row["slice"] for row in rows}):
                record = _json(picture_record(picture))
                file.write(f'<script type="application/json" class="picture" id="p{picture.slice}">{record}</script>\n')
            file.write(Template(tail).substitute(values))
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _checked(pictures: Iterable[Picture], slices: set[int]) -> Iterator[Picture]:
    left = set(slices)
    for picture in pictures:
        if picture.slice not in left:
            raise ValueError(f"slice {picture.slice} has two pictures or no row; expected a picture of each row.")
        left.remove(picture.slice)
        yield picture
    if left:
        raise ValueError(f"{len(left)} slices have no picture, {min(left)} the first; expected a picture of each row.")


def _page_data(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the script needs besides the pictures: the rows without their keys, and the measures among them."""
    columns = list(rows[0])
    measures = []
    for resolution, group in (("native", "Native resolution"), ("network", "Resolution of the network")):
        for name, label, kind, worst in _PER_RESOLUTION:
            key = f"{resolution}_{name}"
            measures.append({"key": key, "group": group, "label": label, "kind": kind, "worst": worst})
    for key, label, kind, worst in _PER_SLICE:
        measures.append({"key": key, "group": "Slice", "label": label, "kind": kind, "worst": worst})
    present = {row["tumor"] for row in rows}
    return {
        "unit": summary.get("distance_unit") or "px",
        "threshold": summary.get("threshold"),
        "printed": PRINTED_CARDS,
        "tumors": [t for t in TUMORS if t in present],
        "measures": [m for m in measures if m["key"] in columns],
        "columns": columns,
        "rows": [[row[c] for c in columns] for row in rows],
    }


def _json(content: Any) -> str:
    """JSON inside a script element, where `</script>` and `<!--` in a string would end or change it."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), default=_plain)
    return text.replace("<", "\\u003c")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in JSON.")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
