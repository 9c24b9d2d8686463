"""Slices from image files, and how a person looks at one."""

import contextlib
import logging
import os
import re
import stat
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped, UInt8

# Importing the TIFF reader registers it; else Pillow would load all of its forty readers to find it.
from PIL import Image, ImageFile, TiffImagePlugin

from unet_jax.config import UserError
from unet_jax.data.colour import as_float, to_grey
from unet_jax.data.untrusted import Clamped, picture_damage

DICOM_SUFFIXES = (".dcm", ".dicom")
VOLUME_SUFFIXES = (".nii", ".nii.gz")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".mat", *DICOM_SUFFIXES, *VOLUME_SUFFIXES)
"""Suffixes, in lower case, of the files that are read. DICOM files often have none and are known by their content."""

MIN_SIDE, MAX_SIDE = 16, 8192
"""Smallest and largest side of a slice, in pixels; a larger one is refused before it is decoded."""

MAX_VALUE = 1e30
"""Larger magnitudes are refused: sums of them would leave the range of 32-bit floating point."""
BAD_VALUES = f"has values that are not a number, infinite or beyond {MAX_VALUE:g}"

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")

_COLOUR_16 = re.compile(r"(RGB|RGBA|RGBa|RGBX|LA);16[LBN]")
_BITS, _PHOTOMETRIC, _ORIENTATION, _PLANES, _SAMPLE_FORMAT = 258, 262, 274, 284, 339
"""Numbers of TIFF tags."""
_UNDO_ORIENTATION = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


Spacing = tuple[float, float]
"""Millimetres from one row to the next, and from one column to the next."""


class Scan(NamedTuple):
    """A slice as its file has it."""

    image: Shaped[np.ndarray, "h w"]
    """Real, finite values of magnitude below MAX_VALUE, in the machine's byte order."""
    spacing: Spacing | None
    """None where the file does not tell it; of all formats but DICOM none does reliably."""


class ImageError(UserError):
    """An image file that cannot be used; `path` and `reason` say which and why."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def suffix_of(path: Path) -> str:
    """The one of IMAGE_SUFFIXES that a file's name ends in; empty where there is none."""
    name = path.name.lower()
    return next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix) and name != suffix), "")


def stem_of(path: Path) -> str:
    """A file's name without its suffix; whole where it has none of IMAGE_SUFFIXES, such as DICOM's 1.2.840.1."""
    return path.name.removesuffix(path.name[len(path.name) - len(suffix_of(path)) :])


def is_volume(path: Path) -> bool:
    """Whether `nifti.open_volume` reads it, and not `read_scan`."""
    return suffix_of(path) in VOLUME_SUFFIXES


def is_dicom(path: Path) -> bool:
    """Whether an image file, as `find_images` lists it, is DICOM."""
    return suffix_of(path) in ("", *DICOM_SUFFIXES)


def find_images(source: Path) -> list[Path]:
    """The image files of a folder and its subfolders, or the one file given.

    A file without a suffix, or with a number for one, counts if its content is DICOM. Hidden files and folders are left
    out, and so are the dataset's cvind.mat and a DICOMDIR, which are no slices. Links to folders are followed unless
    they lead back to a folder that they are in.

    Args:
        source: a folder, or a file with one of IMAGE_SUFFIXES, or a DICOM file.

    Returns:
        Paths relative to `source`, or to the folder of the file, sorted by folder and name.

    Raises:
        UserError: no such file, an unknown suffix, or a folder without images.
    """
    known = ", ".join(IMAGE_SUFFIXES)
    if source.is_dir():
        found = sorted(_walk(source, Path(), (source.resolve(),)), key=lambda p: p.parts)
        if not found:
            raise UserError(f"{source} holds no image; expected files that end in {known}.")
        return found
    if not source.exists():
        raise UserError(f"{source} does not exist; expected an image file or a folder of them.")
    if not (suffix_of(source) or _is_bare_dicom(source)):
        raise UserError(f"{source} has an unknown suffix; expected a file that ends in {known}.")
    return [Path(source.name)]


def _walk(folder: Path, relative: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                below = Path(entry.path)
                real = below.resolve()
                if real not in above:
                    yield from _walk(below, relative / entry.name, (*above, real))
            elif entry.name.lower() not in ("cvind.mat", "dicomdir"):
                path = Path(entry.path)
                if suffix_of(path) or _is_bare_dicom(path):
                    yield relative / entry.name


def _is_bare_dicom(path: Path) -> bool:
    if path.suffix and not path.suffix[1:].isdecimal():
        return False
    try:
        # A pipe would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as f:
            return f.read(132)[128:] == b"DICM"
    except OSError:
        return False


@contextlib.contextmanager
def silent_readers() -> Iterator[None]:
    """Silence what the readers' libraries say about odd metadata of a file that can be read nevertheless.

    Not part of `read_scan`, because Python's warning filters belong to the process: threads that each set and restore
    them would leave them in disorder. Enter it once, around all reading.
    """
    # nibabel writes to standard error by itself.
    nibabel = logging.getLogger("nibabel.global")
    before, nibabel.disabled = nibabel.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(PIL|pydicom|nibabel)\.")
            warnings.filterwarnings("ignore", "Reading `.npy`", UserWarning)
            yield
    finally:
        nibabel.disabled = before


def read_image(path: Path) -> Shaped[np.ndarray, "h w"]:
    """The slice of `read_scan`, without its spacing."""
    return read_scan(path).image


def read_scan(path: Path) -> Scan:
    """Read one slice as a grey picture in the type of its file.

    PNG, JPEG, TIFF and BMP are recognised by content, the others by suffix: `.npy` (h, w), (h, w, 1), (h, w, 3) or
    (h, w, 4), `.mat` (the Figshare dataset's), and DICOM, as `dicom.read_dicom` reads it. Colour becomes grey by
    the luma of ITU-R BT.601: the channel itself where the three are equal everywhere, else a floating-point picture.
    Transparency is dropped; 1-bit and palette pictures become 8-bit. Pixels come as the file stores them: an
    orientation in its metadata is not applied.

    Args:
        path: the file; each side of its picture MIN_SIDE to MAX_SIDE pixels.

    Raises:
        ImageError: anything that keeps the file from being such a picture, whatever is wrong with it.
    """
    spacing = None
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError(path, "not a regular file")
        suffix = suffix_of(path)
        if suffix in VOLUME_SUFFIXES:
            raise ImageError(path, "is a volume; `unet_jax.predict` takes it, slice by slice")
        if suffix in DICOM_SUFFIXES or (not suffix and _is_bare_dicom(path)):
            from unet_jax.data.dicom import read_dicom

            image, spacing = read_dicom(path)
        else:
            image = {".npy": _read_npy, ".mat": _read_mat}.get(suffix, _read_picture)(path)
    except OSError as e:
        raise ImageError(path, one_line(e.strerror or e)) from e
    except MemoryError as e:
        raise ImageError(path, "too large for this machine's memory") from e
    check_sides(path, image.shape)
    if image.dtype.kind == "f" and not float(np.abs(image).max()) < MAX_VALUE:
        raise ImageError(path, BAD_VALUES)
    return Scan(np.ascontiguousarray(image, image.dtype.newbyteorder("=")), spacing)


def _read_mat(path: Path) -> np.ndarray:
    # h5py takes a third of a second to import, and pictures do not need it.
    from unet_jax.data import figshare

    try:
        return figshare.read_image(path)
    except figshare.SliceError as e:
        raise ImageError(path, e.reason) from e


def _read_npy(path: Path) -> np.ndarray:
    # The header says how much the file must hold, so it is checked before anything of that size is made.
    with path.open("rb") as f:
        try:
            # Version 3 is for names of fields, which an array of numbers does not have.
            read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, fortran, dtype = read_header[np.lib.format.read_magic(start := Clamped(f))](start)
        except Exception as e:
            # The header is Python text: besides ValueError, parsing it raises SyntaxError, TokenError, TypeError, ...
            raise ImageError(path, f"is no .npy file of plain numbers ({one_line(e)})") from e
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise ImageError(path, f"holds {dtype}; expected integers or real numbers of up to 64 bits")
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
            raise ImageError(path, f"has shape {shape}; expected (height, width), or that with 1, 3 or 4 channels")
        check_sides(path, shape)
        expected, size = f.tell() + int(np.prod(shape)) * dtype.itemsize, os.fstat(f.fileno()).st_size
        if size != expected:
            raise ImageError(path, f"is {size} bytes long; its header says {expected}")
        array = np.fromfile(f, dtype).reshape(shape, order="F" if fortran else "C")
    if array.ndim == 2:
        return array
    return array[..., 0] if shape[2] == 1 else to_grey(len(array), lambda rows: array[rows])


def _read_picture(path: Path) -> np.ndarray:
    try:
        with _opened(path) as image:
            if damage := picture_damage(path, str(image.format)):
                raise ImageError(path, damage)
            return _decode(path, image)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as e:
        raise ImageError(path, f"has too many pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}") from e
    except Image.UnidentifiedImageError as e:
        raise ImageError(path, "is no PNG, JPEG, TIFF or BMP picture, or one of an unknown kind") from e
    except Exception as e:
        # A damaged file makes Pillow raise nearly anything: OSError, SyntaxError, struct.error, KeyError, ...
        raise ImageError(path, f"cannot be decoded ({one_line(e)})") from e


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    # Given a name instead of a file, Pillow maps uncompressed TIFF into memory, and then takes the rows of a picture
    # that is to be turned by 90 degrees for as long as its columns.
    with path.open("rb") as f, Image.open(f, formats=FORMATS) as image:
        yield image


def _decode(path: Path, image: ImageFile.ImageFile) -> np.ndarray:
    check_sides(path, image.size[::-1])
    # Counting them would go through them all.
    if getattr(image, "is_animated", False):
        raise ImageError(path, "holds several pages; expected one slice a file")
    if not image.tile:
        raise ImageError(path, "holds no pixels")
    # Loading removes the orientation from the tags, so they are read first.
    tags: Any = dict(image.tag_v2) if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    grey = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")
    array = _grey_pixels(image, tags) if grey else _colour_pixels(path, image, tags)
    # For TIFF alone, Pillow turns the picture as its orientation says.
    undo = _UNDO_ORIENTATION.get(_first(tags, _ORIENTATION, 1))
    return array if undo is None else undo(array)


def _grey_pixels(image: ImageFile.ImageFile, tags: Any) -> np.ndarray:
    if image.tile[0].codec_name == "libtiff":
        # libtiff hands out numbers in the machine's byte order, where Pillow takes these to be in the file's.
        for file_order, machine_order in (("I;16BS", "I;16NS"), ("I;32BS", "I;32NS"), ("F;32BF", "F;32NF")):
            if _raw_mode(image) == file_order:
                _set_raw_mode(image, machine_order)
    array = np.asarray(image.convert("L") if image.mode == "1" else image)
    if not tags:
        return array
    signed = _first(tags, _SAMPLE_FORMAT, 1) == 2
    # Pillow has no signed 8-bit, signed 16-bit and unsigned 32-bit mode, and inverts white-is-zero up to 8 bits only.
    if image.mode == "L" and signed:
        return array.view(np.int8)
    if image.mode == "I" and _first(tags, _BITS, 1) == 16:
        return array.astype(np.int16)
    if image.mode == "I" and not signed:
        return array.view(np.uint32)
    if image.mode.startswith("I;16") and tags.get(_PHOTOMETRIC) == 0:
        return 65535 - array
    return array


def _colour_pixels(path: Path, image: ImageFile.ImageFile, tags: Any) -> np.ndarray:
    mode = _raw_mode(image)
    if _COLOUR_16.fullmatch(mode) and tags.get(_PLANES, 1) == 1:
        return _colour_16(path, image, mode)
    if _first(tags, _BITS, 8) > 8:
        raise ImageError(path, "has over 8 bits a colour in an unusual layout; save it as grey, or as .npy")
    if image.mode in ("RGB", "RGBA", "RGBX"):
        colours = np.asarray(image)
    else:
        colours = np.asarray(image.convert("RGBA" if image.mode in ("P", "PA", "LA", "La", "RGBa") else "RGB"))
    return to_grey(len(colours), lambda rows: colours[rows])


def _colour_16(path: Path, image: ImageFile.ImageFile, raw_mode: str) -> np.ndarray:
    # Of 16-bit colours Pillow keeps the upper byte. Told the other byte order, it keeps the lower one.
    kind, order = raw_mode.split(";16")
    if kind == "LA":
        _set_raw_mode(image, "RGBA")
        four = np.asarray(image)
        return four[..., 0].astype(np.uint16) << 8 | four[..., 1]
    kind = kind.upper()
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    with _opened(path) as again:
        _set_raw_mode(image, f"{kind};16{order}")
        _set_raw_mode(again, f"{kind};16{'B' if order == 'L' else 'L'}")
        upper, lower = np.asarray(image)[..., :3], np.asarray(again)[..., :3]
    return to_grey(len(upper), lambda rows: upper[rows].astype(np.uint16) << 8 | lower[rows])


def _raw_mode(image: ImageFile.ImageFile) -> str:
    args = image.tile[0].args
    return str(args[0] if isinstance(args, tuple) else args)


def _set_raw_mode(image: ImageFile.ImageFile, mode: str) -> None:
    image.tile = [t._replace(args=(mode, *t.args[1:]) if isinstance(t.args, tuple) else mode) for t in image.tile]


def _first(tags: Any, tag: int, default: int) -> int:
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) else value


def check_sides(path: Path, shape: tuple[int, ...]) -> None:
    h, w = shape[:2]
    if not (MIN_SIDE <= h <= MAX_SIDE and MIN_SIDE <= w <= MAX_SIDE):
        raise ImageError(path, f"is {h}x{w} pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}")


def one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def to_display(image: Shaped[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """A slice as a person looks at it: its 1st percentile black, its 99th white.

    Args:
        image: intensities of any real type and range.

    Returns:
        Grey 0..255; all 0 where the image is constant.
    """
    low, high = np.percentile(image, (1, 99))
    if low == high:
        low, high = float(image.min()), float(image.max())
    if low == high:
        return np.zeros(image.shape, np.uint8)
    scaled = (as_float(image) - float(low)) * (255 / float(high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
