"""An image file as slices, the limits that every reader keeps to, and the errors of what is no such file."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from unet_jax.config import UserError

MIN_SIDE, MAX_SIDE = 16, 8192
"""Smallest and largest side of a slice, in pixels; a larger one is refused before it is decoded."""

MAX_VALUE = 1e30
"""Largest magnitude, not included: sums of larger ones would leave the range of 32-bit floating point."""

BAD_VALUES = f"has values that are not a number, infinite or beyond {MAX_VALUE:g}"

Spacing = tuple[float, float]
"""Millimetres from one row to the next, and from one column to the next."""

Kind = Literal["mask", "probs", "uncertainty"]
"""Values of an image's pixels that go to a file of their own: 0 and 1, probabilities, and their standard deviation."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options of reading files."""

    axis: int | None = None
    """Axis that volumes are sliced along; None for the one with the fewest slices."""
    upright: bool = False
    """Turn the slices of volumes upright, by their affine."""
    spacing: float | None = None
    """Millimetres between pixels, where the file does not tell."""


AS_STORED = Reading()


class ImageError(UserError):
    """An image file that cannot be used; `path` and `reason` say which and why."""

    def __init__(self, path: Path, reason: str):
        super().__init__(path, reason)
        self.path, self.reason = path, reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Refused(Exception):
    """Reason why a file is no image that can be used; `read.open` adds the file and makes it an ImageError."""


class Slices:
    """An image file as slices, and the way back to files of its pixels.

    By itself a picture, which is a volume of one slice; a class of volumes redefines all methods.

    Attributes:
        pixels: all pixels as stored, native and contiguous. May be set to None once all slices are read: the rest of
            the methods works without them.
        spacing: of a slice as stored; None where the file does not tell. Of all formats but DICOM none does reliably.
    """

    def __init__(self, image: Shaped[np.ndarray, "h w"], spacing: Spacing | None = None):
        """Check a picture, which may have any real type, byte order and memory order."""
        check_sides(image.shape)
        if image.dtype.kind == "f" and not float(np.abs(image).max()) < MAX_VALUE:
            raise Refused(BAD_VALUES)
        self.pixels: np.ndarray | None = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
        self.spacing = spacing

    def __len__(self) -> int:
        return 1

    def read(self, index: int) -> Shaped[np.ndarray, "h w"]:
        """Return a slice for the network: real, finite values of magnitude below MAX_VALUE."""
        assert self.pixels is not None, "given up"
        return self.pixels

    def back(self, image: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h2 w2"]:
        """Turn what belongs to the pixels of `read` as the file stores them."""
        return image

    def write(self, kind: Kind, path: Path, planes: list[Any]) -> None:
        """Write values of all pixels.

        Args:
            path: an existing file is replaced once the new one is whole.
            planes: values of each slice as `back` turns them; the list is emptied.
        """
        from unet_jax.imaging import write

        writers = {"mask": write.write_mask, "probs": write.write_probs, "uncertainty": write.write_spread}
        writers[kind](path, planes.pop())


def check_sides(shape: tuple[int, ...]) -> None:
    """Refuse a picture unless its sides, height and width, are MIN_SIDE to MAX_SIDE."""
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in shape[:2]):
        raise Refused(f"is {shape[0]}x{shape[1]} pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}")


def one_line(error: object) -> str:
    """Show an error in one line; by the name of its type if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def spacing_of(y: float, x: float) -> Spacing | None:
    """Return (y, x) if both are finite and above 0, else None."""
    return (y, x) if all(math.isfinite(v) and v > 0 for v in (y, x)) else None
