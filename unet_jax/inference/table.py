"""predictions.csv, how it was made, and what it keeps of an earlier prediction."""

import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from unet_jax.config import UserError
from unet_jax.imaging.scan import Spacing
from unet_jax.inference.output import TABLE, Output, tables_in, unfinished, without_frame
from unet_jax.scoring.components import bounding_box
from unet_jax.shared.files import is_full, naming, replacing
from unet_jax.shared.signals import held


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
MAY_DIFFER = ("library", "precision")
"""Settings in which parts of one prediction may differ, as machines do: few pixels of a mask change, if any."""


class Table:
    """predictions.csv in the making: filled under a hidden name, which becomes its own however the work ends.

    Lines reach the file one by one, so that those of a process that was killed are found again. Beside the table lies
    predictions.json, which says how its lines were made; it is there before the first of the files that they speak of.

    Attributes:
        path: where the table will be.
        earlier: lines of images that an earlier prediction, made in the same way, has done. None unless asked for.
        done: lines so far.
        skipped: images so far whose lines are earlier ones.
        with_tumor: lines with at least one pixel of predicted tumour.
        failed: "PATH: REASON" of the images that could not be read.
        warned: "PATH: WARNING" of the images that were predicted with a warning.
        older: masks in the folder of an earlier prediction that this one did not make anew, once it has ended.
        note: how another part's table was made, where that differs as machines do; None where none does.
    """

    def __init__(self, output: Output, made: dict[str, Any], images: Sequence[Path] = (), keep: bool = False):
        """Look for earlier lines.

        Args:
            output: choice of files to write.
            images: all images of the input, of every part.
            made: settings, for JSON: lines of one image that were made under equal settings are equal, and so are the
                image's files. A setting that an earlier prediction does not name had no files.
            keep: keep the lines of an earlier prediction.

        Raises:
            UserError: lines in the folder were made otherwise, and would be taken for these.
        """
        self.path, self._unfinished, self._output = output.table, unfinished(output.table), output
        self._made, self._keep = json.loads(json.dumps(made)), keep
        self.earlier, self._own, self.note = _earlier(output, self._made, keep)
        self._masks_before, self._masks, self._images = masks_of(self.path), set[str](), images
        if keep:
            self._made = _read_made(self.path) | self._made
            self._made.pop("older_masks", None)
        self.older: list[str] = []
        self.done = self.with_tumor = self.skipped = 0
        self.failed: list[str] = []
        self.warned: list[str] = []
        self._begun = False
        self._added: set[str] = set()

    def __enter__(self) -> "Table":
        opened = False
        try:
            with held():
                self._open()
                opened = True
        except KeyboardInterrupt:
            if opened:
                self._close(done=False)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Once something was written, lines or none, a table says that the folder is a prediction's.
        with held():
            self._close(done=kind is None or self._begun)

    def _open(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self._unfinished.exists() and self._own:
                # What a killed process left is in the file that is about to be written anew.
                with replacing(self.path) as f:
                    f.write(_csv([line for lines in self._own.values() for line in lines], header=True))
            self._file = self._unfinished.open("wb")
            try:
                self._write(_csv([], header=True))
            except OSError:
                self._unfinished.unlink()
                with suppress(OSError):  # it would be written at last
                    self._file.close()
                raise
        except OSError as e:
            if is_full(e):
                raise
            raise UserError(f"{self.path.parent} cannot be written to ({e.strerror}). Give another --output.") from e

    def _close(self, done: bool) -> None:
        try:
            # Those of images that this run did not come to, or was not given.
            for name in self._own:
                if name not in self._added:
                    kept = self.kept(Path(name))
                    self._write(_csv(kept))
                    self._masks |= {line.output for line in kept}
        finally:
            with naming(self.path):
                self._file.close()
        if done:
            self.begin()
            if self.older:
                self._write_made()
            os.replace(self._unfinished, self.path)
        else:
            self._unfinished.unlink()

    def begin(self) -> None:
        """Prepare for the first file of an image, before it is written: an earlier table is no longer true then."""
        if self._begun:
            return
        self._begun = True
        if not self._keep:
            self.path.unlink(missing_ok=True)
        self._write_made()

    def add(self, lines: Sequence[Line], skipped: bool = False) -> None:
        """Write all lines of an image, at once; `skipped` if they are earlier ones."""
        self.begin()
        self._write(_csv(lines))
        self.done += len(lines)
        self.skipped += skipped
        for line in lines:
            self._added.add(line.input)
            self._masks.add(line.output)
            if line.status == "failed":
                self.failed.append(f"{line.input}: {line.reason}")
            elif line.reason:
                self.warned.append(f"{line.input}: {line.reason}")
            self.with_tumor += bool(line.tumor_pixels)

    def kept(self, image: Path) -> list[Line]:
        """Return the earlier lines of an image whose files are all there."""
        lines = self.earlier.get(image.as_posix(), [])
        named = (target for files in self._output.of_slices(image, len(lines)) for target in files.values())
        return lines if all(os.path.exists(self._output.folder / target) for target in named) else []

    @property
    def images(self) -> int:
        """Number of images so far, each with all its lines."""
        return len(self._added)

    def _write_made(self) -> None:
        """Write predictions.json, with the masks that may be taken for this prediction's and are not."""
        if names := self._masks_before - self._masks:
            share = set(self._output.share(self._images))
            others = {self._output.of(image)["mask"].as_posix() for image in self._images if image not in share}
            names = {name for name in names if name not in others and without_frame(name) not in others}
        self.older = sorted(name for name in names if os.path.exists(self._output.folder / name))
        made = self._made | ({"older_masks": self.older} if self.older else {})
        with replacing(self.path.with_suffix(".json")) as f:
            f.write(json.dumps(made, indent=2).encode() + b"\n")

    def _write(self, text: bytes) -> None:
        with naming(self.path):
            self._file.write(text)
            self._file.flush()


def masks_of(table: Path) -> set[str]:
    """Read which masks a table lists, whole or unfinished, or predictions.json beside it names as older than that."""
    names: set[str] = set()
    for path in (table, unfinished(table)):
        # One that is damaged is about to be replaced.
        with suppress(OSError, csv.Error), path.open(encoding="utf-8", errors="surrogateescape", newline="") as f:
            names |= {str(row.get("output")) for row in csv.DictReader(f) if row.get("status") == "ok"}
    older = _read_made(table).get("older_masks")
    return names | {str(name) for name in older} if isinstance(older, list) else names


def library_before(output: Output) -> str | None:
    """Name what computed the lines that the table has already; None where none is there, or does not tell."""
    return _read_made(output.table).get("library")


def _earlier(output: Output, made: dict[str, Any], keep: bool) -> tuple[Lines, Lines, str | None]:
    """Read the lines of all tables in the folder, those of this prediction's own, and its `note`."""
    every: Lines = {}
    own: Lines = {}
    note = None
    machine = {name: value for name, value in made.items() if name in MAY_DIFFER}
    decisive = made if keep else {name: value for name, value in made.items() if name not in machine}
    for table in tables_in(output.folder):
        # Its own is written anew, unless it is to be kept. Others would stay, and speak of files that are no more.
        if table == output.table and not keep:
            continue
        before = _read_made(table)
        differences = _differences(before, decisive)
        lines = _read(table) | _read(unfinished(table), torn=True) if keep or differences else {}
        if lines and differences:
            raise UserError(
                f"{table} was made {differences}. Use the same options, or give another --output"
                + (", or predict anew without --skip-existing." if table == output.table else ", or remove the table.")
            )
        if before and not keep and (other := _differences(before, machine)):
            note = f"{table} was made {other}; its masks may differ from those made here in a few pixels"
        every |= lines
        if table == output.table:
            own = lines
    done = {name: lines for name, lines in every.items() if all(line.status == "ok" for line in lines)}
    return done, own, note


def _read(path: Path, torn: bool = False) -> Lines:
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


def _read_made(table: Path) -> dict[str, Any]:
    try:
        made = json.loads(table.with_suffix(".json").read_text("utf-8"))
        return made if isinstance(made, dict) else {}
    except (OSError, ValueError):
        return {}


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Tell in what two ways differ: "with threshold 0.5 instead of 0.4 and other networks"; empty for equal ones."""
    if not before:
        return f"in a way that no {TABLE}.json beside it tells" if now else ""
    told = [
        f"other {name}" if isinstance(value, list | dict) else f"{name} {before[name]} instead of {value}"
        for name, value in now.items()
        if name in before and before[name] != value
    ]
    return f"with {' and '.join(told)}" if told else ""


def _csv(lines: Sequence[Line], header: bool = False) -> bytes:
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
