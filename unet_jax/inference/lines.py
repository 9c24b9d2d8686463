"""Lines of predictions.csv, and the way to the file and back."""

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unet_jax.config import UserError
from unet_jax.imaging.scan import Spacing
from unet_jax.scoring.components import bounding_box


def _number(format: str) -> Any:
    """Make a field of a number, or None, that is written in that format."""
    return field(default=None, metadata={"format": format})


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of predictions.csv; None is an empty cell."""

    input: str
    """Path of the image in the input folder."""
    output: str = ""
    """Path of the mask in the output folder."""
    status: str
    """ok or failed."""
    height: int | None = _number("d")
    width: int | None = _number("d")
    threshold: float | None = _number("g")
    tumor_pixels: int | None = _number("d")
    tumor_fraction: float | None = _number(".6f")
    max_probability: float | None = _number(".6f")
    reason: str = ""
    """Reason why it failed; for one that is ok, a warning if there is any."""
    slice_index: int | None = _number("d")
    """Number of the slice in its volume, from 0."""
    tumor_mm2: float | None = _number(".2f")
    """Area of predicted tumour, where the spacing is known."""
    mean_probability: float | None = _number(".6f")
    """Mean over the pixels of predicted tumour; None, like the box around them, where there are none."""
    bbox_x: int | None = _number("d")
    """Column of the leftmost pixel of tumour, from 0."""
    bbox_y: int | None = _number("d")
    """Row of the uppermost pixel of tumour, from 0."""
    bbox_width: int | None = _number("d")
    bbox_height: int | None = _number("d")
    spacing_y: float | None = _number(".6g")
    """Millimetres from one row to the next; from the file, else --spacing."""
    spacing_x: float | None = _number(".6g")
    """Millimetres from one column to the next."""

    @classmethod
    def measured(
        cls,
        *,
        mask: Bool[np.ndarray, "h w"],
        probs: Float[np.ndarray, "h w"],
        spacing: Spacing | None,
        **rest: Any,
    ) -> "Line":
        """Make the line of a slice that was predicted; `rest` are the fields that are not measured."""
        count = int(np.count_nonzero(mask))
        if (box := bounding_box(mask)) is not None:
            rows, columns = box
            rest["mean_probability"] = float(probs[mask].mean(dtype=np.float64))
            rest |= {"bbox_x": columns.start, "bbox_width": columns.stop - columns.start}
            rest |= {"bbox_y": rows.start, "bbox_height": rows.stop - rows.start}
        if spacing is not None:
            rest |= {"spacing_y": spacing[0], "spacing_x": spacing[1], "tumor_mm2": count * spacing[0] * spacing[1]}
        return cls(
            status="ok",
            height=mask.shape[0],
            width=mask.shape[1],
            tumor_pixels=count,
            tumor_fraction=count / mask.size,
            max_probability=float(probs.max()),
            **rest,
        )


_FORMATS = {f.name: f.metadata.get("format", "") for f in fields(Line)}
"""Format of each column, which is empty for text."""
Lines = dict[str, list[Line]]
"""Lines by `input`."""


def read_lines(path: Path, torn: bool = False) -> Lines:
    """Read the lines of a table, which may be missing, by image; of one that may be `torn` all but the last image's."""
    by_image: Lines = {}
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as f:
            for cells in csv.DictReader(f):
                if list(cells) == list(_FORMATS) and None not in cells.values():
                    with suppress(ValueError):  # a number that is none
                        line = Line(**{name: _parsed(cell, _FORMATS[name]) for name, cell in cells.items()})
                        by_image.setdefault(line.input, []).append(line)
    except FileNotFoundError:
        return {}
    except csv.Error as e:
        raise UserError(f"{path} is damaged ({e}). Remove it.") from e
    if torn and by_image:
        by_image.popitem()
    return by_image


def _parsed(cell: str, format: str) -> Any:
    if not format:
        return cell
    kind = int if format == "d" else float
    return kind(cell) if cell else None


def to_csv(lines: Sequence[Line], header: bool = False) -> bytes:
    """Write lines, after a header line where that is wanted."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(_FORMATS), lineterminator="\n")
    if header:
        writer.writeheader()
    for line in lines:
        writer.writerow(
            {name: "" if cell is None else format(cell, _FORMATS[name]) for name, cell in vars(line).items()}
        )
    # Names that are not UTF-8 are written as the bytes that they are.
    return text.getvalue().encode("utf-8", "surrogateescape")
