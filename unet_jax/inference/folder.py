"""Prediction of a folder of images and volumes: a folder of masks, and a table of them."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from unet_jax.imaging import read
from unet_jax.imaging.display import to_display
from unet_jax.imaging.resize import NativeSlice
from unet_jax.imaging.scan import ImageError, Kind, Reading, Slices, one_line
from unet_jax.imaging.write import write_overlay
from unet_jax.inference.lines import Line
from unet_jax.inference.output import Output, check_frames
from unet_jax.inference.predictor import Predictor, Probabilities
from unet_jax.inference.table import Table
from unet_jax.shared.files import is_of_disk
from unet_jax.shared.signals import held

THREADS = min(4, os.cpu_count() or 1)
AHEAD = 2 * THREADS
"""Images that are read before the network asks for them, and again so many slices that wait to be written."""

MANY = 64
"""Images from which on oneDNN computes them, whose programs every process compiles anew, while Eigen's are kept.

Whole processes at 128 px, two cores, jaxlib 0.12, oneDNN against Eigen: at width 64 8 images 2.6 against 2.2 s, 32 3.9
against 3.8 s, 64 5.8 against 6.1 s; at width 16 64 images 3.0 against 2.6 s, 128 3.9 against 3.8 s.
"""

_KINDS: tuple[Kind, ...] = ("probs", "uncertainty", "mask")
"""Values in the order of writing. The mask is last: where there is one, all that belongs to it is there."""


class _ImageFile:
    """An image file from its reading to its lines in the table; its files are written when all slices are done."""

    def __init__(self, path: Path, slices: Slices, predictor: Predictor, output: Output, table: Table):
        self._path, self._slices, self._predictor, self._folder = path, slices, predictor, output.folder
        n, self._volume = len(slices), read.format_of(path).volume
        self._targets, overlay = output.of_slices(path, n), output.overlays
        self._planes: dict[Kind, list[Any]] = {kind: [None] * n for kind in _KINDS if kind in self._targets[0]}
        self._lines: list[Any] = [None] * n
        self._table = table
        self._failure: str | None = None
        """Reason why one of the files could not be written, which leaves the others of this image unwritten too."""
        self.under_way: list[Future[list[Line]]] = []
        """Calls of `write`, in the order of the slices."""
        # A picture gives up its pixels once the network has them; those of a volume are read again for its overlays.
        self._greys = [to_display(slices.read(i)) for i in range(n)] if overlay and not self._volume else None
        self._read_twice = overlay and self._volume

    def __len__(self) -> int:
        return len(self._slices)

    def read(self, index: int) -> tuple[NativeSlice, str]:
        """Read a slice for the network, each once and in order, and the warnings; a file's come with its first."""
        image, frame = self._slices.read(index), self._slices.frame(index)
        alone = frame is not self._slices
        if (alone or index == len(self) - 1) and not self._read_twice:
            frame.pixels = None
        own = self._predictor.warn_about(image)
        warnings = [*(frame.warnings if alone or index == 0 else ()), *([own] if own else ())]
        return NativeSlice(image, frame.aspect), "; ".join(warnings)

    def write(self, index: int, predicted: Probabilities, warning: str) -> list[Line]:
        """Take in what is predicted of a slice; after the last one, write the files and return the lines of all.

        Where a file cannot be written, though its disk takes others, there is one line that says why.

        Raises:
            OSError: the disk takes no more files.
        """
        mask, frame = self._predictor.mask(predicted.probs), self._slices.frame(index)
        back = frame.back
        if "overlay" in self._targets[index]:
            self._attempt("overlay", lambda: self._write_overlay(index, mask))
        values: dict[Kind, Any] = {"mask": mask, "probs": predicted.probs, "uncertainty": predicted.spread}
        for kind, planes in self._planes.items():
            planes[index] = back(values[kind])
        self._lines[index] = Line.measured(
            mask=back(mask),
            probs=back(predicted.probs),
            spacing=frame.spacing,
            input=self._path.as_posix(),
            output=self._targets[index]["mask"].as_posix(),
            threshold=self._predictor.threshold,
            reason=warning,
            slice_index=index if self._volume or len(self) > 1 else None,
        )
        if index < len(self) - 1:
            return []
        # They were submitted earlier, so none of them waits for this one's thread.
        for earlier in self.under_way[:index]:
            earlier.result()
        if self._read_twice:
            self._attempt("overlay", self._remove_other_overlays)
        self._attempt("earlier files", lambda: self._table.remove_stale(self._path, len(self)), "removed")
        for kind, planes in self._planes.items():
            self._attempt(kind, lambda kind=kind, planes=planes: self._write_planes(kind, planes))
        if self._failure is not None:
            return [Line(input=self._path.as_posix(), status="failed", reason=self._failure)]
        return self._lines

    def _attempt(self, what: str, write: Callable[[], None], done: str = "written") -> None:
        """Write or remove some of the image's files, unless it has failed; it fails where they cannot be."""
        if self._failure is not None:
            return
        try:
            write()
        except OSError as e:
            if is_of_disk(e):
                raise
            self._failure = f"its {what} could not be {done} ({e.strerror or one_line(e)})"

    def _write_overlay(self, index: int, mask: Bool[np.ndarray, "h w"]) -> None:
        path = self._overlay(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = to_display(self._slices.read(index)) if self._greys is None else self._greys[index]
        write_overlay(path, grey, mask)

    def _remove_other_overlays(self) -> None:
        """Remove those of an earlier prediction, which may have sliced the volume otherwise."""
        ours = {self._overlay(index) for index in range(len(self))}
        for path in self._overlay(0).parent.iterdir():
            if re.fullmatch(r"\d+\.png", path.name) and path not in ours:
                path.unlink()

    def _write_planes(self, kind: Kind, planes: list[Any]) -> None:
        (self._folder / self._path).parent.mkdir(parents=True, exist_ok=True)
        if self._volume:
            self._slices.write(kind, self._folder / self._targets[0][kind], planes)
            return
        for i, targets in enumerate(self._targets):
            self._slices.frame(i).write(kind, self._folder / targets[kind], [planes[i]])

    def _overlay(self, index: int) -> Path:
        target = self._folder / self._targets[index]["overlay"]
        return target / f"{index:0{len(str(len(self) - 1))}}.png" if self._volume else target


class _Known(NamedTuple):
    """Image that needs no network: its lines are those of an earlier prediction, or say that it cannot be read."""

    lines: list[Line]
    skipped: bool


def predict_images(
    predictor: Predictor,
    root: Path,
    images: Sequence[Path],
    output: Output,
    table: Table,
    advance: Callable[[int], object],
    reading: Reading,
    batch_size: int,
) -> None:
    """Predict every image and volume that can be read, and write what is wanted of it.

    Threads read ahead of the network and write behind it. However many images there are, only a few batches of them
    are in memory, and at most three of many slices: the one computed, the next, and the one that is written.

    Args:
        root: folder that the paths of `images` start from.
        images: those of `find_images` that are to be predicted.
        output: choice of files that `check_output` let pass.
        table: gets each image's lines, in the order of `images`, once its files are written. After an error or an
            interruption it still gets the lines of what was written by then.
        advance: called with 1 for every slice that is done, but for none that the table keeps from an earlier
            prediction.
        batch_size: slices computed at a time.

    Ctrl-C and SIGTERM are heeded between slices.

    Raises:
        OSError: the disk takes no more files.
    """
    errors: list[OSError] = []
    waiting: deque[Any] = deque()  # of _Known, and of slices that the network has: file, index and warning
    written: deque[tuple[Callable[[], list[Line]], bool]] = deque()

    def opened(path: Path) -> _ImageFile | _Known:
        if lines := table.kept(path):
            return _Known(lines, skipped=True)
        try:
            slices = read.open(root / path, reading)
            if clash := check_frames(path, len(slices), images, output):
                raise ImageError(root / path, clash)
            return _ImageFile(path, slices, predictor, output, table)
        except ImageError as e:
            return _Known([Line(input=path.as_posix(), status="failed", reason=e.reason)], skipped=False)

    def holds_many(path: Path) -> bool:
        format = read.format_of(path)
        return format.volume or (format.frames and read.count_slices(root / path, reading) > 1)

    def pixels() -> Iterator[NativeSlice]:
        for file in _ahead(pool, opened, holds_many, images):
            if isinstance(file, _Known):
                waiting.append(file)
                continue
            for index in range(len(file)):
                native, warning = file.read(index)
                waiting.append((file, index, warning))
                yield native

    def pass_known() -> None:
        while waiting and isinstance(waiting[0], _Known):
            known = waiting.popleft()
            pass_on(lambda known=known: known.lines, known.skipped)

    def pass_on(lines: Callable[[], list[Line]], skipped: bool) -> None:
        written.append((lines, skipped))
        while len(written) > AHEAD:
            record()

    def record() -> None:
        lines, skipped = written.popleft()
        try:
            of_image = lines()
        except OSError as e:
            errors.append(e)
            return
        if of_image:
            table.add(of_image, skipped=skipped)
        if not skipped:
            advance(1)

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for predicted in predictor.stream(pixels(), batch_size):
                # What is written and its line in the table belong together.
                with held():
                    pass_known()
                    file, index, warning = waiting.popleft()
                    table.begin()
                    file.under_way.append(pool.submit(file.write, index, predicted, warning))
                    pass_on(file.under_way[-1].result, skipped=False)
                if errors:
                    break
            else:
                with held():
                    pass_known()
        finally:
            with held():
                while written:
                    record()
    if errors:
        raise errors[0]


def _ahead(
    pool: ThreadPoolExecutor,
    opened: Callable[[Path], _ImageFile | _Known],
    holds_many: Callable[[Path], bool],
    images: Sequence[Path],
) -> Iterator[_ImageFile | _Known]:
    """Open images in order, ahead of their use; one of many slices counts as many images, so that few are in memory."""
    under_way: deque[tuple[int, Future[_ImageFile | _Known]]] = deque()
    for image in images:
        weight = AHEAD if holds_many(image) else 1
        under_way.append((weight, pool.submit(opened, image)))
        while sum(weight for weight, _ in under_way) > AHEAD:
            yield under_way.popleft()[1].result()
    while under_way:
        yield under_way.popleft()[1].result()
