"""The raw dataset: the files of a folder that are its slices, and the folds that come with them."""

from pathlib import Path

from unet_jax.config import UserError
from unet_jax.imaging.formats.mat import read_folds, slice_number


def find_slices(raw: Path) -> list[Path]:
    """List the files `<int>.mat` of RAW/data, or of RAW where RAW/data has none, in numeric order.

    Raises:
        UserError: no such folder, no slice in it, or two names of one number (1.mat and 01.mat).
    """
    if not raw.is_dir():
        raise UserError(f"{raw} is not a folder; expected one with slices 1.mat, 2.mat, ... in it or in its data/.")
    for folder in (raw / "data", raw):
        if slices := _numbered(folder):
            return [slices[number] for number in sorted(slices)]
    raise UserError(
        f"{raw} holds no slice named <number>.mat, nor does its data/. Give the folder that the dataset was unpacked "
        "into (`python -m unet_jax.download` or `python -m unet_jax.phantom` makes one)."
    )


def _numbered(folder: Path) -> dict[int, Path]:
    slices: dict[int, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        number = slice_number(path)
        if number is None:
            continue
        if number in slices:
            raise UserError(f"{slices[number]} and {path.name} are the same slice {number}; remove one of them.")
        slices[number] = path
    return slices


def find_folds(raw: Path) -> Path | None:
    """Find `cvind.mat` in the folder of the slices of RAW or in the one above; None if there is none."""
    folder = find_slices(raw)[0].parent.absolute()
    return next((p for p in (folder / "cvind.mat", folder.parent / "cvind.mat") if p.is_file()), None)


def folds_by_slice(raw: Path) -> dict[int, int]:
    """Read the dataset's own folds.

    Returns:
        Number of a slice to its fold, 1 to 5, or 0 for none; empty without a `cvind.mat`.

    Raises:
        SliceError: `cvind.mat` cannot be used.
    """
    path = find_folds(raw)
    return {} if path is None else dict(enumerate(read_folds(path).tolist(), 1))
