"""From a folder of images and volumes to a folder of masks and a table of them."""

import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from unet_jax.imaging.display import to_display
from unet_jax.imaging.find import is_volume
from unet_jax.imaging.formats.nifti import Volume, open_volume
from unet_jax.imaging.read import read_scan
from unet_jax.imaging.scan import ImageError, Spacing
from unet_jax.imaging.write import write_mask, write_overlay, write_probs, write_spread
from unet_jax.inference.output import Output, folder_of
from unet_jax.inference.predictor import Predictor, Probabilities
from unet_jax.inference.table import Row, Table

THREADS = min(4, os.cpu_count() or 1)
AHEAD = 2 * THREADS
"""Images that are read before the network asks for them, and again so many that wait to be written."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How files are read."""

    axis: int | None = None
    """Along which volumes are sliced; None for the one with the fewest slices."""
    upright: bool = False
    """Turn the slices of volumes as `open_volume` says."""
    spacing: float | None = None
    """Millimetres between pixels, where the file does not tell."""


class _VolumeFiles:
    """The files of a volume in the making; they are written when all slices are done."""

    def __init__(self, path: Path, volume: Volume, output: Output):
        self.path, self.volume, self._output = path, volume, output
        self.targets = {kind: output.folder / target for kind, target in output.of(path).items()}
        self._mask = volume.empty(np.uint8)
        self._probs, self._spread = (
            volume.empty(np.float32) if kind in self.targets else None for kind in ("probs", "uncertainty")
        )
        self._rows: list[Row | None] = [None] * len(volume)
        self.under_way: list[Future[list[Row]]] = []

    def overlay(self, index: int) -> Path:
        return self.targets["overlay"] / f"{index:0{len(str(len(self._rows) - 1))}}.png"

    def put(self, index: int, mask: Bool[np.ndarray, "h w"], predicted: Probabilities, rest: dict[str, Any]) -> None:
        """Take what is predicted of a slice; `rest` is what its row is made of besides."""
        at, back = self.volume.at(index), self.volume.back
        if "overlay" in self.targets:
            self.targets["overlay"].mkdir(parents=True, exist_ok=True)
            write_overlay(self.overlay(index), to_display(self.volume.read(index)), mask)
        mask, probs = back(mask), back(predicted.probs)
        self._mask[at] = mask
        if self._probs is not None:
            self._probs[at] = probs
        if self._spread is not None and predicted.spread is not None:
            self._spread[at] = back(predicted.spread)
        self._rows[index] = Row.measured(mask=mask, probs=probs, slice_index=str(index), **rest)

    def finish(self) -> list[Row]:
        """Wait for the slices, which were submitted earlier, and write the files."""
        for slice_ in self.under_way:
            slice_.result()
        if "overlay" in self.targets:
            # An earlier prediction may have sliced the volume otherwise.
            ours = {self.overlay(index).name for index in range(len(self._rows))}
            for path in self.targets["overlay"].iterdir():
                if re.fullmatch(r"\d+\.png", path.name) and path.name not in ours:
                    path.unlink()
        for kind, values in (("probs", self._probs), ("uncertainty", self._spread), ("mask", self._mask)):
            if values is not None:
                self.volume.write(self.targets[kind], values)
        return [row for row in self._rows if row is not None]


@dataclass
class _Slice:
    """A slice between its reading and its row."""

    path: Path
    image: Shaped[np.ndarray, "h w"] | None = None
    """Given up once the network has it, so that few native slices are in memory."""
    readable: bool = True
    spacing: Spacing | None = None
    grey: UInt8[np.ndarray, "h w"] | None = None
    """For the overlay of an image."""
    reason: str = ""
    volume: _VolumeFiles | None = None
    index: int = 0
    earlier: list[Row] = field(default_factory=list)
    """Rows of an image that is skipped."""


def predict_images(
    predictor: Predictor,
    source: Path,
    images: Sequence[Path],
    output: Output,
    table: Table,
    advance: Callable[[], object],
    *,
    reading: Reading,
    batch_size: int,
) -> None:
    """Predict every image and volume that can be read, and write what is wanted of it.

    Threads read ahead of the network and write behind it. However many images there are, only a few batches of them
    are in memory, and at most three volumes: the one computed, the next, and the one that is written.

    Args:
        source: the image or folder given.
        images: those of `find_images(source)` that are to be predicted.
        output: what `check_output` let pass.
        table: gets each image's rows, in the order of `images`, once its files are written. After an error or an
            interruption it still gets the rows of what was written by then.
        advance: called for every slice that is done, but for none that the table keeps from an earlier prediction.
        batch_size: slices computed at a time.

    Raises:
        OSError: a file could not be written.
    """
    root = folder_of(source)
    under_way: deque[_Slice] = deque()
    written: deque[tuple[_Slice, Future[list[Row]]]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:

        def readable() -> Iterator[Shaped[np.ndarray, "h w"]]:
            for part in _read_ahead(pool, root, images, output, table, reading):
                for slice_ in [part] if isinstance(part, _Slice) else _slices(part):
                    under_way.append(slice_)
                    if slice_.image is not None:
                        slice_.reason = predictor.warn_about(slice_.image) or ""
                        image, slice_.image = slice_.image, None
                        yield image

        def finish(part: _Slice, predicted: Probabilities | None) -> None:
            table.begin()
            future = pool.submit(_write, part, predicted, predictor, output, reading)
            written.append((part, future))
            if (files := part.volume) is not None:
                files.under_way.append(future)
                if part.index == len(files.volume) - 1:
                    written.append((part, pool.submit(files.finish)))
            while len(written) > AHEAD:
                record()

        def record() -> None:
            part, future = written.popleft()
            rows = future.result()
            if rows:
                table.add(rows, skipped=bool(part.earlier))
            # The rows of a volume come once, after its slices.
            if not part.earlier and bool(rows) == (part.volume is None):
                advance()

        try:
            for predicted in predictor.stream(readable(), batch_size):
                while not under_way[0].readable:
                    finish(under_way.popleft(), None)
                finish(under_way.popleft(), predicted)
            while under_way:
                finish(under_way.popleft(), None)
        finally:
            while written:
                record()


def _read_ahead(
    pool: ThreadPoolExecutor, root: Path, images: Sequence[Path], output: Output, table: Table, reading: Reading
) -> Iterator[_Slice | _VolumeFiles]:
    """Images and volumes in order; a volume counts as many images, so that few are in memory."""
    under_way: deque[tuple[int, Future[_Slice | _VolumeFiles]]] = deque()
    for image in images:
        if earlier := table.kept(image):
            under_way.append((1, pool.submit(_Slice, image, readable=False, earlier=earlier)))
        else:
            weight = AHEAD if is_volume(image) else 1
            under_way.append((weight, pool.submit(_read, root, image, output, reading)))
        while sum(weight for weight, _ in under_way) > AHEAD:
            yield under_way.popleft()[1].result()
    while under_way:
        yield under_way.popleft()[1].result()


def _read(root: Path, path: Path, output: Output, reading: Reading) -> _Slice | _VolumeFiles:
    try:
        if is_volume(path):
            return _VolumeFiles(path, open_volume(root / path, reading.axis, reading.upright), output)
        image, spacing = read_scan(root / path)
    except ImageError as e:
        return _Slice(path, readable=False, reason=e.reason)
    return _Slice(path, image, spacing=spacing, grey=to_display(image) if output.overlays else None)


def _slices(files: _VolumeFiles) -> Iterator[_Slice]:
    for index in range(len(files.volume)):
        image, spacing = files.volume.read(index), files.volume.spacing
        yield _Slice(files.path, image, spacing=spacing, volume=files, index=index)


def _write(
    part: _Slice, predicted: Probabilities | None, predictor: Predictor, output: Output, reading: Reading
) -> list[Row]:
    """Write the files of an image, and return its row; none yet for a slice of a volume."""
    if predicted is None:
        return part.earlier or [Row(input=part.path.as_posix(), status="failed", reason=part.reason)]
    targets = output.of(part.path)
    (output.folder / part.path).parent.mkdir(parents=True, exist_ok=True)
    mask = predictor.mask(predicted.probs)
    spacing = part.spacing or (None if reading.spacing is None else (reading.spacing, reading.spacing))
    rest: dict[str, Any] = {
        "input": part.path.as_posix(),
        "output": targets["mask"].as_posix(),
        "threshold": predictor.threshold,
        "spacing": spacing,
        "reason": part.reason,
    }
    if part.volume is not None:
        part.volume.put(part.index, mask, predicted, rest)
        return []
    # The mask comes last: where there is one, all that belongs to it is there.
    if "probs" in targets:
        write_probs(output.folder / targets["probs"], predicted.probs)
    if "uncertainty" in targets and predicted.spread is not None:
        write_spread(output.folder / targets["uncertainty"], predicted.spread)
    if "overlay" in targets and part.grey is not None:
        write_overlay(output.folder / targets["overlay"], part.grey, mask)
    write_mask(output.folder / targets["mask"], mask)
    return [Row.measured(mask=mask, probs=predicted.probs, **rest)]
