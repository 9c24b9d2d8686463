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
import hashlib
import io
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int16, Int32, Shaped, UInt8

from unet_jax.config import TUMORS, MaskRule, UserError
from unet_jax.data import figshare, rows
from unet_jax.data.figshare import SliceError
from unet_jax.data.folders import replace_folder, staged
from unet_jax.data.npy import open_npy, read_packed
from unet_jax.data.rejected import bad_files, remove_rejected, write_rejected
from unet_jax.data.resize import NetworkSlice

FORMAT_VERSION = 1
MIN_SIZE, MAX_SIZE = 16, 1024
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
    sides = all(figshare.MIN_SIDE <= side <= figshare.MAX_SIDE for side in (h, w))
    counts = 0 < row["slice"] < 10**9 and 0 <= row["fold"] <= 5 and 0 <= row["tumor_pixels"] <= h * w
    return sides and counts and -(2**15) <= row["p1"] <= row["p99"] < 2**15 and row["tumor"] == TUMORS[row["label"] - 1]


def build(
    raw: Path | str,
    out: Path | str,
    *,
    size: int,
    mask_rule: MaskRule,
    skip_bad: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> Arrays:
    """Convert a raw folder; the result appears at `out` when it is whole, or not at all.

    Args:
        raw: folder of the slices, or the one above its `data`.
        out: folder to make.
        size: side of images and masks, 16 to 1024.
        mask_rule: see `resize.resize_mask`.
        skip_bad: leave bad files out and list them in OUT/rejected.csv.
        overwrite: replace a converted dataset at `out`.
        workers: processes; by default one a core, 4 at most. 1 starts none.
        progress: report on standard error: a bar on a terminal, else ten lines.

    Raises:
        UserError: nothing to convert, `out` exists already, or bad files (listed in OUT.rejected/rejected.csv).
    """
    raw, out = Path(raw), Path(out)
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise UserError(f"--size is {size}; it must be {MIN_SIZE} to {MAX_SIZE}.")
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; it must be at least 1.")
    paths = figshare.find_slices(raw)
    _check_target(out, Path(os.path.realpath(out)), raw, overwrite)
    folds_path = figshare.find_folds(raw)
    folds = np.zeros(0, int) if folds_path is None else figshare.read_folds(folds_path)

    def with_folds() -> Generator[tuple[rows.Row, int] | SliceError, None, None]:
        with closing(rows.convert_slices(paths, size=size, mask_rule=mask_rule, workers=workers)) as results:
            for row in results:
                if isinstance(row, SliceError):
                    yield row
                else:
                    yield row, int(folds[row.slice - 1]) if row.slice <= len(folds) else 0

    return write_rows(
        out, with_folds(), len(paths), size=size, mask_rule=mask_rule, skip_bad=skip_bad, progress=progress
    )


def write_rows(
    out: Path,
    results: Generator[tuple[rows.Row, int] | SliceError, None, None],
    total: int,
    *,
    size: int,
    mask_rule: MaskRule,
    skip_bad: bool = False,
    progress: bool = True,
) -> Arrays:
    """Make a converted dataset of rows; it appears at `out`, in the place of what is there, when it is whole.

    Args:
        out: folder to make.
        results: rows by rising number of the slice, each with its fold or 0, and why there is none. Closed at the end.
        total: how many there will be.
        size, mask_rule: what the rows were made with.
        skip_bad, progress: as in `build`.

    Raises:
        UserError: bad files (listed in OUT.rejected/rejected.csv).
    """
    target = Path(os.path.realpath(out))
    rejected_folder = target.with_name(target.name + ".rejected")
    rejected: list[SliceError] = []
    with closing(results), staged(target) as staging:
        with _Writer(staging, size, mask_rule) as writer:
            for result in rows.reported(results, total, progress):
                if isinstance(result, SliceError):
                    rejected.append(result)
                else:
                    writer.add(*result)
            if rejected and (not skip_bad or writer.count == 0):
                write_rejected(rejected_folder, rejected)
                raise bad_files(rejected, total, rejected_folder, writer.count)
            if rejected:
                write_rejected(staging, rejected)
            writer.describe(len(rejected))
        replace_folder(target, staging)
    remove_rejected(rejected_folder)
    return open_arrays(out)


class ContentDigest:
    """SHA-256 over the content of a dataset, row after row: what `dataset.json` has as `digest`."""

    def __init__(self, size: int, mask_rule: MaskRule):
        self._sha256 = hashlib.sha256(f"{FORMAT_VERSION} {size} {mask_rule}\n".encode())

    def add(self, cells: Sequence[str], image: bytes, mask: bytes, native: bytes) -> None:
        """The next row: its cells of slices.csv up to `p99`, and the bytes of its arrays."""
        self._sha256.update("\t".join(cells).encode() + b"\n" + image + mask + native)

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


class _Writer(ExitStack):
    """Appends rows to the files of a new dataset, so that none of them is ever in memory as a whole."""

    def __init__(self, folder: Path, size: int, mask_rule: MaskRule):
        super().__init__()
        self.folder, self.size, self.mask_rule = folder, size, mask_rule
        self.count, self.pids, self.labels = 0, set[str](), dict.fromkeys(range(1, len(TUMORS) + 1), 0)
        self.digest = ContentDigest(size, mask_rule)
        self.images, self.masks = (self.enter_context((folder / name).open("wb")) for name in FILES[:2])
        self.native = self.enter_context(zipfile.ZipFile(folder / FILES[2], "w"))
        self.table = csv.writer(
            self.enter_context((folder / FILES[3]).open("w", newline="", encoding="utf-8")), lineterminator="\n"
        )
        self.table.writerow(COLUMNS)
        self._write_headers()

    def _write_headers(self) -> None:
        """At the start of the files; NumPy pads them so that the number of rows fits whatever it becomes."""
        for file, dtype in ((self.images, "<i2"), (self.masks, "|u1")):
            shape = (self.count, self.size, self.size)
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})

    def add(self, row: rows.Row, fold: int) -> None:
        shown = (row.slice, row.label, TUMORS[row.label - 1], row.pid, fold, row.height, row.width, row.tumor_pixels)
        percentiles = repr(row.p1), repr(row.p99)  # repr is exact
        self.table.writerow((*shown, *percentiles, row.source, row.sha256))
        image, mask, native = row.image.astype("<i2").tobytes(), row.mask.tobytes(), row.native.tobytes()
        self.images.write(image)
        self.masks.write(mask)
        # A member's own date would be the clock's, and its mode the umask's.
        entry = zipfile.ZipInfo(f"{row.slice}.npy", date_time=(1980, 1, 1, 0, 0, 0))
        entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, row.native, allow_pickle=False)
        self.native.writestr(entry, buffer.getvalue())
        self.digest.add([*map(str, shown), *percentiles], image, mask, native)
        self.count += 1
        self.pids.add(row.pid)
        self.labels[row.label] += 1

    def describe(self, rejected: int) -> None:
        """Finish the files, close them, and write dataset.json."""
        self._write_headers()
        self.close()
        files = {}
        for path in sorted(self.folder.iterdir()):
            with path.open("rb") as f:
                files[path.name] = {
                    "bytes": path.stat().st_size,
                    "sha256": hashlib.file_digest(f, "sha256").hexdigest(),
                }
        tumors = {name: self.labels[label] for label, name in enumerate(TUMORS, 1)}
        info = {
            "format_version": FORMAT_VERSION,
            "size": self.size,
            "mask_rule": self.mask_rule,
            "counts": {"slices": self.count, "patients": len(self.pids), **tumors, "rejected": rejected},
            "files": files,
            "digest": self.digest.hexdigest(),
        }
        (self.folder / "dataset.json").write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")


def _check_target(out: Path, target: Path, raw: Path, overwrite: bool) -> None:
    """Refuse, before any work, to replace what was not asked for or is not a converted dataset."""
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise UserError(f"{out} exists already. Replace it with --overwrite, or give another --out.")
    if not target.is_dir() or not ((target / "dataset.json").is_file() or not any(target.iterdir())):
        raise UserError(
            f"{out} is not a converted dataset, so --overwrite leaves it alone; remove it or give another --out."
        )
    if raw.resolve().is_relative_to(target):
        raise UserError(f"{raw} lies in {out}, which --overwrite would remove; give another --out.")
