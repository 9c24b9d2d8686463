"""The check of a raw folder or a converted dataset by every rule of `rules`, at constant memory."""

import csv
import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from unet_jax.config import UserError
from unet_jax.data.check.border import border_iou
from unet_jax.data.check.findings import Finding, Report, SliceFacts, count_slices, findings_across
from unet_jax.data.check.rules import Rule
from unet_jax.data.converted.arrays import FILES, Arrays, open_arrays
from unet_jax.data.converted.build import digest_head, digest_row
from unet_jax.data.converted.rows import file_sha256
from unet_jax.data.raw import find_slices, folds_by_slice
from unet_jax.imaging.formats.mat import SliceError, crashed, read_slice, slice_number
from unet_jax.imaging.resize import percentiles
from unet_jax.shared.progress import track
from unet_jax.shared.workers import work_on

MIN_BORDER_IOU = 0.9
"""A mask that agrees less with the inside of its border has another origin than that."""

Broken = list[tuple[Rule, str]]
"""Rules that a slice breaks, each with what was found."""


def check(data: Path | str, *, workers: int | None = None) -> Report:
    """Check a raw folder or a converted dataset.

    Args:
        data: a folder that `convert` reads, or one that it wrote.
        workers: processes that read a raw folder; by default one a core, 4 at most. 1 starts none.

    Raises:
        UserError: the folder is neither.
    """
    path = Path(data)
    if workers is not None and workers < 1:
        raise UserError(f"--workers is {workers}; it must be at least 1.")
    if any((path / name).exists() for name in ("dataset.json", *FILES)):
        return _check_converted(path)
    return _check_raw(path, workers)


def _check_raw(path: Path, workers: int | None) -> Report:
    paths = find_slices(path)
    findings, facts, folds = list[Finding](), list[SliceFacts](), None
    try:
        folds = folds_by_slice(path)
    except SliceError as e:
        findings.append(_refused(e, ()))
    with closing(work_on(paths, inspect_slice, workers, crashed)) as results:
        for file, result in zip(paths, track(results, len(paths), "check"), strict=True):
            if isinstance(result, SliceError):
                findings.append(_refused(result, (slice_number(file) or 0,)))
                continue
            found, broken = result
            facts.append(replace(found, fold=(folds or {}).get(found.slice, 0)))
            findings += _of_slice(found, broken)
    findings += findings_across(facts, folds=folds is not None)
    return Report(str(path), "raw folder", count_slices(facts), findings)


def _refused(error: SliceError, slices: tuple[int, ...]) -> Finding:
    return Finding(Rule[error.rule], error.path.name, error.reason, slices)


def _of_slice(facts: SliceFacts, broken: Broken) -> list[Finding]:
    return [Finding(rule, facts.source, detail, (facts.slice,)) for rule, detail in broken]


def inspect_slice(path: Path) -> tuple[SliceFacts, Broken] | SliceError:
    """Look at one source file.

    Returns:
        The facts, without the fold, and the rules that the slice breaks although it can be read; or the error of a file
        that cannot be used.
    """
    try:
        raw = read_slice(path)
    except SliceError as e:
        return e
    broken = _contrast(raw.image, *percentiles(raw.image))
    if not raw.mask.any():
        broken.append((Rule.EMPTY_MASK, "tumorMask has no pixel of 1"))
    elif (iou := border_iou(raw.border, raw.mask)) < MIN_BORDER_IOU:
        detail = f"IoU {iou:.2f} with the inside of tumorBorder, of {len(raw.border)} corners"
        broken.append((Rule.MASK_BORDER, detail))
    content = hashlib.sha256(repr(raw.image.shape).encode() + raw.image.tobytes()).digest()
    return SliceFacts(raw.slice, path.name, raw.label, raw.pid, 0, content), broken


def _contrast(image: Int16[np.ndarray, "h w"], p1: float, p99: float) -> Broken:
    """Find an image without contrast, or without any between its percentiles."""
    low, high = int(image.min()), int(image.max())
    if low == high:
        return [(Rule.CONSTANT_IMAGE, f"every pixel is {low}")]
    if p1 == p99:
        return [(Rule.EQUAL_PERCENTILES, f"both are {p1:g}, values from {low} to {high}")]
    return []


def _check_converted(path: Path) -> Report:
    try:
        arrays = open_arrays(path)
    except UserError as e:
        damaged = Finding(Rule.DAMAGED_DATASET, path.name, str(e), ())
        return Report(str(path), "converted dataset", count_slices([]), [damaged])
    changed = []
    for name, entry in arrays.info["files"].items():
        found, stored = file_sha256(path / name), entry.get("sha256")
        if found != stored:
            detail = f"its SHA-256 is {found[:12]}..., in dataset.json {str(stored)[:12]}..."
            changed.append(Finding(Rule.CHANGED_FILE, name, detail, ()))
    report = check_rows(arrays)
    native, digest = _check_native(arrays)
    # With a file that was changed, or a mask that cannot be read, the content is another, too: once is enough.
    if not changed and not native and digest != arrays.digest:
        detail = f"its digest is {arrays.digest[:12]}..., that of the rows {digest[:12]}..."
        changed.append(Finding(Rule.CHANGED_CONTENT, "dataset.json", detail, ()))
    return replace(report, findings=[*changed, *native, *report.findings])


def check_rows(arrays: Arrays) -> Report:
    """Check the rows of a converted dataset, without its native masks and the SHA-256 of its files."""
    findings, facts = list[Finding](), list[SliceFacts]()
    for row in track(range(len(arrays)), len(arrays), "check"):
        image, mask = arrays.images[row], arrays.masks[row]
        p1, p99, pixels = float(arrays.p1[row]), float(arrays.p99[row]), int(arrays.tumor_pixels[row])
        broken = _contrast(image, p1, p99)
        if mask.max() > 1:
            broken.append((Rule.MASK_VALUES, f"the mask has the value {mask.max()}"))
        if not pixels:
            broken.append((Rule.EMPTY_MASK, "the native mask has no pixel of 1"))
        elif not mask.any():
            detail = f"{pixels} pixels at its own size, none at {arrays.size}x{arrays.size}"
            broken.append((Rule.LOST_TUMOR, detail))
        shape = f"{arrays.heights[row]} {arrays.widths[row]} {p1!r} {p99!r}".encode()
        content = hashlib.sha256(shape + image.tobytes()).digest()
        number, label, fold = int(arrays.slices[row]), int(arrays.labels[row]), int(arrays.folds[row])
        facts.append(SliceFacts(number, arrays.sources[row], label, str(arrays.pids[row]), fold, content))
        findings += _of_slice(facts[-1], broken)
    findings += findings_across(facts)
    return Report(str(arrays.path), "converted dataset", count_slices(facts), findings)


def _check_native(arrays: Arrays) -> tuple[list[Finding], str]:
    """Check the native masks against the table, and compute the digest of the content."""
    findings, digest = list[Finding](), hashlib.sha256(digest_head(arrays.size, arrays.mask_rule))
    with (arrays.path / "slices.csv").open(newline="", encoding="utf-8") as f:
        _header, *rows = csv.reader(f, strict=True)
    for row, cells in enumerate(rows):
        number, source = int(arrays.slices[row]), arrays.sources[row]
        try:
            mask = arrays.native_mask(row)
        except UserError as e:
            findings.append(Finding(Rule.NATIVE_MASK, source, str(e), (number,)))
            continue
        pixels = int(mask.sum())
        if pixels != arrays.tumor_pixels[row]:
            detail = f"the native mask has {pixels} pixels of 1, slices.csv names {arrays.tumor_pixels[row]}"
            findings.append(Finding(Rule.NATIVE_MASK, source, detail, (number,)))
        image, small = arrays.images[row].tobytes(), arrays.masks[row].tobytes()
        digest.update(digest_row(cells, image, small, np.packbits(mask, axis=1).tobytes()))
    return findings, digest.hexdigest()
