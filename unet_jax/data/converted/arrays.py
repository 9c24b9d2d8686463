"""The converted dataset: build it from a raw folder, open it, validate it.

A folder D holds, a row a slice in numeric order of the slices:

- `images.npy` int16 (n, size, size), raw intensities; `masks.npy` uint8 0/1 (n, size, size);
- `native_masks.npz`: entry `<slice>` is that slice's own mask, `np.packbits` along the width: uint8 (h, ceil(w / 8));
- `slices.csv`, with the columns `COLUMNS`; `rejected.csv` where bad files were left out;
- `dataset.json`: `format_version`, `size`, `mask_rule`, `counts`, `files` (bytes and SHA-256 of each), and `digest`, a
  SHA-256 over the content, the same whatever folder, clock or compression the files went through.
"""

import csv
import functools
import itertools
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int16, Int32, Shaped, UInt8

from unet_jax.config import TUMORS, MaskRule, UserError
from unet_jax.imaging.formats import mat
from unet_jax.imaging.formats.npy import open_npy, read_packed
from unet_jax.imaging.resize import NetworkSlice

FORMAT_VERSION = 1
FILES = ("images.npy", "masks.npy", "native_masks.npz", "slices.csv")
COLUMNS = ("slice", "label", "tumor", "pid", "fold", "height", "width", "tumor_pixels", "p1", "p99", "source", "sha256")


@dataclass(frozen=True, eq=False)
class Arrays:
    """A converted dataset, open for reading; images and masks stay on disk until they are indexed."""

    path: Path
    info: dict[str, Any]
    """dataset.json."""
    images: Int16[np.ndarray, "n size size"]
    masks: UInt8[np.ndarray, "n size size"]
    """0 or 1."""
    slices: Int[np.ndarray, " n"]
    """Numbers of the slices in the source, rising."""
    labels: Int32[np.ndarray, " n"]
    """1 meningioma, 2 glioma, 3 pituitary."""
    pids: Shaped[np.ndarray, " n"]
    """Patients, as strings."""
    folds: Int[np.ndarray, " n"]
    """The dataset's folds, 1 to 5; 0 where it names none."""
    heights: Int[np.ndarray, " n"]
    widths: Int[np.ndarray, " n"]
    tumor_pixels: Int[np.ndarray, " n"]
    """Of the native mask."""
    p1: Float32[np.ndarray, " n"]
    """1st percentile of the native slice."""
    p99: Float32[np.ndarray, " n"]
    """99th percentile of the native slice."""
    sources: list[str]
    """Names of the source files."""

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def size(self) -> int:
        return self.info["size"]

    @property
    def mask_rule(self) -> MaskRule:
        return self.info["mask_rule"]

    @property
    def digest(self) -> str:
        """SHA-256 of the content: equal for equal data, wherever they lie."""
        return self.info["digest"]

    def network_slice(self, row: int) -> NetworkSlice:
        """The slice in that row as `resize.to_network` made it of its file."""
        image = self.images[row].astype(np.float32)
        return NetworkSlice(image, float(self.p1[row]), float(self.p99[row]))

    def native_mask(self, row: int) -> UInt8[np.ndarray, "h w"]:
        """The mask of the slice in that row at its own size, 0 or 1."""
        number, height, width = (int(column[row]) for column in (self.slices, self.heights, self.widths))
        try:
            packed = read_packed(self._native, number, height, width)
        except Exception as e:  # a damaged archive, or .npy in it, raises nearly anything
            raise _broken(self.path / "native_masks.npz", f"slice {number} cannot be read ({e})") from e
        return np.unpackbits(packed, axis=1, count=width)

    @functools.cached_property
    def _native(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path / "native_masks.npz")


def open_arrays(path: Path | str) -> Arrays:
    """Open a converted dataset.

    Checked: that every file is there with its size, the format version, types, shapes and counts. Not checked, for
    the time it takes: the SHA-256 of each file, which `info["files"]` holds.

    Raises:
        UserError: no converted dataset, one of another version, or a damaged one.
    """
    path = Path(path)
    info = _read_info(path)
    for name, entry in info["files"].items():
        found = (path / name).stat().st_size if (path / name).is_file() else None
        if found != entry["bytes"]:
            was = "is missing" if found is None else f"has {found} bytes instead of {entry['bytes']}"
            raise _broken(path / name, was)
    n, size = info["counts"]["slices"], info["size"]
    columns = _read_columns(path / "slices.csv", n)
    return Arrays(
        path=path,
        info=info,
        images=_mapped(path / "images.npy", np.dtype("<i2"), (n, size, size)),
        masks=_mapped(path / "masks.npy", np.dtype("u1"), (n, size, size)),
        slices=np.array(columns["slice"], np.int64),
        labels=np.array(columns["label"], np.int32),
        pids=np.array(columns["pid"], np.str_),
        folds=np.array(columns["fold"], np.int64),
        heights=np.array(columns["height"], np.int64),
        widths=np.array(columns["width"], np.int64),
        tumor_pixels=np.array(columns["tumor_pixels"], np.int64),
        p1=np.array(columns["p1"], np.float32),
        p99=np.array(columns["p99"], np.float32),
        sources=columns["source"],
    )


def _broken(file: Path, was: str) -> UserError:
    return UserError(f"{file} {was}. The dataset is damaged; make it again with `python -m unet_jax.convert`.")


def _read_info(path: Path) -> dict[str, Any]:
    file = path / "dataset.json"
    if not file.is_file():
        hint = f"`python -m unet_jax.convert --raw DIR --out {path}` makes one"
        raise UserError(f"{path} is not a converted dataset (it has no dataset.json); {hint}.")
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        version = info["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise _broken(file, f"cannot be read ({type(e).__name__}: {e})") from e
    if version != FORMAT_VERSION:
        again = "convert it again with `python -m unet_jax.convert`"
        raise UserError(f"{path} is of format version {version}; this program reads {FORMAT_VERSION}: {again}.")
    try:
        entries = [info["files"][name]["bytes"] for name in {*FILES, *info["files"]}]
        whole = [info["size"], info["counts"]["slices"], *entries]
        good = all(type(value) is int for value in whole) and info["mask_rule"] in ("area", "any")
        good = good and type(info["digest"]) is str
    except (KeyError, TypeError) as e:
        raise _broken(file, f"lacks an entry ({e})") from e
    if not good:
        raise _broken(file, "has an entry of a wrong type")
    return info


def _mapped(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return open_npy(file, dtype, shape)
    except (ValueError, OSError) as e:
        raise _broken(file, f"cannot be read ({e})") from e


_COLUMN_TYPES: dict[str, Callable[[str], Any]] = {
    "slice": int, "label": int, "fold": int, "height": int, "width": int, "tumor_pixels": int, "p1": float, "p99": float
}  # fmt: skip


def _read_columns(file: Path, n: int) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    try:
        with file.open(newline="", encoding="utf-8") as f:
            for row in csv.DictReader(f, strict=True):
                if None in row or None in row.values():
                    raise ValueError("a row has too many or too few cells")
                for name in COLUMNS:
                    columns[name].append(_COLUMN_TYPES.get(name, str)(row[name]))
    except (ValueError, KeyError, TypeError, csv.Error) as e:
        raise _broken(file, f"cannot be read ({type(e).__name__}: {e})") from e
    slices = columns["slice"]
    if len(slices) != n or any(a >= b for a, b in itertools.pairwise(slices)):
        raise _broken(file, f"has {len(slices)} rows, or unsorted ones, instead of {n} sorted by slice")
    if any(label not in range(1, len(TUMORS) + 1) for label in columns["label"]):
        raise _broken(file, f"has labels other than 1 to {len(TUMORS)}")
    for row in range(n):
        if not _is_possible({name: cells[row] for name, cells in columns.items()}):
            raise _broken(file, f"has values out of range for slice {slices[row]}")
    return columns


def _is_possible(row: dict[str, Any]) -> bool:
    """Whether `add` may have written it; nan is in no range."""
    h, w = row["height"], row["width"]
    sides = all(mat.MIN_SIDE <= side <= mat.MAX_SIDE for side in (h, w))
    counts = 0 < row["slice"] < 10**9 and 0 <= row["fold"] <= 5 and 0 <= row["tumor_pixels"] <= h * w
    return sides and counts and -(2**15) <= row["p1"] <= row["p99"] < 2**15 and row["tumor"] == TUMORS[row["label"] - 1]
