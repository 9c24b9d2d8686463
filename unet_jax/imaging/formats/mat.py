"""Slices in the source format: one MATLAB 7.3 (HDF5) file each, as Figshare article 1512427 serves them.

A file N.mat holds the group `cjdata`: `image`, `tumorMask` (stored column-major, so transposed for h5py), `label`
(1 meningioma, 2 glioma, 3 pituitary), `PID` (character codes) and `tumorBorder` (x1, y1, x2, y2, ... counted from 1).
Beside the slices stands `cvind.mat`, which holds no slice but the fold of each.
"""

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64, Int, Int16, UInt8

from unet_jax.config import TUMORS
from unet_jax.imaging.formats.hdf5 import read_values
from unet_jax.imaging.scan import MIN_SIDE, ImageError, Reading, Refused, Slices, one_line

_TYPES = {
    "image": ("iuf", "whole numbers"),
    "label": ("iuf", "a number"),
    "PID": ("u", "character codes (uint16)"),
    "tumorBorder": ("iuf", "numbers"),
    "tumorMask": ("biuf", "0 and 1"),
    "cvind": ("iuf", "numbers"),
}
"""Kinds of NumPy's types that each field may have, and words for them."""
FIELDS = ("image", "label", "PID", "tumorBorder", "tumorMask")
_LONGEST = {"PID": 64, "tumorBorder": 200_000, "cvind": 1_000_000}
"""Most values of each field that is a row."""
MAX_SIDE = 4096
"""Largest side, in pixels, half of what other formats may have: image and mask may come in 8 bytes a pixel each, and
their chunks beside them."""
MAX_CHUNK_BYTES = MAX_SIDE * MAX_SIDE * 8
"""Largest chunk, in bytes: it is decompressed whole, so its size is a claim on memory like the dataset's own."""

UNREADABLE, MISSING_FIELD, WRONG_FIELD = "UNREADABLE_FILE", "MISSING_FIELD", "WRONG_FIELD"
NOT_FINITE, NOT_INT16, LABEL = "NOT_FINITE", "NOT_INT16", "LABEL"
MASK_VALUES, MASK_SHAPE = "MASK_VALUES", "MASK_SHAPE"
"""Names of what can be wrong with a file: those of `data.check.rules.Rule`, which explains them."""

_NAME = re.compile(r"([0-9]{1,9})\.mat")
_RAISED = (OSError, RuntimeError, LookupError, ValueError, TypeError, ArithmeticError, MemoryError)
"""Exceptions that h5py raises on files that are truncated, garbled or larger than memory."""


class SliceError(ImageError):
    """A source file that cannot be used: `path`, `reason`, and the `rule` that it breaks."""

    def __init__(self, path: Path | str, reason: str, rule: str = UNREADABLE):
        super().__init__(Path(path), reason)
        self.rule = rule


def crashed(path: Path) -> SliceError:
    """Say that a file took the process along that read it."""
    return SliceError(path, "reading it crashed the process that read it")


@dataclass(frozen=True, eq=False)
class RawSlice:
    """A slice as the source has it, rows and columns as displayed."""

    slice: int
    """Number of the slice, from the file's name."""
    image: Int16[np.ndarray, "h w"]
    mask: UInt8[np.ndarray, "h w"]
    """1 where there is tumour, else 0."""
    label: int
    """1 meningioma, 2 glioma, 3 pituitary."""
    pid: str
    """Name of the patient."""
    border: Float64[np.ndarray, "n 2"]
    """Outline that the mask was filled from: x, y, counted from 1 as MATLAB does."""


def slice_number(path: Path) -> int | None:
    """Return the number in a file name `<int>.mat`; None for any other name."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else None


def read_slice(path: Path | str) -> RawSlice:
    """Read and check one slice of a file `<int>.mat`.

    Types, shapes and links are checked before values are read, so that a hostile or broken file costs no memory.

    Raises:
        SliceError: whatever is wrong with the file.
    """
    path = Path(path)
    number = slice_number(path)
    if not number:
        raise SliceError(path, "the name is not a slice's number; expected <number>.mat, from 1.mat on")
    with _opened(path, "cjdata") as group:
        fields = {name: _field(group, name) for name in FIELDS}
        shape, image_shape = fields["tumorMask"].shape[::-1], fields["image"].shape[::-1]
        if shape != image_shape:
            raise _Broken(f"tumorMask has shape {shape}, image {image_shape}; expected the same", MASK_SHAPE)
        values = {name: _read(field, name) for name, field in fields.items()}
        return RawSlice(
            slice=number,
            image=_int16(values["image"].T),
            mask=_binary(values["tumorMask"].T),
            label=_label(values["label"]),
            pid=_pid(values["PID"]),
            border=_border(values["tumorBorder"]),
        )


def open_slices(path: Path, reading: Reading) -> Slices:
    """Read and check the image alone, of a file of any name that may lack all the rest; errors as `read_slice`."""
    with _opened(path, "cjdata") as group:
        return Slices(_int16(_read(_field(group, "image"), "image").T))


def read_patient(path: Path | str) -> tuple[int, str]:
    """Read and check `label` and `pid` of a RawSlice alone, for counting; errors as `read_slice`."""
    with _opened(Path(path), "cjdata") as group:
        return _label(_read(_field(group, "label"), "label")), _pid(_read(_field(group, "PID"), "PID"))


def read_folds(path: Path | str) -> Int[np.ndarray, " n"]:
    """Read `cvind.mat`.

    Returns:
        The fold, 1 to 5, of slice N at index N - 1; 0 where there is no such slice.

    Raises:
        SliceError: the file cannot be read, or does not hold one row of fold numbers.
    """
    with _opened(Path(path)) as file:
        values = _read(_field(file, "cvind"), "cvind").ravel()
        if not np.isin(values, (0, 1, 2, 3, 4, 5)).all():
            raise _Broken("cvind holds values that are not fold numbers; expected 1 to 5, 0 for no slice", UNREADABLE)
        return values.astype(np.int64)


class _Broken(Refused):
    """Reason why a file cannot be used, and the rule that it breaks; `_opened` adds the file."""

    def __init__(self, reason: str, rule: str = WRONG_FIELD):
        super().__init__(reason)
        self.rule = rule


@contextmanager
def _opened(path: Path, group: str | None = None) -> Iterator[h5py.Group]:
    """Open the HDF5 file, or a group of it, and turn everything that is wrong with it into a SliceError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _Broken("not a regular file", UNREADABLE)
        with path.open("rb") as f:
            head = f.read(128)
        if head.startswith(b"MATLAB 5.0"):
            raise _Broken("a MATLAB 5 file; expected MATLAB 7.3 (in MATLAB: save it with -v7.3)", UNREADABLE)
        if not h5py.is_hdf5(path):
            found = "not a MATLAB 7.3 (HDF5) file, or one cut off at its beginning" if head else "an empty file"
            raise _Broken(found, UNREADABLE)
        # Nothing is written, so a lock of the file guards nothing, and a read-only network disk may refuse it.
        with h5py.File(path, "r", locking=False) as file:
            yield file if group is None else _child(file, group, h5py.Group)
    except _Broken as e:
        raise SliceError(path, str(e), e.rule) from e
    except FileNotFoundError:
        raise SliceError(path, "no such file") from None
    except _RAISED as e:
        raise SliceError(path, f"cannot be read ({one_line(e)})") from e


def _child(group: h5py.Group, name: str, kind: type) -> Any:
    """Return the member `name` if it is in this very file: a link could lead out of it, or nowhere."""
    where = name if group.name == "/" else f"{str(group.name).strip('/')}/{name}"
    what = "group" if kind is h5py.Group else "dataset"
    link = group.get(name, getlink=True)
    if link is None:
        raise _Broken(f"has no {what} {where}", MISSING_FIELD)
    if not isinstance(link, h5py.HardLink):
        raise _Broken(f"{where} is a link to elsewhere; expected a {what} in the file itself")
    child = group[name]
    if not isinstance(child, kind):
        raise _Broken(f"{where} is a {type(child).__name__.lower()}; expected a {what}")
    if isinstance(child, h5py.Dataset) and (child.external or child.is_virtual):
        raise _Broken(f"{where} keeps its values in another file; expected them in the file itself")
    return child


def _field(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return a dataset once type and shape are those of its field, and no chunk claims more memory than any image."""
    field, (kinds, expected) = _child(group, name, h5py.Dataset), _TYPES[name]
    dtype, shape = field.dtype, field.shape
    if dtype.kind not in kinds or dtype.itemsize > 8:
        raise _Broken(f"{name} is of type {dtype}; expected {expected}")
    if field.chunks and np.prod(field.chunks, dtype=float) * dtype.itemsize > MAX_CHUNK_BYTES:
        raise _Broken(f"{name} is stored in chunks of {field.chunks}; too large for a slice")
    if shape is None or (field.size and not field.id.get_storage_size()):
        raise _Broken(f"{name} holds no values; expected {expected}")
    # h5py shows the transpose of what MATLAB and this program call height and width.
    if name == "image" and (len(shape) != 2 or not all(MIN_SIDE <= side <= MAX_SIDE for side in shape)):
        raise _Broken(f"image has shape {shape[::-1]}; expected two dimensions of {MIN_SIDE} to {MAX_SIDE}")
    if name == "label" and field.size != 1:
        raise _Broken(f"label has shape {shape}; expected one number")
    most = _LONGEST.get(name)
    if most and (len(shape) not in (1, 2) or sum(side != 1 for side in shape) > 1 or np.prod(shape) > most):
        raise _Broken(f"{name} has shape {shape}; expected one row of at most {most}")
    return field


def _read(field: h5py.Dataset, name: str) -> np.ndarray:
    # MATLAB stores an empty array as its dimensions, marked by an attribute.
    if "MATLAB_empty" in field.attrs:
        mark = field.attrs.get_id("MATLAB_empty")
        if mark.dtype.kind not in "biu" or mark.shape not in ((), (1,)):
            raise _Broken(f"{name} has a mark MATLAB_empty that is no number")
        if field.attrs["MATLAB_empty"]:
            if name in ("image", "tumorMask"):
                raise _Broken(f"{name} is empty")
            return np.empty(0, field.dtype)
    try:
        return read_values(field)
    except Refused as e:
        raise _Broken(f"{name} {e}", UNREADABLE) from e


def _int16(image: np.ndarray) -> Int16[np.ndarray, "h w"]:
    if image.dtype.kind == "f":
        if not np.isfinite(image).all():
            raise _Broken("image has values that are not finite", NOT_FINITE)
        if (image != np.rint(image)).any():
            raise _Broken("image has fractional values; expected whole intensities", NOT_INT16)
    low, high, limits = image.min(), image.max(), np.iinfo(np.int16)
    if low < limits.min or high > limits.max:
        expected = f"expected int16 ({limits.min} to {limits.max})"
        raise _Broken(f"image has values from {low} to {high}; {expected}", NOT_INT16)
    return np.ascontiguousarray(image, np.int16)


def _binary(mask: np.ndarray) -> UInt8[np.ndarray, "h w"]:
    if not ((mask == 0) | (mask == 1)).all():
        raise _Broken("tumorMask has values other than 0 and 1", MASK_VALUES)
    return np.ascontiguousarray(mask, np.uint8)


def _label(label: np.ndarray) -> int:
    value = label.ravel()[0] if label.size else 0
    if value not in range(1, len(TUMORS) + 1):
        meaning = ", ".join(f"{i} ({name})" for i, name in enumerate(TUMORS, 1))
        raise _Broken(f"label is {value:g}; expected one of {meaning}", LABEL)
    return int(value)


def _pid(codes: np.ndarray) -> str:
    if codes.dtype.itemsize > 2 and codes.size:
        raise _Broken(f"PID is of type {codes.dtype}; expected character codes (uint16)")
    pid = "".join(map(chr, codes.ravel().tolist())).strip()
    if not pid or not pid.isprintable():
        raise _Broken(f"PID is {pid!r}; expected the patient's name in printable characters")
    return pid


def _border(border: np.ndarray) -> Float64[np.ndarray, "n 2"]:
    if border.size % 2:
        raise _Broken(f"tumorBorder has {border.size} values; expected pairs x, y")
    if not np.isfinite(border).all():
        raise _Broken("tumorBorder has values that are not finite", NOT_FINITE)
    return border.astype(np.float64).reshape(-1, 2)
