"""The converted dataset: the files of its folder, and opening them.

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
import os
import shlex
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Float32, Int, Int16, Int32, Shaped, UInt8

from unet_jax.config import TUMORS, ConvertConfig, MaskRule, UserError
from unet_jax.data.raw import find_slices
from unet_jax.imaging.formats import mat
from unet_jax.imaging.formats.npy import open_npy, read_packed
from unet_jax.imaging.resize import NetworkSlice

FORMAT_VERSION = 1
FILES = ("images.npy", "masks.npy", "native_masks.npz", "slices.csv")
COLUMNS = ("slice", "label", "tumor", "pid", "fold", "height", "width", "tumor_pixels", "p1", "p99", "source", "sha256")
_TYPES = {"tumor": str, "pid": str, "p1": float, "p99": float, "source": str, "sha256": str}
"""Types of the columns that do not hold whole numbers."""
_RANGES = {
    "slice": (1, 10**9 - 1),
    "label": (1, len(TUMORS)),
    "fold": (0, 5),
    "height": (mat.MIN_SIDE, mat.MAX_SIDE),
    "width": (mat.MIN_SIDE, mat.MAX_SIDE),
    "tumor_pixels": (0, mat.MAX_SIDE**2),
    "p1": (-(2**15), 2**15 - 1),
    "p99": (-(2**15), 2**15 - 1),
}


@dataclass(frozen=True, eq=False)
class Arrays:
    """A converted dataset, open for reading; images and masks stay on disk until they are indexed."""

    path: Path
    info: dict[str, Any]
    """Content of dataset.json."""
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
    """Number of tumour pixels of the native mask."""
    p1: Float32[np.ndarray, " n"]
    """1st percentile of the native slice."""
    p99: Float32[np.ndarray, " n"]
    """99th percentile of the native slice."""
    sources: list[str]
    """Names of the source files."""
    sha256: list[str]
    """SHA-256 of each source file, in hexadecimal."""

    def __len__(self) -> int:
        return len(self.slices)

    @property
    def size(self) -> int:
        """Side of images and masks in pixels."""
        return self.info["size"]

    @property
    def mask_rule(self) -> MaskRule:
        """Rule by which the masks were shrunk."""
        return self.info["mask_rule"]

    @property
    def digest(self) -> str:
        """SHA-256 of the content: equal for equal data, wherever they lie."""
        return self.info["digest"]

    def network_slice(self, row: int) -> NetworkSlice:
        """Give the slice in a row as `resize.to_network` made it of its file."""
        image = self.images[row].astype(np.float32)
        return NetworkSlice(image, float(self.p1[row]), float(self.p99[row]))

    def native_mask(self, row: int) -> UInt8[np.ndarray, "h w"]:
        """Read the mask of the slice in a row at its own size, 0 or 1; UserError if it is damaged."""
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

    Presence and size of the files, format version, types, shapes and counts are checked. The SHA-256 of each file, in
    `info["files"]`, is not, for the time that would take.

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
        slices=columns["slice"],
        labels=columns["label"].astype(np.int32),
        pids=columns["pid"],
        folds=columns["fold"],
        heights=columns["height"],
        widths=columns["width"],
        tumor_pixels=columns["tumor_pixels"],
        p1=columns["p1"].astype(np.float32),
        p99=columns["p99"].astype(np.float32),
        sources=columns["source"].tolist(),
        sha256=columns["sha256"].tolist(),
    )


def _broken(file: Path, was: str) -> UserError:
    return UserError(f"{file} {was}. The dataset is damaged; make it again with `python -m unet_jax.convert`.")


def _read_info(path: Path) -> dict[str, Any]:
    file = path / "dataset.json"
    if not file.is_file():
        raise UserError(_not_converted(path))
    try:
        info = json.loads(file.read_text(encoding="utf-8"))
        version = info["format_version"]
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise _broken(file, f"cannot be read ({type(e).__name__}: {e})") from e
    if version != FORMAT_VERSION:
        again = "convert it again with `python -m unet_jax.convert`"
        raise UserError(f"{path} is of format version {version}; this program reads {FORMAT_VERSION}: {again}.")
    try:
        numbers = [info["size"], info["counts"]["slices"]]
        numbers += [info["files"][name]["bytes"] for name in {*FILES, *info["files"]}]
        good = all(type(number) is int for number in numbers) and type(info["digest"]) is str
        good = good and info["mask_rule"] in get_args(MaskRule)
    except (KeyError, TypeError) as e:
        raise _broken(file, f"lacks an entry ({e})") from e
    if not good:
        raise _broken(file, "has an entry of a wrong type")
    return info


def _not_converted(path: Path) -> str:
    """Tell what a folder is instead of a converted dataset, and the command that makes one, in a free place."""
    base = path if path.name not in ("", "..") else path.resolve()
    sized = f"{base.name}-{ConvertConfig().size}"
    numbered = (base.with_name(f"{sized}-{i}") for i in itertools.count(2))
    places = itertools.chain((base, base.with_name(sized)), numbered)
    out = shlex.quote(str(next(place for place in places if not os.path.lexists(place))))
    try:
        find_slices(path)
    except UserError:
        command = f"python -m unet_jax.convert --raw DIR --out {out}"
        return f"{path} is not a converted dataset (it has no dataset.json); `{command}` makes one."
    command = f"python -m unet_jax.convert --raw {shlex.quote(str(path))} --out {out}"
    return f"{path} holds raw slices and is not a converted dataset. Run `{command}`, and give {out} instead."


def _mapped(file: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return open_npy(file, dtype, shape)
    except (ValueError, OSError) as e:
        raise _broken(file, f"cannot be read ({e})") from e


def _read_columns(file: Path, n: int) -> dict[str, np.ndarray]:
    try:
        with file.open(newline="", encoding="utf-8") as f:
            header, *rows = csv.reader(f, strict=True)
        if header != list(COLUMNS) or any(len(cells) != len(COLUMNS) for cells in rows):
            raise ValueError("other columns, or a row with too many or too few cells")
        cells_of = {name: [cells[i] for cells in rows] for i, name in enumerate(COLUMNS)}
        columns = {name: np.array(cells, _TYPES.get(name, int)) for name, cells in cells_of.items()}
    except (ValueError, OverflowError, csv.Error) as e:
        raise _broken(file, f"cannot be read ({type(e).__name__}: {e})") from e
    slices = columns["slice"]
    if len(slices) != n or (np.diff(slices) <= 0).any():
        raise _broken(file, f"has {len(slices)} rows, or unsorted ones, instead of {n} sorted by slice")
    possible = columns["tumor_pixels"] <= columns["height"] * columns["width"]
    possible &= columns["p1"] <= columns["p99"]
    possible &= columns["tumor"] == np.array(TUMORS)[np.clip(columns["label"], 1, len(TUMORS)) - 1]
    for name, (low, high) in _RANGES.items():
        possible &= (low <= columns[name]) & (columns[name] <= high)  # NaN is in no range
    if not possible.all():
        raise _broken(file, f"has values out of range for slice {slices[np.argmin(possible)]}")
    return columns
