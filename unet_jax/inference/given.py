"""Images as a program or a notebook gives them, one or several: paths, arrays, pictures of PIL."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from unet_jax.config import UserError
from unet_jax.imaging.formats.grey import opaque_value, to_grey
from unet_jax.imaging.read import open_picture
from unet_jax.imaging.resize import NativeSlice
from unet_jax.imaging.scan import (
    MAX_SIDE,
    MIN_SIDE,
    Reading,
    Refused,
    Slices,
    check_values,
    compressed,
    has_fit_sides,
    one_line,
)

CHANNELS = (1, 3, 4)
"""Lengths of a last axis that holds grey, colours, or colours and their opacity."""

_EXPECTED = (
    "(height, width) of real numbers, that with a last axis of 1, 3 or 4 channels, or slices (n, height, width), all "
    f"with sides of {MIN_SIDE} to {MAX_SIDE}"
)


class Given(NamedTuple):
    """Image that was given, as the network is to see it."""

    native: NativeSlice
    back: Callable[[Any], Any]
    """Way of what belongs to its pixels to the image's own grid."""


def is_one(images: Any) -> bool:
    """Tell one image from several: a path, a picture of PIL, or an array of two dimensions or with channels last."""
    shape = np.shape(images) if hasattr(images, "ndim") else ()
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in CHANNELS) or _is_path(images) or _is_pil(images)


def several(images: Any) -> list[Any]:
    """List images of which each is one.

    Raises:
        UserError: nothing that holds images; an array of another shape than slices, or pictures with channels.
    """
    if hasattr(images, "ndim"):
        array = _array(images)
        of_images = array.ndim == 3 or (array.ndim == 4 and array.shape[3] in CHANNELS)
        if not (of_images and has_fit_sides(array.shape[1:])):
            raise UserError(f"an array has shape {array.shape}; expected {_EXPECTED}.")
        return list(array)
    try:
        return list(images)
    except TypeError:
        raise UserError(f"images are of type {type(images).__name__}; expected an image, or a list of such.") from None


def as_slice(image: Any) -> Given:
    """Take one image: files and pictures of PIL upright, colours as grey, opacity laid over black.

    Raises:
        UserError: a file cannot be read, or an array is no image.
    """
    if _is_path(image):
        return _upright(_read(image))
    if _is_pil(image):
        return _upright(_take(image))
    array = _array(image)
    channels = array.ndim == 3 and array.shape[2] in CHANNELS
    if not (array.ndim == 2 or channels) or array.dtype.kind not in "biuf" or not has_fit_sides(array.shape):
        raise UserError(f"an image is {array.dtype} of shape {array.shape}; expected {_EXPECTED}.")
    array = _grey(array) if channels else array
    try:
        check_values(compressed(array))
    except Refused as e:
        raise UserError(f"an image {e}. Replace or mask them.") from e
    return Given(NativeSlice(array.astype(np.uint8) if array.dtype.kind == "b" else array), lambda plane: plane)


def _read(path: str | os.PathLike[Any]) -> Slices:
    try:
        return open_picture(Path(os.fsdecode(path)), Reading(upright=True))
    except ValueError as e:
        # A null byte, or letters that no file's name can have.
        raise UserError(f"{path!r} cannot be a path ({one_line(e)}).") from e


def _take(picture: Any) -> Slices:
    from unet_jax.imaging.formats.picture import take

    try:
        return take(picture)
    except Refused as e:
        raise UserError(f"a picture of PIL {e}.") from e
    except Exception as e:
        # Its pixels may be read only now: a damaged file makes Pillow raise nearly anything.
        raise UserError(f"a picture of PIL, of mode {picture.mode}, cannot be read ({one_line(e)}).") from e


def _upright(picture: Slices) -> Given:
    return Given(NativeSlice(picture.read(0), picture.aspect), lambda plane: np.ascontiguousarray(picture.back(plane)))


def _is_path(image: Any) -> bool:
    return isinstance(image, str | os.PathLike)


def _is_pil(image: Any) -> bool:
    from PIL import Image

    return isinstance(image, Image.Image)


def _array(image: Any) -> np.ndarray:
    if isinstance(image, np.ma.MaskedArray):
        return image
    try:
        return np.asarray(image)
    except Exception as e:
        # Rows of several lengths, or whatever a program's own class raises.
        kind = type(image).__name__
        raise UserError(f"an image is of type {kind}, of which NumPy makes no array ({one_line(e)}).") from e


def _grey(array: Shaped[np.ndarray, "h w channels"]) -> Shaped[np.ndarray, "h w"]:
    colours = np.ma.getdata(array)
    opaque = opaque_value(colours[..., 3]) if colours.shape[2] == 4 else None
    grey = colours[..., 0] if colours.shape[2] == 1 else to_grey(len(colours), lambda rows: colours[rows], opaque)
    masked = np.ma.getmaskarray(array).any(axis=-1)
    return np.ma.MaskedArray(grey, masked | np.ma.getmaskarray(grey)) if masked.any() else grey
