"""Spacing and orientation that a DICOM object tells, in whatever representation."""

import re
from typing import Any

import numpy as np

from unet_jax.imaging.formats.medical import upright
from unet_jax.imaging.scan import NO_TURN, Refused, Spacing, Turn, one_line, spacing_of

_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
_WAYS = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
"""Directions towards left, posterior and head of the letters of PatientOrientation."""


def spacing(dataset: Any) -> tuple[Spacing | None, list[str]]:
    """Read the spacing from the first element that tells it, and name each before it that is there and does not."""
    warnings = []
    for name in _SPACINGS:
        if found := _pair(dataset, name):
            return found, warnings
        if text := _text(dataset, name):
            warnings.append(f"has a {name} of {text[:40]}, which is no two lengths, and was not used")
    return None, warnings


def number(dataset: Any, name: str, default: float) -> float:
    """Read an element of one number; the default where it is not there, or empty.

    Raises:
        Refused: it is no number.
    """
    if not (text := _text(dataset, name)):
        return default
    if (values := _numbers(dataset, name, 1)) is None:
        raise Refused(f"has a {name} of {text[:40]}; expected a number")
    return values[0]


def ratio(dataset: Any) -> float | None:
    """Read the height of a pixel over its width where the object tells no spacing."""
    sides = _pair(dataset, "PixelAspectRatio")
    return sides and sides[0] / sides[1]


def turn(dataset: Any) -> Turn:
    """Find how to look at the slice upright; no turn where the file does not tell."""
    cosines = _numbers(dataset, "ImageOrientationPatient", 6)
    if cosines and all(abs(cosine) < 2 for cosine in cosines):  # which is false of NaN
        across, down = cosines[:3], cosines[3:]
    else:
        # Letters for left, posterior and head, and their opposites; more of them say how a slice is tilted.
        try:
            across, down = (_WAYS[str(way)[0].upper()] for way in dataset.get("PatientOrientation"))
        except (TypeError, ValueError, LookupError):
            return NO_TURN
    directions = np.array([down, across, np.cross(down, across)], np.float64).T
    # DICOM counts towards left and posterior.
    return upright(directions * [[-1], [-1], [1]]) or NO_TURN


def _pair(dataset: Any, name: str) -> Spacing | None:
    values = _numbers(dataset, name, 2)
    return spacing_of(*values) if values else None


def _numbers(dataset: Any, name: str, count: int) -> list[float] | None:
    # Also of a representation that is none of numbers, or unknown (UN); with decimal commas, as Europeans write them.
    text = _text(dataset, name)
    values = text.split("\\") if "\\" in text or count == 1 else re.split(r",\s*", text)
    try:
        numbers = [float(value.replace(",", ".")) for value in values]
    except ValueError:
        return None
    return numbers if len(numbers) == count else None


def _text(dataset: Any, name: str) -> str:
    """Return an element's values in one line, a backslash between two; empty where there are none."""
    try:
        value = dataset.get(name)
    except ValueError:
        # What it should be by its representation it is not.
        value = dataset.get_item(name).value
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if value is None:
        return ""
    text = value if isinstance(value, str) else "\\".join(map(str, np.atleast_1d(value)))
    return one_line(text.strip("\0 ")) if text.strip("\0 ") else ""
