"""The conversion of a raw folder: the new dataset appears when it is whole, or not at all."""

import functools
import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unet_jax.config import TUMORS, ConvertConfig, MaskRule, UserError
from unet_jax.data.converted import rows
from unet_jax.data.converted.arrays import COLUMNS, FILES, FORMAT_VERSION, Arrays, open_arrays
from unet_jax.data.converted.rows import ConvertedSlice, file_sha256
from unet_jax.data.raw import find_slices, folds_by_slice
from unet_jax.imaging.formats.mat import SliceError, crashed
from unet_jax.shared.files import replace_folder, staged_folder, write_csv, write_json
from unet_jax.shared.progress import track
from unet_jax.shared.workers import work_on

REJECTED = "rejected.csv"
"""List of the bad files of a conversion, with source and reason."""

Results = Iterable[ConvertedSlice | SliceError]


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
    config = ConvertConfig(size=size, mask_rule=mask_rule).check()
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; it must be at least 1.")
    paths = find_slices(raw)
    _check_target(out, raw, overwrite)
    folds = folds_by_slice(raw)
    convert = functools.partial(rows.convert_slice, config=config)
    with closing(work_on(paths, convert, workers, crashed)) as results:
        in_folds = (
            result if isinstance(result, SliceError) else replace(result, fold=folds.get(result.slice, 0))
            for result in results
        )
        return write_dataset(out, in_folds, len(paths), config, skip_bad=skip_bad)


def write_dataset(out: Path, results: Results, total: int, config: ConvertConfig, *, skip_bad: bool = False) -> Arrays:
    """Make a converted dataset; it appears at `out`, in the place of what is there, when it is whole.

    Args:
        out: folder to make.
        results: slices by rising number, and the errors of bad files.
        total: number of results to come.
        config: size and mask rule that the slices were converted with.
        skip_bad: as in `build`.

    Raises:
        UserError: bad files (listed in OUT.rejected/rejected.csv).
    """
    target = Path(os.path.realpath(out))
    listed = target.with_name(target.name + ".rejected") / REJECTED
    bad: list[SliceError] = []
    with staged_folder(target) as staging:
        with _Writer(staging, config) as writer:
            for result in track(results, total, "convert"):
                if isinstance(result, SliceError):
                    bad.append(result)
                else:
                    writer.add(result)
            rejected = [{"source": e.path.name, "reason": e.reason} for e in bad]
            if bad and (not skip_bad or not writer.table):
                listed.parent.mkdir(exist_ok=True)
                write_csv(listed, rejected)
                remedy = "Mend or remove them, or leave them out with --skip-bad."
                raise UserError(
                    f"{len(bad)} of {total} files are bad; {listed} lists them (the first is {bad[0].path.name}: "
                    f"{bad[0].reason}). {remedy if writer.table else 'There is nothing left to convert.'}"
                )
            if bad:
                write_csv(staging / REJECTED, rejected)
            writer.describe(len(bad))
        replace_folder(target, staging)
    listed.unlink(missing_ok=True)  # that of an earlier conversion
    with suppress(OSError):  # the folder holds something else, or is not there
        listed.parent.rmdir()
    return open_arrays(out)


def digest_head(size: int, mask_rule: MaskRule) -> bytes:
    """Give the bytes before the rows' that the SHA-256 of a dataset's content, `digest` in dataset.json, is over."""
    return f"{FORMAT_VERSION} {size} {mask_rule}\n".encode()


def digest_row(cells: Sequence[str], image: bytes, mask: bytes, native: bytes) -> bytes:
    """Give the bytes of a row that the digest is over: its cells up to `p99`, and its arrays."""
    return "\t".join(cells[: COLUMNS.index("source")]).encode() + b"\n" + image + mask + native


class _Writer(ExitStack):
    """The files of a new dataset, to which slices are appended, so that the arrays are never in memory as a whole."""

    def __init__(self, folder: Path, config: ConvertConfig):
        super().__init__()
        self.folder, self.config = folder, config
        self.table: list[dict[str, Any]] = []
        self.digest = hashlib.sha256(digest_head(config.size, config.mask_rule))
        self.images, self.masks = (self.enter_context((folder / name).open("wb")) for name in FILES[:2])
        self.native = self.enter_context(zipfile.ZipFile(folder / FILES[2], "w"))
        self._write_headers()

    def _write_headers(self) -> None:
        """Write the start of the arrays' files, which NumPy pads so that any number of rows fits."""
        for file, dtype in ((self.images, "<i2"), (self.masks, "|u1")):
            shape = (len(self.table), self.config.size, self.config.size)
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})

    def add(self, converted: ConvertedSlice) -> None:
        """Append a slice."""
        cells = {name: getattr(converted, name) for name in COLUMNS}
        image, mask = converted.image.astype("<i2").tobytes(), converted.mask.tobytes()
        self.images.write(image)
        self.masks.write(mask)
        # A member's own date would be the clock's, and its mode the umask's.
        entry = zipfile.ZipInfo(f"{converted.slice}.npy")
        entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
        with self.native.open(entry, "w") as file:
            np.lib.format.write_array(file, converted.native, allow_pickle=False)
        self.digest.update(digest_row([str(cell) for cell in cells.values()], image, mask, converted.native.tobytes()))
        self.table.append(cells)

    def describe(self, rejected: int) -> None:
        """Finish the files, close them, and write dataset.json."""
        self._write_headers()
        self.close()
        write_csv(self.folder / FILES[3], self.table)
        tumors = Counter(cells["tumor"] for cells in self.table)
        patients = {cells["pid"] for cells in self.table}
        info = {
            "format_version": FORMAT_VERSION,
            "size": self.config.size,
            "mask_rule": self.config.mask_rule,
            "counts": {
                "slices": len(self.table),
                "patients": len(patients),
                **{name: tumors[name] for name in TUMORS},
                "rejected": rejected,
            },
            "files": {
                path.name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
                for path in sorted(self.folder.iterdir())
            },
            "digest": self.digest.hexdigest(),
        }
        write_json(self.folder / "dataset.json", info)


def _check_target(out: Path, raw: Path, overwrite: bool) -> None:
    """Refuse, before any work, to replace what was not asked for or is not a converted dataset."""
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise UserError(f"{out} exists already. Replace it with --overwrite, or give another --out.")
    target = Path(os.path.realpath(out))
    if not target.is_dir() or not ((target / "dataset.json").is_file() or not any(target.iterdir())):
        raise UserError(
            f"{out} is not a converted dataset, so --overwrite leaves it alone; remove it or give another --out."
        )
    if raw.resolve().is_relative_to(target):
        raise UserError(f"{raw} lies in {out}, which --overwrite would remove; give another --out.")
