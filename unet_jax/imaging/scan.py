"""One slice as its file has it, and the error that names a file."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Shaped

from unet_jax.config import UserError

MIN_SIDE, MAX_SIDE = 16, 8192
"""Smallest and largest side of a slice, in pixels; a larger one is refused before it is decoded."""

MAX_VALUE = 1e30
"""Larger magnitudes are refused: sums of them would leave the range of 32-bit floating point."""

BAD_VALUES = f"has values that are not a number, infinite or beyond {MAX_VALUE:g}"

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


def check_sides(path: Path, shape: tuple[int, ...]) -> None:
    h, w = shape[:2]
    if not (MIN_SIDE <= h <= MAX_SIDE and MIN_SIDE <= w <= MAX_SIDE):
        raise ImageError(path, f"is {h}x{w} pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}")


def one_line(error: object) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def spacing_of(y: float, x: float) -> Spacing | None:
    """Both, if both can be."""
    return (y, x) if all(math.isfinite(v) and v > 0 for v in (y, x)) else None
