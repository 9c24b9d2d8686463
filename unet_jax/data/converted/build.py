"""A converted dataset from a raw folder: it appears when it is whole, or not at all."""

import csv
import hashlib
import io
import os
import zipfile
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from unet_jax.config import TUMORS, ConvertConfig, MaskRule, UserError
from unet_jax.data.converted import rows
from unet_jax.data.converted.arrays import COLUMNS, FILES, FORMAT_VERSION, Arrays, open_arrays
from unet_jax.data.converted.rejected import bad_files, remove_rejected, write_rejected
from unet_jax.data.raw import find_folds, find_slices
from unet_jax.imaging.formats import mat
from unet_jax.imaging.formats.mat import SliceError
from unet_jax.shared.files import replace_folder, staged_folder, write_json
from unet_jax.shared.progress import track


def build(
    raw: Path | str,
    out: Path | str,
    *,
    size: int,
    mask_rule: MaskRule,
    skip_bad: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
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

    Raises:
        UserError: nothing to convert, `out` exists already, or bad files (listed in OUT.rejected/rejected.csv).
    """
    raw, out = Path(raw), Path(out)
    ConvertConfig(size=size, mask_rule=mask_rule).check()
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; it must be at least 1.")
    paths = find_slices(raw)
    _check_target(out, Path(os.path.realpath(out)), raw, overwrite)
    folds_path = find_folds(raw)
    folds = np.zeros(0, int) if folds_path is None else mat.read_folds(folds_path)

    def with_folds() -> Generator[tuple[rows.Row, int] | SliceError, None, None]:
        with closing(rows.convert_slices(paths, size=size, mask_rule=mask_rule, workers=workers)) as results:
            for row in results:
                if isinstance(row, SliceError):
                    yield row
                else:
                    yield row, int(folds[row.slice - 1]) if row.slice <= len(folds) else 0

    return write_rows(out, with_folds(), len(paths), size=size, mask_rule=mask_rule, skip_bad=skip_bad)


def write_rows(
    out: Path,
    results: Generator[tuple[rows.Row, int] | SliceError, None, None],
    total: int,
    *,
    size: int,
    mask_rule: MaskRule,
    skip_bad: bool = False,
) -> Arrays:
    """Make a converted dataset of rows; it appears at `out`, in the place of what is there, when it is whole.

    Args:
        out: folder to make.
        results: rows by rising number of the slice, each with its fold or 0, and why there is none. Closed at the end.
        total: how many there will be.
        size, mask_rule: what the rows were made with.
        skip_bad: as in `build`.

    Raises:
        UserError: bad files (listed in OUT.rejected/rejected.csv).
    """
    target = Path(os.path.realpath(out))
    rejected_folder = target.with_name(target.name + ".rejected")
    rejected: list[SliceError] = []
    with closing(results), staged_folder(target) as staging:
        with _Writer(staging, size, mask_rule) as writer:
            for result in track(results, total, "convert"):
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
        write_json(self.folder / "dataset.json", info)


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
