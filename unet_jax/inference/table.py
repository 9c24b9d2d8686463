"""predictions.csv, how it was made, and what it keeps of an earlier prediction."""

import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unet_jax.config import UserError
from unet_jax.imaging.scan import Spacing
from unet_jax.inference.output import TABLE, Output, described_by, tables_in, unfinished
from unet_jax.shared.files import is_full, naming, replacing


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of predictions.csv; numbers as they are written there."""

    input: str
    """Path of the image in the input folder."""
    output: str = ""
    """Path of the mask in the output folder."""
    status: str
    """ok or failed."""
    height: str = ""
    width: str = ""
    threshold: str = ""
    tumor_pixels: str = ""
    tumor_fraction: str = ""
    max_probability: str = ""
    reason: str = ""
    """Why it failed; for one that is ok, a warning if there is any."""
    slice_index: str = ""
    """Of a volume: which of its slices, from 0."""
    tumor_mm2: str = ""
    """Where the spacing is known."""
    mean_probability: str = ""
    """Over the pixels of predicted tumour; like the box around them empty where there are none."""
    bbox_x: str = ""
    """Column of the leftmost one, from 0."""
    bbox_y: str = ""
    """Row of the uppermost one, from 0."""
    bbox_width: str = ""
    bbox_height: str = ""
    spacing_y: str = ""
    """Millimetres from one row to the next; from the file, else --spacing."""
    spacing_x: str = ""

    @classmethod
    def measured(
        cls,
        *,
        mask: Bool[np.ndarray, "h w"],
        probs: Float[np.ndarray, "h w"],
        threshold: float,
        spacing: Spacing | None,
        **rest: str,
    ) -> "Row":
        """The row of a prediction; `rest` are the columns that are not measured."""
        count = int(np.count_nonzero(mask))
        if count:
            y, x = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            rest["mean_probability"] = f"{probs[mask].mean(dtype=np.float64):.6f}"
            rest |= {"bbox_x": str(x[0]), "bbox_width": str(x[-1] - x[0] + 1)}
            rest |= {"bbox_y": str(y[0]), "bbox_height": str(y[-1] - y[0] + 1)}
        if spacing is not None:
            rest |= {"spacing_y": f"{spacing[0]:.6g}", "spacing_x": f"{spacing[1]:.6g}"}
            rest["tumor_mm2"] = f"{count * spacing[0] * spacing[1]:.2f}"
        return cls(
            status="ok",
            height=str(mask.shape[0]),
            width=str(mask.shape[1]),
            threshold=f"{threshold:g}",
            tumor_pixels=str(count),
            tumor_fraction=f"{count / mask.size:.6f}",
            max_probability=f"{probs.max():.6f}",
            **rest,
        )


COLUMNS = [f.name for f in fields(Row)]
Rows = dict[str, list[Row]]
"""By `input`."""


class Table:
    """predictions.csv in the making: filled under a hidden name, which becomes its own however the work ends.

    Rows reach the file one by one, so that those of a process that was killed are found again. Beside the table lies
    predictions.json, which says how its rows were made; it is there before the first of the files that they speak of.

    Attributes:
        path: where the table will be.
        earlier: rows of images that an earlier prediction, made in the same way, has done. None unless asked for.
        done: rows so far.
        skipped: images so far whose rows are earlier ones.
        with_tumor: rows with at least one pixel of predicted tumour.
        failed: "PATH: REASON" of the images that could not be read.
        warned: "PATH: WARNING" of the images that were predicted with a warning.
    """

    def __init__(self, output: Output, made: dict[str, Any], keep: bool = False):
        """Look for earlier rows.

        Args:
            output: what is to be written.
            made: how, for JSON: rows of the same image that were made in the same way are equal, and so are its files.
                What an earlier prediction does not name, it left no files of.
            keep: keep the rows of an earlier prediction.

        Raises:
            UserError: rows in the folder were made otherwise, and would be taken for these.
        """
        self.path, self._part, self._output = output.table, unfinished(output.table), output
        self._made, self._keep = json.loads(json.dumps(made)), keep
        self.earlier, self._own = _earlier(output, self._made, keep)
        if keep:
            self._made = _read_made(self.path) | self._made
        self.done = self.with_tumor = self.skipped = 0
        self.failed: list[str] = []
        self.warned: list[str] = []
        self._begun = False
        self._added: set[str] = set()

    def __enter__(self) -> "Table":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._part.exists() and self._own:
                # What a killed process left is in the part that is about to be written anew.
                with replacing(self.path) as f:
                    f.write(_csv([row for rows in self._own.values() for row in rows], header=True))
            self._file = self._part.open("wb")
            try:
                self._write(_csv([], header=True))
            except OSError:
                self._part.unlink()
                with suppress(OSError):  # it would be written at last
                    self._file.close()
                raise
        except OSError as e:
            if is_full(e):
                raise
            raise UserError(f"{self.path.parent} cannot be written to ({e.strerror}). Give another --output.") from e
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            # Of images that this run did not come to, or was not given.
            for name in self._own:
                if name not in self._added:
                    self._write(_csv(self.kept(Path(name))))
        finally:
            with naming(self.path):
                self._file.close()
        if kind is None or self.done:
            self.begin()
            os.replace(self._part, self.path)
        else:
            self._part.unlink()

    def begin(self) -> None:
        """To be called before the first file of an image is written: an earlier table is no longer true then."""
        if self._begun:
            return
        self._begun = True
        if not self._keep:
            self.path.unlink(missing_ok=True)
        with replacing(described_by(self.path)) as f:
            f.write(json.dumps(self._made, indent=2).encode() + b"\n")

    def add(self, rows: Sequence[Row], skipped: bool = False) -> None:
        """Write all rows of an image, at once; `skipped` if they are earlier ones."""
        self.begin()
        self._write(_csv(rows))
        self.done += len(rows)
        self.skipped += skipped
        for row in rows:
            self._added.add(row.input)
            if row.status == "failed":
                self.failed.append(f"{row.input}: {row.reason}")
            elif row.reason:
                self.warned.append(f"{row.input}: {row.reason}")
            self.with_tumor += row.tumor_pixels not in ("", "0")

    def kept(self, image: Path) -> list[Row]:
        """The earlier rows of an image whose files are all there."""
        rows = self.earlier.get(image.as_posix(), [])
        return rows if rows and self._output.exist_for(image) else []

    def _write(self, text: bytes) -> None:
        with naming(self.path):
            self._file.write(text)
            self._file.flush()


def _earlier(output: Output, made: dict[str, Any], keep: bool) -> tuple[Rows, Rows]:
    """Rows of all tables in the folder, and those of this prediction's own."""
    every: Rows = {}
    own: Rows = {}
    for table in tables_in(output.folder):
        # Its own is written anew, unless it is to be kept. Others would stay, and speak of files that are no more.
        if table == output.table and not keep:
            continue
        differences = _differences(_read_made(table), made)
        rows = _read(table) | _read(unfinished(table), torn=True) if keep or differences else {}
        if rows and differences:
            raise UserError(
                f"{table} was made {differences}. Use the same options, or give another --output"
                + (", or predict anew without --skip-existing." if table == output.table else ", or remove the table.")
            )
        every |= rows
        if table == output.table:
            own = rows
    return {name: rows for name, rows in every.items() if all(row.status == "ok" for row in rows)}, own


def _read(path: Path, torn: bool = False) -> Rows:
    """Rows of a table by image.

    Args:
        torn: its process may have been killed while it wrote; the last image's are left out.
    """
    by_image: Rows = {}
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as f:
            for row in csv.DictReader(f):
                if list(row) == COLUMNS and None not in row.values():
                    by_image.setdefault(row["input"], []).append(Row(**row))
    except FileNotFoundError:
        return {}
    except csv.Error as e:
        raise UserError(f"{path} is damaged ({e}). Remove it.") from e
    if torn and by_image:
        by_image.popitem()
    return by_image


def _read_made(table: Path) -> dict[str, Any]:
    try:
        made = json.loads(described_by(table).read_text())
        return made if isinstance(made, dict) else {}
    except (OSError, ValueError):
        return {}


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """ "with threshold 0.5 instead of 0.4 and other networks"; empty where there are none."""
    if not before:
        return f"in a way that no {TABLE}.json beside it tells" if now else ""
    differ = [name for name in now if name in before and before[name] != now[name]]
    told = [
        f"other {name}" if isinstance(now[name], list | dict) else f"{name} {before[name]} instead of {now[name]}"
        for name in differ
    ]
    return f"with {' and '.join(told)}" if told else ""


def _csv(rows: Sequence[Row], header: bool = False) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(vars(row) for row in rows)
    # Names that are not UTF-8 are written as the bytes that they are.
    return text.getvalue().encode("utf-8", "surrogateescape")
