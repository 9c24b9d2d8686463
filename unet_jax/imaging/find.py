"""Image files of a folder, known by their names and beginnings."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from unet_jax.config import UserError

DICOM_SUFFIXES = (".dcm", ".dicom")

VOLUME_SUFFIXES = (".nii", ".nii.gz")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".npy", ".mat", *DICOM_SUFFIXES, *VOLUME_SUFFIXES)
"""Suffixes, in lower case, of the files that are read. DICOM files often have none and are known by their content."""


def suffix_of(path: Path) -> str:
    """The one of IMAGE_SUFFIXES that a file's name ends in; empty where there is none."""
    name = path.name.lower()
    return next((suffix for suffix in IMAGE_SUFFIXES if name.endswith(suffix) and name != suffix), "")


def stem_of(path: Path) -> str:
    """A file's name without its suffix; whole where it has none of IMAGE_SUFFIXES, such as DICOM's 1.2.840.1."""
    return path.name.removesuffix(path.name[len(path.name) - len(suffix_of(path)) :])


def is_volume(path: Path) -> bool:
    """Whether `nifti.open_volume` reads it, and not `read_scan`."""
    return suffix_of(path) in VOLUME_SUFFIXES


def is_dicom(path: Path) -> bool:
    """Whether an image file, as `find_images` lists it, is DICOM."""
    return suffix_of(path) in ("", *DICOM_SUFFIXES)


def find_images(source: Path) -> list[Path]:
    """The image files of a folder and its subfolders, or the one file given.

    A file without a suffix, or with a number for one, counts if its content is DICOM. Hidden files and folders are left
    out, and so are the dataset's cvind.mat and a DICOMDIR, which are no slices. Links to folders are followed unless
    they lead back to a folder that they are in.

    Args:
        source: a folder, or a file with one of IMAGE_SUFFIXES, or a DICOM file.

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
    if not (suffix_of(source) or is_bare_dicom(source)):
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
            elif entry.name.lower() not in ("cvind.mat", "dicomdir"):
                path = Path(entry.path)
                if suffix_of(path) or is_bare_dicom(path):
                    yield relative / entry.name


def is_bare_dicom(path: Path) -> bool:
    if path.suffix and not path.suffix[1:].isdecimal():
        return False
    try:
        # A pipe would be waited for.
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as f:
            return f.read(132)[128:] == b"DICM"
    except OSError:
        return False
