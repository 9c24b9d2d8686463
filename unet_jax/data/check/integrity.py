"""Is a dataset what it should be: every rule of `rules`, on a raw folder or a converted dataset, at constant memory."""

import csv
import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np

from unet_jax.config import UserError
from unet_jax.data.check import rules
from unet_jax.data.check.border import border_iou
from unet_jax.data.check.findings import Finding, Report, SliceFacts, count_slices, findings_across
from unet_jax.data.check.rules import Rule
from unet_jax.data.converted.arrays import FILES, Arrays, open_arrays
from unet_jax.data.converted.build import ContentDigest
from unet_jax.data.raw import find_folds, find_slices
from unet_jax.imaging.formats.mat import SliceError, crashed, read_folds, read_slice, slice_number
from unet_jax.shared.progress import track
from unet_jax.shared.workers import work_on

MIN_BORDER_IOU = 0.9
"""A mask that agrees less with the inside of its border has another origin than that."""

Broken = tuple[tuple[Rule, str], ...]
"""Rules that a slice breaks, and how."""


def check(data: Path | str, *, workers: int | None = None) -> Report:
    """Check a raw folder or a converted dataset.

    Args:
        data: a folder that `convert` reads, or one that it wrote.
        workers: processes that read a raw folder; by default one a core, 4 at most. 1 starts none.

    Raises:
        UserError: it is neither.
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
    folds_path = find_folds(path)
    try:
        folds = np.zeros(0, np.int64) if folds_path is None else read_folds(folds_path)
    except SliceError as e:
        findings.append(Finding(rules.BY_NAME[e.rule], e.path.name, e.reason, ()))
    fold_of = {} if folds is None else dict(enumerate(folds.tolist(), 1))
    with closing(work_on(paths, inspect_slice, workers, crashed)) as results:
        for file, result in zip(paths, track(results, len(paths), "check"), strict=True):
            number = slice_number(file) or 0
            if isinstance(result, SliceError):
                findings.append(Finding(rules.BY_NAME[result.rule], file.name, result.reason, (number,)))
                continue
            label, pid, content, broken = result
            findings += [Finding(rule, file.name, detail, (number,)) for rule, detail in broken]
            facts.append(SliceFacts(number, file.name, label, pid, fold_of.get(number, 0), content))
    findings += findings_across(facts, folds=folds is not None)
    return Report(str(path), "raw folder", count_slices(facts), findings)


def inspect_slice(path: Path) -> tuple[int, str, bytes, Broken] | SliceError:
    """Look at one source file.

    Returns:
        Label, patient, a digest of the image, and the rules that the slice breaks although it can be read; or why it
        cannot.
    """
    try:
        raw = read_slice(path)
    except SliceError as e:
        return e
    broken: list[tuple[Rule, str]] = []
    low, high = int(raw.image.min()), int(raw.image.max())
    if low == high:
        broken.append((rules.CONSTANT_IMAGE, f"every pixel is {low}"))
    else:
        p1, p99 = np.percentile(raw.image, (1, 99))
        if p1 == p99:
            broken.append((rules.EQUAL_PERCENTILES, f"both are {p1:g}, values from {low} to {high}"))
    if not raw.mask.any():
        broken.append((rules.EMPTY_MASK, "tumorMask has no pixel of 1"))
    elif (iou := border_iou(raw.border, raw.mask)) < MIN_BORDER_IOU:
        detail = f"IoU {iou:.2f} with the inside of tumorBorder, of {len(raw.border)} corners"
        broken.append((rules.MASK_BORDER, detail))
    content = hashlib.sha256(repr(raw.image.shape).encode() + raw.image.tobytes()).digest()
    return raw.label, raw.pid, content, tuple(broken)


def _check_converted(path: Path) -> Report:
    try:
        arrays = open_arrays(path)
    except UserError as e:
        return Report(str(path), "converted dataset", count_slices([]), [Finding(rules.DAMAGED, path.name, str(e), ())])
    changed = []
    for name, entry in arrays.info["files"].items():
        with (path / name).open("rb") as f:
            found = hashlib.file_digest(f, "sha256").hexdigest()
        if found != entry.get("sha256"):
            detail = f"its SHA-256 is {found[:12]}..., in dataset.json {str(entry.get('sha256'))[:12]}..."
            changed.append(Finding(rules.CHANGED_FILE, name, detail, ()))
    report = check_rows(arrays)
    native, digest = _check_native(arrays)
    # With a file that was changed, or a mask that cannot be read, the content is another, too: once is enough.
    if not changed and not native and digest != arrays.digest:
        detail = f"its digest is {arrays.digest[:12]}..., that of the rows {digest[:12]}..."
        changed.append(Finding(rules.CHANGED_CONTENT, "dataset.json", detail, ()))
    return Report(report.data, report.kind, report.counts, [*changed, *native, *report.findings])


def check_rows(arrays: Arrays) -> Report:
    """Check the rows of a converted dataset, without its native masks and the SHA-256 of its files."""
    findings, facts = list[Finding](), list[SliceFacts]()
    for row in track(range(len(arrays)), len(arrays), "check"):
        image, mask, number, source = (
            arrays.images[row],
            arrays.masks[row],
            int(arrays.slices[row]),
            arrays.sources[row],
        )
        low, high, p1, p99 = int(image.min()), int(image.max()), float(arrays.p1[row]), float(arrays.p99[row])
        broken: list[tuple[Rule, str]] = []
        if low == high:
            broken.append((rules.CONSTANT_IMAGE, f"every pixel is {low}"))
        elif p1 == p99:
            broken.append((rules.EQUAL_PERCENTILES, f"both are {p1:g}, values from {low} to {high}"))
        if mask.max() > 1:
            broken.append((rules.MASK_VALUES, f"the mask has the value {mask.max()}"))
        if not arrays.tumor_pixels[row]:
            broken.append((rules.EMPTY_MASK, "the native mask has no pixel of 1"))
        elif not mask.any():
            detail = f"{arrays.tumor_pixels[row]} pixels at its own size, none at {arrays.size}x{arrays.size}"
            broken.append((rules.LOST_TUMOR, detail))
        findings += [Finding(rule, source, detail, (number,)) for rule, detail in broken]
        shape = f"{arrays.heights[row]} {arrays.widths[row]} {p1!r} {p99!r}".encode()
        facts.append(
            SliceFacts(
                slice=number,
                source=source,
                label=int(arrays.labels[row]),
                pid=str(arrays.pids[row]),
                fold=int(arrays.folds[row]),
                content=hashlib.sha256(shape + image.tobytes()).digest(),
            )
        )
    findings += findings_across(facts)
    return Report(str(arrays.path), "converted dataset", count_slices(facts), findings)


def _check_native(arrays: Arrays) -> tuple[list[Finding], str]:
    """What is wrong with the native masks, and the digest of the content."""
    findings, digest = list[Finding](), ContentDigest(arrays.size, arrays.mask_rule)
    with (arrays.path / "slices.csv").open(newline="", encoding="utf-8") as f:
        table = csv.reader(f, strict=True)
        next(table)
        for row, cells in enumerate(table):
            number, source = int(arrays.slices[row]), arrays.sources[row]
            try:
                mask = arrays.native_mask(row)
            except UserError as e:
                findings.append(Finding(rules.NATIVE_MASK, source, str(e), (number,)))
                continue
            if (pixels := int(mask.sum())) != arrays.tumor_pixels[row]:
                detail = f"the native mask has {pixels} pixels of 1, slices.csv names {arrays.tumor_pixels[row]}"
                findings.append(Finding(rules.NATIVE_MASK, source, detail, (number,)))
            image, small = arrays.images[row].tobytes(), arrays.masks[row].tobytes()
            digest.add(cells[:10], image, small, np.packbits(mask, axis=1).tobytes())
    return findings, digest.hexdigest()
