"""Image files of a folder, known by their names and beginnings."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from unet_jax.config import UserError
from unet_jax.imaging.content import beginning, is_picture
from unet_jax.imaging.read import format_of, holds_picture, known_by_content, suffix_of, suffixes

NO_PICTURE = "DICOM without a picture"
NO_SUFFIX = "without a suffix"

NO_SLICES = ("cvind.mat", "dicomdir")
"""Files of datasets, in lower case, that are known to be no slices."""


class Found(NamedTuple):
    """Files of a folder."""

    images: list[Path]
    """Relative to the folder, sorted by folder and name."""
    left_out: Counter[str]
    """Number of the other files by their suffix in lower case, NO_SUFFIX or NO_PICTURE."""


def find_files(source: Path) -> Found:
    """Tell the image files of a folder and its subfolders from the others; or take the one file given.

    Images are known by `suffixes`; DICOM by its content, whatever its name, but for objects that are no picture.
    Hidden files and folders are no part of it, nor are NO_SLICES. Links to folders are followed unless they lead back
    to a folder that they are in.

    Raises:
        UserError: no such file, one of no known kind, or a folder without images.
    """
    known = f"{', '.join(suffixes())}, or DICOM of any name"
    if source.is_dir():
        images, left_out = [], Counter()
        for path, reason in _walk(source, Path(), (source.resolve(),)):
            if reason is None:
                images.append(path)
            else:
                left_out[reason] += 1
        if not images:
            others = f", but {listed(left_out)}" if left_out else ""
            raise UserError(f"{source} holds no image{others}; expected files that end in {known}.")
        return Found(sorted(images, key=lambda p: p.parts), left_out)
    if not source.exists():
        raise UserError(f"{source} does not exist; expected an image file or a folder of them.")
    if (reason := _left_out(source)) and reason != NO_PICTURE:
        raise UserError(f"{source} has an unknown suffix; expected a file that ends in {known}.")
    return Found([Path(source.name)], Counter())


def find_images(source: Path) -> list[Path]:
    """List the images of `find_files`."""
    return find_files(source).images


def listed(left_out: Counter[str]) -> str:
    """List what was left out, the most first: "3 files (2 .txt, 1 without a suffix)"."""
    kinds = sorted(left_out.items(), key=lambda kind: (-kind[1], kind[0]))
    n = left_out.total()
    return f"{n} file{'s' * (n > 1)} ({', '.join(f'{count} {suffix}' for suffix, count in kinds)})"


def _walk(folder: Path, relative: Path, above: tuple[Path, ...]) -> Iterator[tuple[Path, str | None]]:
    """Yield every file, and why it is left out if it is."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_dir():
                real = path.resolve()
                if real not in above:
                    yield from _walk(path, relative / entry.name, (*above, real))
            elif entry.name.lower() not in NO_SLICES:
                yield relative / entry.name, _left_out(path)


def _left_out(path: Path) -> str | None:
    named = bool(suffix_of(path))
    if named and not format_of(path).known:
        return None
    start = beginning(path)
    if known_by_content(start):
        known = is_picture(start)
        return None if known or (known is None and holds_picture(path)) else NO_PICTURE
    return None if named else path.suffix.lower() or NO_SUFFIX
