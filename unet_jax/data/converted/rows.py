"""Raw slices converted to what a row of the arrays holds."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16, UInt8

from unet_jax.config import TUMORS, ConvertConfig
from unet_jax.imaging import resize
from unet_jax.imaging.formats.mat import RawSlice, SliceError, read_slice
from unet_jax.shared.files import naming


@dataclass(frozen=True, eq=False)
class ConvertedSlice:
    """One slice as the converted dataset stores it; the fields down to `sha256` are cells of slices.csv."""

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
    fold: int = 0
    """The dataset's fold, 1 to 5; 0 for none."""

    @property
    def tumor(self) -> str:
        """Name of the tumour type."""
        return TUMORS[self.label - 1]


def convert_slice(path: Path, config: ConvertConfig) -> ConvertedSlice | SliceError:
    """Convert one source file; give the error instead where the file cannot be used."""
    try:
        return convert_raw(read_slice(path), config, source=path.name, sha256=file_sha256(path))
    except SliceError as e:
        return e


def file_sha256(path: Path) -> str:
    """Compute the SHA-256 of a file's content, in hexadecimal."""
    with naming(path), path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def convert_raw(raw: RawSlice, config: ConvertConfig, *, source: str, sha256: str, fold: int = 0) -> ConvertedSlice:
    """Convert a slice that was read.

    Args:
        raw: the slice.
        config: size and mask rule.
        source: name of its file.
        sha256: SHA-256 of its file.
        fold: the dataset's fold, or 0.
    """
    network = resize.to_network(raw.image, config.size)
    return ConvertedSlice(
        slice=raw.slice,
        label=raw.label,
        pid=raw.pid,
        fold=fold,
        height=raw.image.shape[0],
        width=raw.image.shape[1],
        tumor_pixels=int(raw.mask.sum()),
        p1=network.p1,
        p99=network.p99,
        source=source,
        sha256=sha256,
        image=network.image.astype(np.int16),
        mask=resize.resize_mask(raw.mask, config.size, config.mask_rule),
        native=np.packbits(raw.mask, axis=1),
    )
