"""Slices from image files, and how a person looks at one."""

import contextlib
import logging
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from unet_jax.imaging.find import DICOM_SUFFIXES, VOLUME_SUFFIXES, is_bare_dicom, suffix_of
from unet_jax.imaging.formats.npy import read_npy
from unet_jax.imaging.formats.picture import read_picture
from unet_jax.imaging.scan import BAD_VALUES, MAX_VALUE, ImageError, Scan, check_sides, one_line


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
        if suffix in DICOM_SUFFIXES or (not suffix and is_bare_dicom(path)):
            from unet_jax.imaging.formats.dicom import read_dicom

            image, spacing = read_dicom(path)
        else:
            image = {".npy": read_npy, ".mat": _read_mat}.get(suffix, read_picture)(path)
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
    from unet_jax.imaging.formats import mat as figshare

    try:
        return figshare.read_image(path)
    except figshare.SliceError as e:
        raise ImageError(path, e.reason) from e
