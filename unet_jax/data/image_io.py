"""Slices from image files, and masks, probabilities and overlays to files."""

import contextlib
import os
import re
import stat
import sys
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

# Importing the TIFF reader registers it; else Pillow would load all of its forty readers to find it.
from PIL import Image, ImageFile, TiffImagePlugin

from unet_jax.config import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".mat")
"""Suffixes, in lower case, of the files that `read_image` reads."""

MIN_SIDE, MAX_SIDE = 16, 8192
"""Smallest and largest side of a slice, in pixels; a larger one is refused before it is decoded."""

MAX_VALUE = 1e30
"""Larger magnitudes are refused: sums of them would leave the range of 32-bit floating point."""

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
PNG_LEVEL = 3
"""The default, 6, takes twice the time; for a smaller mask (1 kB instead of 2) and a larger overlay."""
OVERLAY_COLOUR = (230, 159, 0)
"""The orange of Okabe and Ito's palette, which colour-blind people tell from grey and from the other seven."""
OVERLAY_OPACITY = 0.3

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


class ImageError(UserError):
    """An image file that cannot be used; `path` and `reason` say which and why."""

    def __init__(self, path: Path, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path, self.reason = path, reason


def find_images(source: Path) -> list[Path]:
    """The image files of a folder and its subfolders, or the one file given.

    Hidden files and folders are left out, and so is the dataset's cvind.mat, which is no slice. Links to folders are
    followed unless they lead back to a folder that they are in.

    Args:
        source: a folder, or a file with one of IMAGE_SUFFIXES.

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
    if source.suffix.lower() not in IMAGE_SUFFIXES:
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
            elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and entry.name.lower() != "cvind.mat":
                yield relative / entry.name


@contextlib.contextmanager
def silent_readers() -> Iterator[None]:
    """Silence the warnings of Pillow and NumPy about odd metadata of a file that can be read nevertheless.

    Not part of `read_image`, because Python's warning filters belong to the process: threads that each set and restore
    them would leave them in disorder. Enter it once, around all reading.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", "Reading `.npy`", UserWarning)
        yield


def read_image(path: Path) -> Shaped[np.ndarray, "h w"]:
    """Read one slice as a grey picture in the type of its file.

    PNG, JPEG, TIFF and BMP are recognised by content, `.npy` (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) and `.mat` (the
    Figshare dataset's) by suffix. Colour becomes grey by the luma of ITU-R BT.601: the channel itself where the three
    are equal everywhere, else a floating-point picture. Transparency is dropped; 1-bit and palette pictures become
    8-bit. Pixels come as the file stores them: an orientation in its metadata is not applied.

    Args:
        path: the file; each side of its picture MIN_SIDE to MAX_SIDE pixels.

    Returns:
        Real, finite values of magnitude below MAX_VALUE, in the machine's byte order.

    Raises:
        ImageError: anything that keeps the file from being such a picture, whatever is wrong with it.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageError(path, "not a regular file")
        suffix = path.suffix.lower()
        read = {".npy": _read_npy, ".mat": _read_mat}.get(suffix, _read_picture)
        image = read(path)
    except OSError as e:
        raise ImageError(path, _one_line(e.strerror or e)) from e
    except MemoryError as e:
        raise ImageError(path, "too large for this machine's memory") from e
    _check_sides(path, image.shape)
    if image.dtype.kind == "f" and not float(np.abs(image).max()) < MAX_VALUE:
        raise ImageError(path, f"has values that are not a number, infinite or beyond {MAX_VALUE:g}")
    return np.ascontiguousarray(image, image.dtype.newbyteorder("="))


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
            shape, fortran, dtype = read_header[np.lib.format.read_magic(f)](f)
        except Exception as e:
            # The header is Python text: besides ValueError, parsing it raises SyntaxError, TokenError, TypeError, ...
            raise ImageError(path, f"is no .npy file of plain numbers ({_one_line(e)})") from e
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise ImageError(path, f"holds {dtype}; expected integers or real numbers of up to 64 bits")
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)):
            raise ImageError(path, f"has shape {shape}; expected (height, width), or that with 1, 3 or 4 channels")
        _check_sides(path, shape)
        expected, size = f.tell() + int(np.prod(shape)) * dtype.itemsize, os.fstat(f.fileno()).st_size
        if size != expected:
            raise ImageError(path, f"is {size} bytes long; its header says {expected}")
        array = np.fromfile(f, dtype).reshape(shape, order="F" if fortran else "C")
    if array.ndim == 2:
        return array
    return array[..., 0] if shape[2] == 1 else _grey(array)


def _read_picture(path: Path) -> np.ndarray:
    try:
        with _opened(path) as image:
            return _decode(path, image)
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as e:
        raise ImageError(path, f"has too many pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}") from e
    except Image.UnidentifiedImageError as e:
        raise ImageError(path, "is no PNG, JPEG, TIFF or BMP picture, or one of an unknown kind") from e
    except Exception as e:
        # A damaged file makes Pillow raise nearly anything: OSError, SyntaxError, struct.error, KeyError, ...
        raise ImageError(path, f"cannot be decoded ({_one_line(e)})") from e


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    # Given a name instead of a file, Pillow maps uncompressed TIFF into memory, and then takes the rows of a picture
    # that is to be turned by 90 degrees for as long as its columns.
    with path.open("rb") as f, Image.open(f, formats=FORMATS) as image:
        yield image


def _decode(path: Path, image: ImageFile.ImageFile) -> np.ndarray:
    _check_sides(path, image.size[::-1])
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(path, f"holds {frames} pages; expected one slice a file")
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
        return _grey(np.asarray(image))
    return _grey(np.asarray(image.convert("RGBA" if image.mode in ("P", "PA", "LA", "La", "RGBa") else "RGB")))


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
    return _grey(upper.astype(np.uint16) << 8 | lower)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    args = image.tile[0].args
    return str(args[0] if isinstance(args, tuple) else args)


def _set_raw_mode(image: ImageFile.ImageFile, mode: str) -> None:
    image.tile = [t._replace(args=(mode, *t.args[1:]) if isinstance(t.args, tuple) else mode) for t in image.tile]


def _first(tags: Any, tag: int, default: int) -> int:
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) else value


def _grey(colours: np.ndarray) -> np.ndarray:
    red, green, blue = (colours[..., i] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return red
    red, green, blue = (_float(c) for c in (red, green, blue))
    # 0.299 red + 0.587 green + 0.114 blue, in the form that leaves grey pixels exactly as they are.
    return green + 0.299 * (red - green) + 0.114 * (blue - green)


def _float(array: np.ndarray) -> np.ndarray:
    """In the smallest of float32 and float64 that holds every value of the array's type."""
    return array.astype(np.result_type(array.dtype, np.float32), copy=False)


def _check_sides(path: Path, shape: tuple[int, ...]) -> None:
    h, w = shape[:2]
    if not (MIN_SIDE <= h <= MAX_SIDE and MIN_SIDE <= w <= MAX_SIDE):
        raise ImageError(path, f"is {h}x{w} pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}")


def _one_line(error: object) -> str:
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
    scaled = (_float(image) - float(low)) * (255 / float(high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def write_mask(path: Path, mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]) -> None:
    """Write a mask as an 8-bit PNG of 0 and 255.

    Args:
        path: where to; an existing file is replaced once the new one is whole.
        mask: True or nonzero where there is tumor.
    """
    with _whole(path) as f:
        Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))).save(f, "PNG", compress_level=PNG_LEVEL)


def write_probs(path: Path, probs: Float[np.ndarray, "h w"]) -> None:
    """Write probabilities as a float16 `.npy`.

    Args:
        path: where to; an existing file is replaced once the new one is whole.
        probs: 0..1.
    """
    with _whole(path) as f:
        np.lib.format.write_array(f, probs.astype(np.float16), allow_pickle=False)


def write_overlay(path: Path, grey: UInt8[np.ndarray, "h w"], mask: Shaped[np.ndarray, "h w"]) -> None:
    """Write a slice with the mask's outline drawn and its inside tinted, as a PNG.

    Args:
        path: where to; an existing file is replaced once the new one is whole.
        grey: the slice as `to_display` gives it.
        mask: True or nonzero where there is tumor.
    """
    mask = mask.astype(bool)
    colour = np.array(OVERLAY_COLOUR, np.float32)
    greys = np.arange(256, dtype=np.float32)[:, None]
    tinted = np.rint((1 - OVERLAY_OPACITY) * greys + OVERLAY_OPACITY * colour).astype(np.uint8)
    inside = mask
    for _ in range(max(1, round(min(mask.shape) / 256))):
        inside = _eroded(inside)
    canvas = np.repeat(grey[..., None], 3, axis=2)
    canvas[inside] = tinted[grey[inside]]
    canvas[mask & ~inside] = OVERLAY_COLOUR
    with _whole(path) as f:
        Image.fromarray(canvas).save(f, "PNG", compress_level=PNG_LEVEL)


def _eroded(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1)
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as f:
            yield f
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
