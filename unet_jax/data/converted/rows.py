"""Raw slices to rows of the converted dataset, on several processes, in order, at constant memory."""

import functools
import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16, UInt8

from unet_jax.config import MaskRule
from unet_jax.imaging import resize
from unet_jax.imaging.formats.mat import RawSlice, SliceError, crashed, read_slice
from unet_jax.shared.files import naming
from unet_jax.shared.workers import work_on


@dataclass(frozen=True, eq=False)
class Row:
    """One converted slice."""

    slice: int
    label: int
    pid: str
    height: int
    width: int
    tumor_pixels: int
    p1: float
    p99: float
    source: str
    sha256: str
    image: Int16[np.ndarray, "size size"]
    mask: UInt8[np.ndarray, "size size"]
    native: UInt8[np.ndarray, "h bytes"]
    """The native mask, eight pixels of a row to a byte."""


def convert_slice(path: Path, *, size: int, mask_rule: MaskRule) -> Row | SliceError:
    """The row of one source file, or why there is none."""
    try:
        raw, sha256 = read_hashed(path)
    except SliceError as e:
        return e
    return convert_raw(raw, size=size, mask_rule=mask_rule, source=path.name, sha256=sha256)


def read_hashed(path: Path) -> tuple[RawSlice, str]:
    """A slice and the SHA-256 of its file; SliceError says what is wrong with it."""
    raw = read_slice(path)
    with naming(path), path.open("rb") as f:
        return raw, hashlib.file_digest(f, "sha256").hexdigest()


def convert_raw(raw: RawSlice, *, size: int, mask_rule: MaskRule, source: str, sha256: str) -> Row:
    """The row of a slice that was read from the file `source` with that SHA-256."""
    network = resize.to_network(raw.image, size)
    return Row(
        slice=raw.slice,
        label=raw.label,
        pid=raw.pid,
        height=raw.image.shape[0],
        width=raw.image.shape[1],
        tumor_pixels=int(raw.mask.sum()),
        p1=network.p1,
        p99=network.p99,
        source=source,
        sha256=sha256,
        image=network.image.astype(np.int16),
        mask=resize.resize_mask(raw.mask, size, mask_rule),
        native=np.packbits(raw.mask, axis=1),
    )


def convert_slices(
    paths: Sequence[Path], *, size: int, mask_rule: MaskRule, workers: int | None = None
) -> Generator[Row | SliceError, None, None]:
    """`convert_slice` of each path, in order.

    Args:
        paths: source files.
        size: see `convert_slice`.
        mask_rule: see `convert_slice`.
        workers: as in `work_on`.
    """
    return work_on(paths, functools.partial(convert_slice, size=size, mask_rule=mask_rule), workers, crashed)
