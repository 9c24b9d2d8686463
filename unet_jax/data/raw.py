"""The raw dataset: the files of a folder that are its slices, and the folds that come with them."""

from pathlib import Path

from unet_jax.config import UserError
from unet_jax.imaging.formats.mat import read_folds, slice_number

ARCHIVES = "brainTumorDataPublic*"
"""Names of the folders that the dataset's four archives unpack to."""


def find_slices(raw: Path) -> list[Path]:
    """List the files `<int>.mat` of RAW, of RAW/data, and of the folders in them that the dataset's archives unpack to.

    Returns:
        Paths in the order of their numbers.

    Raises:
        UserError: no such folder, no slice in it, or two files of one number (1.mat and 01.mat, or in two folders).
    """
    if not raw.is_dir():
        raise UserError(f"{raw} is not a folder; expected one with slices 1.mat, 2.mat, ... in it or in its data/.")
    places = (raw / "data", raw)
    if slices := _numbered([*places, *(folder for place in places for folder in _unpacked(place))]):
        return [slices[number] for number in sorted(slices)]
    raise UserError(
        f"{raw} holds no slice named <number>.mat, nor does its data/. Give the folder that the dataset was unpacked "
        "into (`python -m unet_jax.download` or `python -m unet_jax.phantom` makes one)."
    )


def _unpacked(place: Path) -> list[Path]:
    """List the folders of the dataset's archives; some programs unpack to a folder of that name in another one."""
    folders = sorted(place.glob(ARCHIVES))
    return [*folders, *(folder / folder.name for folder in folders)]


def _numbered(folders: list[Path]) -> dict[int, Path]:
    slices: dict[int, Path] = {}
    for path in (path for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())):
        number = slice_number(path)
        if number is None:
            continue
        if number in slices:
            other = slices[number]
            shown = path.name if path.parent == other.parent else path
            raise UserError(f"{other} and {shown} are the same slice {number}; remove one of them.")
        slices[number] = path
    return slices


def find_folds(raw: Path) -> Path | None:
    """Find `cvind.mat` in a folder of slices of RAW, in the one above, or further up to RAW; else None."""
    top, folders = raw.absolute(), dict.fromkeys(path.parent.absolute() for path in find_slices(raw))
    for folder in folders:
        above = [place for place in folder.parents if place == folder.parent or place.is_relative_to(top)]
        for place in (folder, *above):
            if (path := place / "cvind.mat").is_file():
                return path
    return None


def folds_by_slice(raw: Path) -> dict[int, int]:
    """Read the dataset's own folds.

    Returns:
        Number of a slice to its fold, 1 to 5, or 0 for none; empty without a `cvind.mat`.

    Raises:
        SliceError: `cvind.mat` cannot be used.
    """
    path = find_folds(raw)
    return {} if path is None else dict(enumerate(read_folds(path).tolist(), 1))
