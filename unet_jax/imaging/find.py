"""Image files of a folder, known by their names and beginnings."""

import os
from collections.abc import Iterator
from pathlib import Path

from unet_jax.config import UserError
from unet_jax.imaging.read import has_mark, suffix_of, suffixes


def find_images(source: Path) -> list[Path]:
    """List the image files of a folder and its subfolders, or the one file given (known by `suffixes`, or DICOM).

    A file without a suffix, or with a number for one, counts if its content is DICOM. Hidden files and folders are left
    out, and so are the dataset's cvind.mat and a DICOMDIR, which are no slices. Links to folders are followed unless
    they lead back to a folder that they are in.

    Returns:
        Paths relative to `source`, or to the folder of the file, sorted by folder and name.

    Raises:
        UserError: no such file, an unknown suffix, or a folder without images.
    """
    known = ", ".join(suffixes())
    if source.is_dir():
        found = sorted(_walk(source, Path(), (source.resolve(),)), key=lambda p: p.parts)
        if not found:
            raise UserError(f"{source} holds no image; expected files that end in {known}.")
        return found
    if not source.exists():
        raise UserError(f"{source} does not exist; expected an image file or a folder of them.")
    if not (suffix_of(source) or has_mark(source)):
        raise UserError(f"{source} has an unknown suffix; expected a file that ends in {known}.")
    return [Path(source.name)]


def _walk(folder: Path, relative: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_dir():
                real = path.resolve()
                if real not in above:
                    yield from _walk(path, relative / entry.name, (*above, real))
            elif entry.name.lower() not in ("cvind.mat", "dicomdir") and (suffix_of(path) or has_mark(path)):
                yield relative / entry.name
