"""The source format: one MATLAB 7.3 (HDF5) file a slice, as Figshare article 1512427 serves them.

A file N.mat holds the group `cjdata`: `image`, `tumorMask` (stored column-major, so transposed for h5py), `label`
(1 meningioma, 2 glioma, 3 pituitary), `PID` (character codes) and `tumorBorder` (x1, y1, x2, y2, ... counted from 1).
Beside the slices stands `cvind.mat`, which holds no slice but the fold of each.
"""

import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64, Int, Int16, UInt8

from unet_jax.config import TUMORS, UserError
from unet_jax.imaging.formats.hdf5 import StoredError, read_values

FIELDS = ("image", "label", "PID", "tumorBorder", "tumorMask")
MIN_SIDE, MAX_SIDE = 16, 4096
MAX_PID, MAX_BORDER, MAX_FOLDS = 64, 200_000, 1_000_000
MAX_CHUNK_BYTES = MAX_SIDE * MAX_SIDE * 8
"""A chunk is decompressed whole, so its size is a claim on memory like the dataset's own."""

UNREADABLE, MISSING_FIELD, WRONG_FIELD = "unreadable-file", "missing-field", "wrong-field"
NOT_FINITE, NOT_INT16, LABEL = "not-finite", "not-int16", "label"
MASK_VALUES, MASK_SHAPE = "mask-values", "mask-shape"
"""Names of what can be wrong with a file; `data.check.rules` explains them."""

_HDF5 = threading.Lock()
"""The HDF5 library crashes where two threads read chunks at the same time, each of a file of its own."""
_NAME = re.compile(r"([0-9]{1,9})\.mat")
_BROKEN = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
"""What h5py raises on files that are truncated, garbled or larger than memory."""


class SliceError(UserError):
    """A source file that cannot be used: `path` and `reason`, shown as "PATH: REASON", and the `rule` it breaks."""

    def __init__(self, path: Path | str, reason: str, rule: str = UNREADABLE):
        super().__init__(path, reason, rule)
        self.path = Path(path)
        self.reason = reason
        self.rule = rule

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def crashed(path: Path) -> SliceError:
    """Say that a file took the process along that read it."""
    return SliceError(path, "reading it crashed the process that read it")


@dataclass(frozen=True, eq=False)
class RawSlice:
    """One slice as the source has it, rows and columns as displayed."""

    slice: int
    """Number of the slice, from the file's name."""
    image: Int16[np.ndarray, "h w"]
    mask: UInt8[np.ndarray, "h w"]
    """0 or 1."""
    label: int
    """1 meningioma, 2 glioma, 3 pituitary."""
    pid: str
    """The patient."""
    border: Float64[np.ndarray, "n 2"]
    """The outline that the mask was filled from: x, y, counted from 1 as MATLAB does."""


def slice_number(path: Path) -> int | None:
    """The slice's number in a file name `<int>.mat`, or None for any other name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def read_slice(path: Path | str) -> RawSlice:
    """Read and check one slice.

    Types, shapes and links are checked before values are read, so that a hostile or broken file costs no memory.

    Args:
        path: a file `<int>.mat`.

    Raises:
        SliceError: whatever is wrong with it.
    """
    path = Path(path)
    number = slice_number(path)
    if not number:
        raise SliceError(path, "the name is not a slice's number; expected <number>.mat, from 1.mat on")
    with _opened(path) as file:
        group = _child(path, file, "cjdata", h5py.Group)
        fields = {name: _child(path, group, name, h5py.Dataset) for name in FIELDS}
        _check_fields(path, fields)
        values = {name: _read(path, name, dataset) for name, dataset in fields.items()}
    image, mask = values["image"].T, values["tumorMask"].T
    return RawSlice(
        slice=number,
        image=_int16(path, image),
        mask=_binary(path, mask),
        label=_label(path, values["label"]),
        pid=_pid(path, values["PID"]),
        border=_border(path, values["tumorBorder"]),
    )


def read_image(path: Path | str) -> Int16[np.ndarray, "h w"]:
    """Read and check the image alone, of a file of any name that may lack all the rest.

    Raises:
        SliceError: whatever is wrong with it.
    """
    path = Path(path)
    with _opened(path) as file:
        dataset = _child(path, _child(path, file, "cjdata", h5py.Group), "image", h5py.Dataset)
        _check_image(path, dataset)
        values = _read(path, "image", dataset)
    return _int16(path, values.T)


def read_patient(path: Path | str) -> tuple[int, str]:
    """Read and check label and patient alone: for counting.

    Returns:
        1 meningioma, 2 glioma, 3 pituitary; and the patient.

    Raises:
        SliceError: whatever is wrong with these two.
    """
    path = Path(path)
    with _opened(path) as file:
        group = _child(path, file, "cjdata", h5py.Group)
        label, pid = (_child(path, group, name, h5py.Dataset) for name in ("label", "PID"))
        _check_patient(path, label, pid)
        return _label(path, _read(path, "label", label)), _pid(path, _read(path, "PID", pid))


def read_folds(path: Path | str) -> Int[np.ndarray, " n"]:
    """Read `cvind.mat`.

    Returns:
        The fold, 1 to 5, of slice N at index N - 1; 0 where there is no such slice.

    Raises:
        SliceError: it cannot be read, or does not hold one row of fold numbers.
    """
    path = Path(path)
    with _opened(path) as file:
        dataset = _child(path, file, "cvind", h5py.Dataset)
        _check_kind(path, "cvind", dataset, "iuf", "numbers")
        _check_vector(path, "cvind", dataset, MAX_FOLDS)
        values = _read(path, "cvind", dataset).ravel()
    folds = np.zeros(values.shape, np.int64)
    if not np.isin(values, (0, 1, 2, 3, 4, 5)).all():
        raise SliceError(path, "cvind holds values that are not fold numbers; expected 1 to 5, 0 for no slice")
    folds[:] = values
    return folds


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """The HDF5 file, with everything that h5py raises on it turned into a SliceError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SliceError(path, "not a regular file")
        with path.open("rb") as f:
            head = f.read(128)
        if head.startswith(b"MATLAB 5.0"):
            raise SliceError(path, "a MATLAB 5 file; expected MATLAB 7.3 (in MATLAB: save it with -v7.3)")
        if not h5py.is_hdf5(path):
            found = "an empty file" if not head else "not a MATLAB 7.3 (HDF5) file, or one cut off at its beginning"
            raise SliceError(path, found)
        # Nothing is written, so a lock of the file guards nothing, and a read-only network disk may refuse it.
        with _HDF5, h5py.File(path, "r", locking=False) as file:
            yield file
    except FileNotFoundError:
        raise SliceError(path, "no such file") from None
    except _BROKEN as e:
        raise SliceError(path, f"cannot be read ({_one_line(e)})") from e


def _one_line(e: BaseException) -> str:
    return " ".join(str(e).split()) or type(e).__name__


def _child(path: Path, group: h5py.Group, name: str, kind: type) -> Any:
    """The member `name`, if it is in this very file: a link could lead out of it, or nowhere."""
    where = name if group.name == "/" else f"{str(group.name).strip('/')}/{name}"
    what = "group" if kind is h5py.Group else "dataset"
    link = group.get(name, getlink=True)
    if link is None:
        raise SliceError(path, f"has no {what} {where}", MISSING_FIELD)
    if not isinstance(link, h5py.HardLink):
        reason = f"{where} is a link to elsewhere; expected a {what} in the file itself"
        raise SliceError(path, reason, WRONG_FIELD)
    child = group[name]
    if not isinstance(child, kind):
        reason = f"{where} is a {type(child).__name__.lower()}; expected a {what}"
        raise SliceError(path, reason, WRONG_FIELD)
    if isinstance(child, h5py.Dataset) and (child.external or child.is_virtual):
        reason = f"{where} keeps its values in another file; expected them in the file itself"
        raise SliceError(path, reason, WRONG_FIELD)
    return child


def _check_fields(path: Path, fields: dict[str, h5py.Dataset]) -> None:
    image, mask = fields["image"], fields["tumorMask"]
    _check_image(path, image)
    _check_kind(path, "tumorMask", mask, "biuf", "0 and 1")
    if mask.shape != image.shape:
        reason = f"tumorMask has shape {mask.shape[::-1]}, image {image.shape[::-1]}; expected the same"
        raise SliceError(path, reason, MASK_SHAPE)
    _check_patient(path, fields["label"], fields["PID"])
    _check_kind(path, "tumorBorder", fields["tumorBorder"], "iuf", "numbers")
    _check_vector(path, "tumorBorder", fields["tumorBorder"], MAX_BORDER)


def _check_patient(path: Path, label: h5py.Dataset, pid: h5py.Dataset) -> None:
    _check_kind(path, "label", label, "iuf", "a number")
    if label.size != 1:
        raise SliceError(path, f"label has shape {label.shape}; expected one number", WRONG_FIELD)
    _check_kind(path, "PID", pid, "u", "character codes (uint16)")
    _check_vector(path, "PID", pid, MAX_PID)


def _check_image(path: Path, image: h5py.Dataset) -> None:
    _check_kind(path, "image", image, "iuf", "whole numbers")
    # h5py shows the transpose of what MATLAB and this program call height and width.
    if image.ndim != 2 or not all(MIN_SIDE <= side <= MAX_SIDE for side in image.shape):
        expected = f"expected two dimensions of {MIN_SIDE} to {MAX_SIDE}"
        raise SliceError(path, f"image has shape {image.shape[::-1]}; {expected}", WRONG_FIELD)


def _check_kind(path: Path, name: str, dataset: h5py.Dataset, kinds: str, expected: str) -> None:
    """Kind of number and its width, that there are values, and that no chunk claims more memory than any image."""
    dtype = dataset.dtype
    if dtype.kind not in kinds or dtype.itemsize > 8:
        raise SliceError(path, f"{name} is of type {dtype}; expected {expected}", WRONG_FIELD)
    if dataset.chunks and np.prod(dataset.chunks, dtype=float) * dtype.itemsize > MAX_CHUNK_BYTES:
        reason = f"{name} is stored in chunks of {dataset.chunks}; too large for a slice"
        raise SliceError(path, reason, WRONG_FIELD)
    if dataset.shape is None or (dataset.size and not dataset.id.get_storage_size()):
        raise SliceError(path, f"{name} holds no values; expected {expected}", WRONG_FIELD)


def _check_vector(path: Path, name: str, dataset: h5py.Dataset, largest: int) -> None:
    long_sides = sum(side != 1 for side in dataset.shape)
    if not 1 <= dataset.ndim <= 2 or long_sides > 1 or np.prod(dataset.shape) > largest:
        reason = f"{name} has shape {dataset.shape}; expected one row of at most {largest}"
        raise SliceError(path, reason, WRONG_FIELD)


def _read(path: Path, name: str, dataset: h5py.Dataset) -> np.ndarray:
    # MATLAB stores an empty array as its dimensions, marked by an attribute.
    if "MATLAB_empty" in dataset.attrs:
        mark = dataset.attrs.get_id("MATLAB_empty")
        if mark.dtype.kind not in "biu" or mark.shape not in ((), (1,)):
            raise SliceError(path, f"{name} has a mark MATLAB_empty that is no number", WRONG_FIELD)
        if dataset.attrs["MATLAB_empty"]:
            return np.empty(0, dataset.dtype)
    try:
        return read_values(dataset)
    except StoredError as e:
        raise SliceError(path, f"{name} {e}") from e


def _int16(path: Path, image: np.ndarray) -> Int16[np.ndarray, "h w"]:
    if image.ndim != 2:
        raise SliceError(path, "image is empty", WRONG_FIELD)
    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise SliceError(path, "image has values that are not finite", NOT_FINITE)
        if (image != np.rint(image)).any():
            raise SliceError(path, "image has fractional values; expected whole intensities", NOT_INT16)
    low, high = image.min(), image.max()
    limits = np.iinfo(np.int16)
    if low < limits.min or high > limits.max:
        reason = f"image has values from {low} to {high}; expected int16 ({limits.min} to {limits.max})"
        raise SliceError(path, reason, NOT_INT16)
    return np.ascontiguousarray(image, np.int16)


def _binary(path: Path, mask: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    if mask.ndim != 2:
        raise SliceError(path, "tumorMask is empty", WRONG_FIELD)
    if not ((mask == 0) | (mask == 1)).all():
        raise SliceError(path, "tumorMask has values other than 0 and 1", MASK_VALUES)
    return np.ascontiguousarray(mask, np.uint8)


def _label(path: Path, label: np.ndarray) -> int:
    value = label.ravel()[0] if label.size else 0
    if value not in range(1, len(TUMORS) + 1):
        meaning = ", ".join(f"{i} ({name})" for i, name in enumerate(TUMORS, 1))
        raise SliceError(path, f"label is {value:g}; expected one of {meaning}", LABEL)
    return int(value)


def _pid(path: Path, codes: np.ndarray) -> str:
    if codes.dtype.itemsize > 2 and codes.size:
        raise SliceError(path, f"PID is of type {codes.dtype}; expected character codes (uint16)", WRONG_FIELD)
    pid = "".join(map(chr, codes.ravel().tolist())).strip()
    if not pid or not pid.isprintable():
        reason = f"PID is {pid!r}; expected the patient's name in printable characters"
        raise SliceError(path, reason, WRONG_FIELD)
    return pid


def _border(path: Path, border: np.ndarray) -> Float64[np.ndarray, "n 2"]:
    if border.size % 2:
        raise SliceError(path, f"tumorBorder has {border.size} values; expected pairs x, y", WRONG_FIELD)
    if not np.isfinite(border).all():
        raise SliceError(path, "tumorBorder has values that are not finite", NOT_FINITE)
    return border.astype(np.float64).reshape(-1, 2)
