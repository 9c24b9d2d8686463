"""Slices from PNG, JPEG, TIFF, BMP, WebP, GIF, PGM and JPEG 2000 files."""

import os
import re
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np

# Importing these readers registers them; else Pillow would load all of its forty to find them.
from PIL import Image, ImageFile, Jpeg2KImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ExifTags import Base as Tag

from unet_jax.imaging.formats.grey import to_grey
from unet_jax.imaging.formats.tiff64 import read_64_bits
from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.imaging.scan import MAX_SIDE, MIN_SIDE, NO_TURN, Reading, Refused, Slices, Turn, check_sides, spacing_of

_REGISTERED = (TiffImagePlugin.TiffImageFile, Jpeg2KImagePlugin.Jpeg2KImageFile, WebPImagePlugin.WebPImageFile)
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", *(str(reader.format) for reader in _REGISTERED))
MAX_JPEG_SCANS = 50
"""Largest number of scans of a JPEG; a progressive one has a dozen, and each goes over the whole picture."""

_PNG_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
"""Length, name and checksum of the last chunk of every PNG."""

_TURNS = {
    2: Turn(False, (1, -1)),
    3: Turn(False, (-1, -1)),
    4: Turn(False, (-1, 1)),
    5: Turn(True, (1, 1)),
    6: Turn(True, (1, -1)),
    7: Turn(True, (-1, -1)),
    8: Turn(True, (-1, 1)),
}
"""Ways from a picture as stored to the one that viewers show, by the orientation that EXIF or TIFF gives."""

_GREY = ("1", "L", "I", "F")
_REDUCED = 1
"""Bit of NewSubfileType of a page that shows another one in fewer pixels."""
_COLOUR_16 = re.compile(r"(RGB|RGBA|RGBa|RGBX|LA);16[LBN]")


def open_slices(path: Path, reading: Reading) -> Slices:
    """Read a picture, which is recognised by its content."""
    try:
        # Given a name instead of a file, Pillow maps uncompressed TIFF into memory, and then takes the rows of a
        # picture that is to be turned by 90 degrees for as long as its columns.
        with path.open("rb") as f, Image.open(cast(Any, Clamped(f)), formats=FORMATS) as image:
            if image.format == "PNG":
                check_png(path)
            if image.format == "JPEG":
                check_jpeg(path)
            return _read(path, image, reading)
    except Image.DecompressionBombError as e:
        raise Refused(f"has too many pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}") from e
    except Image.UnidentifiedImageError as e:
        if (read := read_64_bits(path)) is not None:
            array, tags = read
            return _upright(array, _first(tags, Tag.Orientation, 1), _aspect(None, tags), reading, [])
        raise Refused(
            "is no PNG, JPEG, TIFF, BMP, WebP, GIF, PGM or JPEG 2000 picture, or one of an unknown kind"
        ) from e


def take(image: Image.Image) -> Slices:
    """Take a picture that a program has open in Pillow, as a file of it would be read upright.

    Its pixels are stored as Pillow shows them, which may have read them already.
    """
    step = _step(image)
    if image.mode in _GREY or image.mode.startswith("I;16"):
        # Pillow would cut 16 bits off at 255.
        array = _without_transparent(image, np.asarray(image.convert("L") if image.mode == "1" else image), step)
    else:
        colours, opaque = _colours(image)
        array = to_grey(len(colours), lambda rows: colours[rows], opaque)
    return Slices(array, aspect=_aspect(image, {}), turn=_TURNS.get(_orientation(image, {}), NO_TURN))


def check_png(path: Path) -> None:
    """Verify the checksums, since Pillow does not look at those of pixels when it reads them."""
    with path.open("rb") as f, Image.open(f, formats=["PNG"]) as image:
        image.verify()
        # It stops at the name of the last chunk, which is the same in every PNG.
        f.seek(-8, os.SEEK_CUR)
        if f.read(len(_PNG_END)) != _PNG_END:
            raise Refused("is cut off or damaged at its end")


def check_jpeg(path: Path) -> None:
    """Refuse scans without end."""
    scans, last = 0, b""
    with path.open("rb") as f:
        while piece := f.read(1 << 20):
            # Wherever these bytes are, they start a scan: compressed data have a zero after each 255.
            scans += (last + piece).count(b"\xff\xda")
            last = piece[-1:]
    if scans > MAX_JPEG_SCANS:
        raise Refused(f"has {scans} scans; expected at most {MAX_JPEG_SCANS}")


def _read(path: Path, image: ImageFile.ImageFile, reading: Reading) -> Slices:
    check_sides(image.size[::-1])
    warnings = _choose_page(image)
    # Of WebP they are known when they are read.
    if not image.tile and image.format != "WEBP":
        raise Refused("holds no pixels")
    # Loading removes the orientation from the tags, so they are read first.
    tags: Any = dict(image.tag_v2) if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    aspect = _aspect(image, tags)
    grey = image.mode in _GREY or image.mode.startswith("I;16")
    array = _grey_pixels(image, tags) if grey else _colour_pixels(path, image, tags)
    # Of a PNG, which may have it behind the pixels, only then.
    orientation = _orientation(image, tags)
    # For TIFF alone, Pillow turns the picture as its orientation says.
    array = _TURNS.get(orientation, NO_TURN).undo(array) if tags else array
    return _upright(array, orientation, aspect, reading, warnings)


def _upright(
    array: np.ndarray, orientation: int, aspect: float | None, reading: Reading, warnings: list[str]
) -> Slices:
    turn = _TURNS.get(orientation, NO_TURN)
    if not reading.upright or turn is NO_TURN:
        return Slices(array, aspect=aspect, warnings=warnings)
    turned = f"has orientation {orientation}: predicted as viewers show it; the mask fits the pixels as stored"
    return Slices(array, aspect=aspect, turn=turn, warnings=[*warnings, turned])


def _choose_page(image: ImageFile.ImageFile) -> list[str]:
    """Go to the one slice of a picture, the first page, or refuse it; and warn about others that are left out."""
    # Counting them would go through them all.
    if not getattr(image, "is_animated", False):
        return []
    if image.format in ("GIF", "WEBP", "MPO"):  # the last is what many a telephone writes as .jpg
        return ["has several frames, of which the first was predicted"]
    size = image.size
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image.seek(1)
        flagged = bool(_first(image.tag_v2, Tag.NewSubfileType, 0) & _REDUCED)
        small = all(2 * side <= whole for side, whole in zip(image.size, size, strict=True))
        if (flagged or small) and not _has_page(image, 2):
            image.seek(0)
            return [] if flagged else ["has a second page of half its sides or less, taken for a thumbnail"]
    raise Refused("holds several pages; expected one slice a file")


def _has_page(image: ImageFile.ImageFile, page: int) -> bool:
    try:
        image.seek(page)
    except EOFError:
        return False
    return True


def _orientation(image: Image.Image, tags: Any) -> int:
    if tags:
        return _first(tags, Tag.Orientation, 1)
    try:
        return int(image.getexif().get(Tag.Orientation, 1))
    except Exception:
        # What viewers cannot read they leave out, and damaged EXIF makes Pillow raise nearly anything.
        return 1


def _aspect(image: Any, tags: Any) -> float | None:
    """Return the height of a pixel over its width, by the pixels to an inch or centimetre along x and y."""
    # Those to no unit are left out, of all but TIFF: programs differ in which of the two is along x.
    x, y = (tags.get(Tag.XResolution), tags.get(Tag.YResolution)) if tags else image.info.get("dpi", (None, None))
    try:
        density = spacing_of(float(x), float(y))
    except (TypeError, ValueError, ArithmeticError):
        return None
    return density and density[0] / density[1]


def _grey_pixels(image: ImageFile.ImageFile, tags: Any) -> np.ndarray:
    if image.tile[0].codec_name == "libtiff":
        # libtiff hands out numbers in the machine's byte order, where Pillow takes these to be in the file's.
        for file_order, machine_order in (("I;16BS", "I;16NS"), ("I;32BS", "I;32NS"), ("F;32BF", "F;32NF")):
            if _raw_mode(image) == file_order:
                _set_raw_mode(image, machine_order)
    step = _step(image)
    array = np.asarray(image.convert("L") if image.mode == "1" else image)
    if not tags:
        return _without_transparent(image, array, step)
    signed = _first(tags, TiffImagePlugin.SAMPLEFORMAT, 1) == 2
    # Pillow has no signed 8-bit, signed 16-bit and unsigned 32-bit mode, and inverts white-is-zero up to 8 bits only.
    if image.mode == "L" and signed:
        return array.view(np.int8)
    if image.mode == "I" and _first(tags, Tag.BitsPerSample, 1) == 16:
        return array.astype(np.int16)
    if image.mode == "I" and not signed:
        return array.view(np.uint32)
    if image.mode.startswith("I;16") and tags.get(Tag.PhotometricInterpretation) == 0:
        return 65535 - array
    return array


def _step(image: Image.Image) -> int:
    """Tell the step from one value of grey to the next, before a picture of few bits is loaded."""
    return {"L;2": 85, "L;4": 17}.get(_raw_mode(image), 1) if getattr(image, "tile", None) else 1


def _without_transparent(image: Image.Image, array: np.ndarray, step: int) -> np.ndarray:
    """Mask the value of grey that a PNG says is transparent."""
    transparent = image.info.get("transparency")
    if not isinstance(transparent, int):
        return array
    # Pillow gives it as the file has it; of one bit some of its versions give 255 for 1.
    value = 255 * (transparent > 0) if image.mode == "1" else transparent * step
    return np.ma.MaskedArray(array, array == value)


def _colours(image: Image.Image) -> tuple[np.ndarray, float | None]:
    """Return the pixels of a picture that is not grey, with the value of full opacity if there is a fourth channel."""
    keyed = "transparency" in image.info
    if image.mode in ("RGBA", "RGBX") or (image.mode == "RGB" and not keyed):
        colours = np.asarray(image)
    else:
        opacity = keyed or image.mode in ("P", "PA", "LA", "La", "RGBa")
        colours = np.asarray(image.convert("RGBA" if opacity else "RGB"))
    return colours, 255.0 if colours.shape[2] == 4 and image.mode != "RGBX" else None


def _colour_pixels(path: Path, image: ImageFile.ImageFile, tags: Any) -> np.ndarray:
    mode = _raw_mode(image)
    if _COLOUR_16.fullmatch(mode) and tags.get(Tag.PlanarConfiguration, 1) == 1:
        return _colour_16(path, image, mode)
    if _first(tags, Tag.BitsPerSample, 8) > 8:
        raise Refused("has over 8 bits a colour in an unusual layout; save it as grey, or as .npy")
    premultiplied = mode.startswith("RGBa")
    if premultiplied:
        # Else Pillow would divide by the opacity.
        _set_raw_mode(image, mode.replace("RGBa", "RGBA"))
    colours, opaque = _colours(image)
    return to_grey(len(colours), lambda rows: colours[rows], opaque, premultiplied=premultiplied)


def _colour_16(path: Path, image: ImageFile.ImageFile, raw_mode: str) -> np.ndarray:
    # Of 16-bit colours Pillow keeps the upper byte. Told the other byte order, it keeps the lower one.
    kind, order = raw_mode.split(";16")
    if kind == "LA":
        _set_raw_mode(image, "RGBA")
        four = np.asarray(image)
        grey, opacity = (four[..., i].astype(np.uint16) << 8 | four[..., i + 1] for i in (0, 2))
        return to_grey(len(four), lambda rows: np.stack([grey[rows]] * 3 + [opacity[rows]], axis=-1), 65535.0)
    premultiplied, kind = kind == "RGBa", kind.upper()
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    with path.open("rb") as f, Image.open(f, formats=FORMATS) as again:
        _set_raw_mode(image, f"{kind};16{order}")
        _set_raw_mode(again, f"{kind};16{'B' if order == 'L' else 'L'}")
        upper, lower = np.asarray(image), np.asarray(again)
    key, opaque = image.info.get("transparency"), 65535.0 if kind == "RGBA" else None

    def band(rows: slice) -> np.ndarray:
        return upper[rows].astype(np.uint16) << 8 | lower[rows]

    if key is None:
        return to_grey(len(upper), band, opaque, premultiplied=premultiplied)
    transparent = np.concatenate([(band(slice(i, i + 1)) == np.array(key)).all(axis=-1) for i in range(len(upper))])
    return np.ma.MaskedArray(to_grey(len(upper), band), transparent)


def _raw_mode(image: Any) -> str:
    args = image.tile[0].args if image.tile else ""
    return str(args[0] if isinstance(args, tuple) else args)


def _set_raw_mode(image: ImageFile.ImageFile, mode: str) -> None:
    image.tile = [t._replace(args=(mode, *t.args[1:]) if isinstance(t.args, tuple) else mode) for t in image.tile]


def _first(tags: Any, tag: int, default: int) -> int:
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) else value
