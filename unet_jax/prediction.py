"""From a folder of images to a folder of masks and a table of them."""

import csv
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from unet_jax.config import UserError
from unet_jax.data.image_io import ImageError, read_image, to_display, write_mask, write_overlay, write_probs
from unet_jax.predictor import Predictor
from unet_jax.scoring.metrics import apply_threshold

TABLE = "predictions.csv"
THREADS = min(4, os.cpu_count() or 1)
AHEAD = 2 * THREADS
"""Images that are read before the network asks for them, and again so many that wait to be written."""


@dataclass(frozen=True)
class Output:
    """What is written where."""

    folder: Path
    probabilities: bool
    overlays: bool

    def of(self, image: Path) -> dict[str, Path]:
        """The files of an image, `mask` and the wanted of `probs` and `overlay`, relative to the folder."""
        suffixes = {"mask": ".png"}
        if self.probabilities:
            suffixes["probs"] = ".probs.npy"
        if self.overlays:
            suffixes["overlay"] = ".overlay.png"
        return {kind: image.with_name(image.stem + suffix) for kind, suffix in suffixes.items()}


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


def folder_of(source: Path) -> Path:
    """The folder that the paths of `find_images(source)` start from."""
    return source if source.is_dir() else source.parent


def check_output(source: Path, images: Sequence[Path], output: Output) -> None:
    """Refuse what would write one file twice, overwrite an image, or lose somebody's files.

    The output cannot be the folder of the input, nor lie in an input folder, because its masks would be taken for
    slices the next time. Names that differ in case alone count as the same, since on many disks they are.

    Args:
        source: the image or folder given.
        images: what `find_images` gives for it.
        output: what is to be written.

    Raises:
        UserError: naming the files.
    """
    root = folder_of(source)
    within, out = root.resolve(), output.folder.resolve()
    if out == within or (source.is_dir() and within in out.parents):
        raise UserError(
            f"{output.folder} is or lies in the folder of the input, where masks would be taken for slices the next "
            "time. Give an --output elsewhere."
        )
    if output.folder.exists() and not output.folder.is_dir():
        raise UserError(f"{output.folder} is a file. Give a folder, or a name for a new one, as --output.")

    writers: dict[str, Path] = {}
    for image in images:
        for target in output.of(image).values():
            other = writers.setdefault(_key(target), image)
            if other is not image:
                raise UserError(
                    f"{root / other} and {root / image} would both write {output.folder / target}. "
                    "Rename one, or predict them into different folders."
                )
    for image in {image.parent: image for image in images}.values():
        for folder in list(image.parents)[:-1]:
            if (other := writers.get(_key(folder))) or _key(folder) == TABLE:
                raise UserError(
                    f"{root / image} needs the folder {output.folder / folder}, and "
                    f"{root / other if other else 'the table'} needs a file of that name. Rename the folder."
                )
    if out in within.parents:
        below = within.relative_to(out)
        for image in images:
            if other := writers.get(_key(below / image)):
                raise UserError(f"The mask of {root / other} would overwrite {root / image}. Give another --output.")
    if output.folder.exists() and not any((output.folder / name).exists() for name in (TABLE, Table.part)):
        for image in images:
            for target in output.of(image).values():
                if (output.folder / target).exists():
                    raise UserError(
                        f"{output.folder / target} exists, and with no {TABLE} beside it this folder is not one that "
                        "an earlier prediction wrote. Give another --output, or remove the file."
                    )


def _key(path: Path) -> str:
    return path.as_posix().casefold()


class Table:
    """predictions.csv in the making: filled under a hidden name, which becomes its own however the work ends.

    Attributes:
        path: where the table will be.
        done: rows so far.
        with_tumor: images with at least one pixel of predicted tumour.
        failed: "PATH: REASON" of the images that could not be read.
        warned: "PATH: WARNING" of the images that were predicted with a warning.
    """

    part = f".{TABLE}.part"

    def __init__(self, folder: Path):
        self.path, self._part = folder / TABLE, folder / self.part
        self.done = self.with_tumor = 0
        self.failed: list[str] = []
        self.warned: list[str] = []

    def __enter__(self) -> "Table":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Names that are not UTF-8 are written as the bytes that they are.
            self._file = self._part.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        except OSError as e:
            raise UserError(f"{self.path.parent} cannot be written to ({e.strerror}). Give another --output.") from e
        self._writer = csv.DictWriter(self._file, [f.name for f in fields(Row)], lineterminator="\n")
        self._writer.writeheader()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None or self.done:
            os.replace(self._part, self.path)
        else:
            self._part.unlink()

    def add(self, row: Row) -> None:
        self._writer.writerow(asdict(row))
        self.done += 1
        if row.status == "failed":
            self.failed.append(f"{row.input}: {row.reason}")
        elif row.reason:
            self.warned.append(f"{row.input}: {row.reason}")
        if row.tumor_pixels not in ("", "0"):
            self.with_tumor += 1


@dataclass
class _Slice:
    """An image between its reading and its row."""

    path: Path
    image: Shaped[np.ndarray, "h w"] | None = None
    """Given up once the network has it, so that few native slices are in memory."""
    shape: tuple[int, ...] | None = None
    """None where it could not be read."""
    grey: UInt8[np.ndarray, "h w"] | None = None
    """For the overlay."""
    reason: str = ""


def predict_images(
    predictor: Predictor,
    source: Path,
    images: Sequence[Path],
    output: Output,
    record: Callable[[Row], None],
    batch_size: int,
) -> None:
    """Predict every image that can be read, and write what is wanted of it.

    Threads read ahead of the network and write behind it. However many images there are, only a few batches of them
    are in memory.

    Args:
        source: the image or folder given.
        images: what `find_images` gives for it.
        output: what `check_output` let pass.
        record: called with each image's row, in the order of `images`, once its files are written. After an error or
            an interruption it still gets the rows of what was written by then.
        batch_size: images computed at a time.

    Raises:
        OSError: a file could not be written.
    """
    root = folder_of(source)
    under_way: deque[_Slice] = deque()
    written: deque[Future[Row]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:

        def readable() -> Iterator[Shaped[np.ndarray, "h w"]]:
            for part in _read_ahead(pool, root, images, output.overlays):
                under_way.append(part)
                if part.image is not None:
                    part.reason = predictor.warn_about(part.image) or ""
                    image, part.image = part.image, None
                    yield image

        def finish(part: _Slice, probs: Float[np.ndarray, "h w"] | None) -> None:
            written.append(pool.submit(_write, part, probs, predictor.threshold, output))
            while len(written) > AHEAD:
                record(written.popleft().result())

        try:
            for probs in predictor.stream(readable(), batch_size):
                while under_way[0].shape is None:
                    finish(under_way.popleft(), None)
                finish(under_way.popleft(), probs)
            while under_way:
                finish(under_way.popleft(), None)
        finally:
            while written:
                record(written.popleft().result())


def _read_ahead(pool: ThreadPoolExecutor, root: Path, images: Sequence[Path], overlays: bool) -> Iterator[_Slice]:
    reading: deque[Future[_Slice]] = deque()
    for image in images:
        reading.append(pool.submit(_read, root, image, overlays))
        if len(reading) > AHEAD:
            yield reading.popleft().result()
    while reading:
        yield reading.popleft().result()


def _read(root: Path, path: Path, overlay: bool) -> _Slice:
    try:
        image = read_image(root / path)
    except ImageError as e:
        return _Slice(path, reason=e.reason)
    return _Slice(path, image, image.shape, to_display(image) if overlay else None)


def _write(part: _Slice, probs: Float[np.ndarray, "h w"] | None, threshold: float, output: Output) -> Row:
    if probs is None or part.shape is None:
        return Row(input=part.path.as_posix(), status="failed", reason=part.reason)
    targets = output.of(part.path)
    (output.folder / part.path).parent.mkdir(parents=True, exist_ok=True)
    mask = np.asarray(apply_threshold(probs, threshold))
    # The mask comes last: where there is one, all that belongs to it is there.
    if "probs" in targets:
        write_probs(output.folder / targets["probs"], probs)
    if "overlay" in targets and part.grey is not None:
        write_overlay(output.folder / targets["overlay"], part.grey, mask)
    write_mask(output.folder / targets["mask"], mask)
    height, width = part.shape
    tumor_pixels = int(np.count_nonzero(mask))
    return Row(
        input=part.path.as_posix(),
        output=targets["mask"].as_posix(),
        status="ok",
        height=str(height),
        width=str(width),
        threshold=f"{threshold:g}",
        tumor_pixels=str(tumor_pixels),
        tumor_fraction=f"{tumor_pixels / mask.size:.6f}",
        max_probability=f"{probs.max():.6f}",
        reason=part.reason,
    )
