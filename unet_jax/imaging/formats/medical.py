"""What readers of DICOM and NIfTI share. Their packages, the extra `medical`, are imported when such a file is read."""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from unet_jax.config import UserError
from unet_jax.imaging.find import is_dicom, is_volume
from unet_jax.imaging.scan import ImageError

INSTALL = "pip install 'unet-jax[medical]'"


def check_packages(images: Iterable[Path]) -> None:
    """Raise UserError if a file among these, as `find_images` lists them, takes a package that is not installed."""
    wanted: dict[str, Path] = {}
    for image in images:
        if is_dicom(image):
            wanted.setdefault("pydicom", image)
        elif is_volume(image):
            wanted.setdefault("nibabel", image)
    for name, image in wanted.items():
        if find_spec(name) is None:
            raise UserError(f"{image} {_takes(name)}")


def package(name: str, path: Path) -> Any:
    """Import what reads `path`; ImageError if it is not installed."""
    try:
        return import_module(name)
    except ImportError as e:
        raise ImageError(path, _takes(name)) from e


def _takes(name: str) -> str:
    return f"takes {name} to read, which is not installed: {INSTALL}"


def rescaled(stored: Shaped[np.ndarray, "*shape"], slope: float, intercept: float) -> Shaped[np.ndarray, "*shape"]:
    """slope * stored + intercept, in float32 or, where both and integers of over 8 bits make them so, whole numbers.

    8-bit values that are scaled are taken for measurements, which `to_network` does not round.
    """
    if slope == 1 and intercept == 0:
        return stored
    if stored.dtype.kind in "iu" and stored.dtype.itemsize > 1 and slope.is_integer() and intercept.is_integer():
        info = np.iinfo(stored.dtype)
        reach = max(-info.min, info.max) * abs(slope) + abs(intercept)
        if reach < 2**63:
            kind = np.int32 if reach < 2**31 else np.int64
            return stored.astype(kind) * kind(slope) + kind(intercept)
    with np.errstate(over="ignore"):
        return (stored.astype(np.float64) * slope + intercept).astype(np.float32)
