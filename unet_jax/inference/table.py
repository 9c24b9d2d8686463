"""predictions.csv, how it was made, and what it keeps of an earlier prediction."""

import csv
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from unet_jax.config import UserError
from unet_jax.inference.lines import Line, Lines, read_lines, to_csv
from unet_jax.inference.output import TABLE, Output, lock_of, tables_in, unfinished, without_frame
from unet_jax.inference.stale import Stale
from unet_jax.shared.files import naming, replacing, writing_in
from unet_jax.shared.locks import lock
from unet_jax.shared.signals import held

MAY_DIFFER = ("library", "precision")
"""Settings in which parts of one prediction may differ, as machines do: few pixels of a mask change, if any."""


class Table:
    """predictions.csv in the making: filled under a hidden name, which becomes its own however the work ends.

    Lines reach the file one by one, so that those of a process that was killed are found again. Beside the table lies
    predictions.json, which says how its lines were made; it is there before the first of the files that they speak of.
    From entry to exit no other process makes the same table. Earlier lines are looked for at the entry.

    Attributes:
        path: where the table will be.
        earlier: lines of images that an earlier prediction, made in the same way, has done. None unless asked for.
        done: lines so far.
        skipped: images so far whose lines are earlier ones.
        with_tumor: lines with at least one pixel of predicted tumour.
        failed: "PATH: REASON" of the images that could not be read.
        warned: "PATH: WARNING" of the images that were predicted with a warning.
        older: masks in the folder of an earlier prediction that this one did not make anew, once it has ended.
        notes: lines for a person, such as how another part's table was made, where that differs as machines do.
    """

    def __init__(self, output: Output, made: dict[str, Any], images: Sequence[Path] = (), keep: bool = False):
        """Describe a table, which is made at the entry.

        Args:
            output: choice of files to write.
            images: all images of the input, of every part.
            made: settings, for JSON: lines of one image that were made under equal settings are equal, and so are the
                image's files. A setting that an earlier prediction does not name had no files.
            keep: keep the lines of an earlier prediction.
        """
        self.path, self._unfinished, self._output = output.table, unfinished(output.table), output
        self._made, self._keep = json.loads(json.dumps(made)), keep
        self._masks, self._images = set[str](), images
        self.notes: list[str] = []
        self.older: list[str] = []
        self.done = self.with_tumor = self.skipped = 0
        self.failed: list[str] = []
        self.warned: list[str] = []
        self._begun = False
        self._added: set[str] = set()

    def __enter__(self) -> "Table":
        """Lock the table, look for earlier lines, and begin it.

        Raises:
            UserError: another process makes it; lines in the folder were made otherwise, and would be taken for these;
                the folder cannot be written to.
        """
        opened = False
        try:
            with held():
                self._open()
                opened = True
        except KeyboardInterrupt:
            if opened:
                self._leave(done=False)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Once something was written, lines or none, a table says that the folder is a prediction's.
        with held():
            self._leave(done=kind is None or self._begun)

    def _open(self) -> None:
        with ExitStack() as locked:
            self._lock(locked)
            self._look_back()
            self._start()
            self._locked = locked.pop_all()

    def _leave(self, done: bool) -> None:
        with self._locked:
            self._close(done)

    def _lock(self, locked: ExitStack) -> None:
        path = lock_of(self.path)
        with writing_in(self.path.parent, "Give another --output."):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            guard = lock(
                path,
                taken=f"{self.path} is being made by another prediction. Wait for it to end, give another --output, or "
                "share the images among processes by --num-parts and --part-id.",
                no_locks="a second prediction out of this folder",
                say=self.notes.append,
            )
        locked.enter_context(guard)
        # Removed before it is given free: who waits for a file that is no more has no lock.
        locked.callback(_remove, path)

    def _look_back(self) -> None:
        self.earlier, self._own, notes = _earlier(self._output, self._made, self._keep)
        self.notes += notes
        self._masks_before = masks_of(self.path)
        listed = set[str]().union(*map(masks_of, tables_in(self._output.folder)))
        self._stale = Stale(self._output, self._images, listed)
        if self._keep:
            self._made = _read_made(self.path) | self._made
            self._made.pop("older_masks", None)

    def _start(self) -> None:
        with writing_in(self.path.parent, "Give another --output."):
            if self._unfinished.exists() and self._own:
                # What a killed process left is in the file that is about to be written anew.
                with replacing(self.path) as f:
                    f.write(to_csv([line for lines in self._own.values() for line in lines], header=True))
            self._file = self._unfinished.open("wb")
            try:
                self._write(to_csv([], header=True))
            except OSError:
                self._unfinished.unlink()
                with suppress(OSError):  # it would be written at last
                    self._file.close()
                raise

    def _close(self, done: bool) -> None:
        try:
            # Those of images that this run did not come to, or was not given.
            for name in self._own:
                if name not in self._added:
                    kept = self.kept(Path(name))
                    self._write(to_csv(kept))
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
        self._write(to_csv(lines))
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

    def remove_stale(self, image: Path, n: int) -> None:
        """Remove what an earlier prediction left of an image of n slices that is made anew, of kinds not wanted now.

        Nothing of one that was made in the same way, and lacks but a kind that is wanted besides.
        """
        lines = self.earlier.get(image.as_posix(), [])
        if not lines or not all(os.path.exists(self._output.folder / line.output) for line in lines):
            self._stale.remove(image, n)

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


def _remove(path: Path) -> None:
    with suppress(OSError):  # Windows removes none that is open
        path.unlink()


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


def _earlier(output: Output, made: dict[str, Any], keep: bool) -> tuple[Lines, Lines, list[str]]:
    """Read the lines of all tables in the folder, those of this prediction's own, and notes."""
    every: Lines = {}
    own: Lines = {}
    notes: list[str] = []
    machine = {name: value for name, value in made.items() if name in MAY_DIFFER}
    decisive = made if keep else {name: value for name, value in made.items() if name not in machine}
    for table in tables_in(output.folder):
        # Its own is written anew, unless it is to be kept. Others would stay, and speak of files that are no more.
        if table == output.table and not keep:
            continue
        before = _read_made(table)
        differences = _differences(before, decisive)
        lines = read_lines(table) | read_lines(unfinished(table), torn=True) if keep or differences else {}
        if lines and differences:
            raise UserError(
                f"{table} was made {differences}. Use the same options, or give another --output"
                + (", or predict anew without --skip-existing." if table == output.table else ", or remove the table.")
            )
        if before and not keep and (other := _differences(before, machine)):
            notes = [f"note: {table} was made {other}; its masks may differ from those made here in a few pixels"]
        every |= lines
        if table == output.table:
            own = lines
    done = {name: lines for name, lines in every.items() if all(line.status == "ok" for line in lines)}
    return done, own, notes


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
