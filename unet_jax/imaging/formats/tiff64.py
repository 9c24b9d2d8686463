"""TIFF files of 64-bit numbers, such as scikit-image and MATLAB write, and Pillow does not read."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from PIL import TiffImagePlugin
from PIL.ExifTags import Base as Tag

from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.imaging.scan import Refused, check_sides

_BIG = 43
"""Version of TIFF whose header is twice as long."""
_TILE_WIDTH = 322
_KINDS = {1: "u8", 2: "i8", 3: "f8"}
"""Types by the TIFF's sample format."""


def read_64_bits(path: Path) -> tuple[Shaped[np.ndarray, "h w"], Any] | None:
    """Read a grey picture of 64-bit numbers and its tags; None of what is no TIFF of such."""
    with path.open("rb") as file:
        f: Any = Clamped(file)
        header = f.read(8)
        if header[:2] not in (b"II", b"MM"):
            return None
        if _BIG in header[2:4]:
            header += f.read(8)
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(header)
        f.seek(tags.next)
        tags.load(f)
        if set(tags.get(Tag.BitsPerSample, ())) != {64}:
            return None
        if tags.next:
            raise Refused("holds several pages; expected one slice a file")
        shape = tags[Tag.ImageLength], tags[Tag.ImageWidth]
        check_sides(shape)
        if tags.get(Tag.Compression, 1) != 1 or _TILE_WIDTH in tags or tags.get(Tag.SamplesPerPixel, 1) != 1:
            raise Refused("has 64-bit values in an unusual layout; save it as float32, or as .npy")
        counts = tags[Tag.StripByteCounts]
        expected = shape[0] * shape[1] * 8
        if sum(counts) != expected:
            raise Refused(f"holds {sum(counts)} bytes of pixels; its tags say {expected}")
        strips = []
        for offset, count in zip(tags[Tag.StripOffsets], counts, strict=True):
            f.seek(offset)
            strips.append(f.read(count))
    kind = _KINDS[tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))[0]]
    order = "<" if header[:2] == b"II" else ">"
    return np.frombuffer(b"".join(strips), order + kind).reshape(shape), tags
