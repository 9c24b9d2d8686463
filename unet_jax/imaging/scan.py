"""An image file as slices, the limits that every reader keeps to, and the errors of what is no such file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from unet_jax.config import UserError

MIN_SIDE, MAX_SIDE = 16, 8192
"""Smallest and largest side of a slice, in pixels; a larger one is refused before it is decoded."""

MAX_ASPECT = 100.0
"""Largest ratio of a pixel's sides that is believed."""

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
    """Turn slices upright for the network, where the file tells how they lie."""
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


@dataclass(frozen=True)
class Turn:
    """Way from a slice as stored to the slice as looked at."""

    transposed: bool = False
    """Rows and columns are exchanged, before the steps."""
    steps: tuple[int, int] = (1, 1)
    """1 or -1 along the rows and along the columns of the slice as looked at."""

    def apply(self, image: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h2 w2"]:
        """Turn a slice as stored to how it is looked at."""
        return (image.T if self.transposed else image)[:: self.steps[0], :: self.steps[1]]

    def undo(self, image: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h2 w2"]:
        """Turn what belongs to a slice as looked at to how it is stored."""
        image = image[:: self.steps[0], :: self.steps[1]]
        return image.T if self.transposed else image


NO_TURN = Turn()


class Slices:
    """An image file as slices, and the way back to files of its pixels.

    By itself a picture, which is a volume of one slice; a class of volumes redefines the methods but `aspect`.

    Attributes:
        pixels: all pixels as stored, native and contiguous. May be set to None once all slices are read: the rest of
            the methods works without them.
        spacing: of a slice as stored; None where the file does not tell. Of all formats but DICOM none does reliably.
        stored_aspect: height of a pixel as stored over its width; by default that of `spacing`.
        turn: way from the slices as stored to those of `read`.
        warnings: for a person, about what was made of the file.
    """

    def __init__(
        self,
        image: Shaped[np.ndarray, "h w"],
        spacing: Spacing | None = None,
        *,
        aspect: float | None = None,
        turn: Turn = NO_TURN,
        warnings: Sequence[str] = (),
    ):
        """Check a picture, which may have any real type, byte order and memory order.

        Args:
            image: of a masked array, what is masked is background and no tissue.
            spacing, aspect, turn, warnings: as the attributes.
        """
        check_sides(image.shape)
        check_values(np.ma.getdata(image))
        self.pixels: np.ndarray | None = contiguous(image)
        self.spacing, self.turn, self.warnings = spacing, turn, list(warnings)
        self.set_aspect(aspect)
        tissue = compressed(self.pixels)
        if not tissue.size:
            self.warnings.append("has nothing but background")
        elif tissue.min() == tissue.max():
            self.warnings.append(same_everywhere(float(tissue.min())))

    def set_aspect(self, aspect: float | None) -> None:
        """Set `stored_aspect`, by default that of `spacing`; one that no scanner has is not believed."""
        y, x = self.spacing or (1.0, 1.0)
        value = y / x if aspect is None else aspect
        if not 1 / MAX_ASPECT <= value <= MAX_ASPECT:
            self.warnings.append(f"says that its pixels are {value:g} times as high as wide; taken for square")
            value = 1.0
        self.stored_aspect = value

    @property
    def aspect(self) -> float:
        """Height of a pixel of `read` over its width."""
        return 1 / self.stored_aspect if self.turn.transposed else self.stored_aspect

    def __len__(self) -> int:
        return 1

    def frame(self, index: int) -> "Slices":
        """Return the slices whose attributes are those of slice `index`: themselves, but of `Frames`."""
        return self

    def read(self, index: int) -> Shaped[np.ndarray, "h w"]:
        """Return a slice for the network: real values, finite and of magnitude below MAX_VALUE.

        Returns:
            A masked array where some of it is background and no tissue; what is behind the mask may be anything.
        """
        assert self.pixels is not None, "given up"
        return contiguous(self.turn.apply(self.pixels))

    def back(self, image: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h2 w2"]:
        """Turn what belongs to the pixels of `read` as the file stores them."""
        return self.turn.undo(image)

    def write(self, kind: Kind, path: Path, planes: list[Any]) -> None:
        """Write values of all pixels.

        Args:
            path: an existing file is replaced once the new one is whole.
            planes: values of each slice as `back` turns them; the list is emptied.
        """
        from unet_jax.imaging import write

        writers = {"mask": write.write_mask, "probs": write.write_probs, "uncertainty": write.write_spread}
        writers[kind](path, planes.pop())


class Frames(Slices):
    """Pictures in one file, each with a geometry, and later a mask file, of its own.

    Its attributes are those of the first; `frame(i)` has those of picture i, and its methods.
    """

    def __init__(self, frames: Sequence[Slices]):
        self._frames, first = list(frames), frames[0]
        self.pixels, self.spacing, self.turn, self.warnings = None, first.spacing, first.turn, first.warnings
        self.stored_aspect = first.stored_aspect

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> Slices:
        """Return one of the pictures."""
        return self._frames[index]

    def read(self, index: int) -> Shaped[np.ndarray, "h w"]:
        """Return a picture for the network."""
        return self._frames[index].read(0)


def same_everywhere(value: float) -> str:
    """Warn about pixels that have one value."""
    return f"has the same value everywhere ({value:g})"


def contiguous(image: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*shape"]:
    """Make an array, which may be masked, native and contiguous; itself where it is so."""
    plain = np.ascontiguousarray(np.ma.getdata(image), image.dtype.newbyteorder("="))
    if not np.ma.is_masked(image):
        return plain
    return np.ma.MaskedArray(plain, np.ascontiguousarray(np.ma.getmaskarray(image)))


def compressed(image: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*other"]:
    """Return the values of an array that are not masked, in one row if any are."""
    return image.compressed() if isinstance(image, np.ma.MaskedArray) else image


def has_fit_sides(shape: tuple[int, ...]) -> bool:
    """Tell whether the sides of a picture, height and width, are MIN_SIDE to MAX_SIDE."""
    return all(MIN_SIDE <= side <= MAX_SIDE for side in shape[:2])


def check_sides(shape: tuple[int, ...]) -> None:
    """Refuse a picture unless its sides, height and width, are MIN_SIDE to MAX_SIDE."""
    if not has_fit_sides(shape):
        raise Refused(f"is {shape[0]}x{shape[1]} pixels; expected sides of {MIN_SIDE} to {MAX_SIDE}")


def check_values(values: Shaped[np.ndarray, "*shape"]) -> None:
    """Refuse values, of any number, that are not finite or not of magnitude below MAX_VALUE."""
    if values.dtype.kind == "f" and values.size and not float(np.abs(values).max()) < MAX_VALUE:
        raise Refused(BAD_VALUES)


def one_line(error: object) -> str:
    """Show an error in one line of characters that can be seen; by the name of its type if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def spacing_of(y: float, x: float) -> Spacing | None:
    """Return (y, x) if both are finite and above 0, else None."""
    return (y, x) if all(math.isfinite(v) and v > 0 for v in (y, x)) else None
