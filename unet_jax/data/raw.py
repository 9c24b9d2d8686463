"""The raw dataset: which files of a folder are its slices and folds."""

from pathlib import Path

from unet_jax.config import UserError
from unet_jax.imaging.formats.mat import slice_number


def find_slices(raw: Path) -> list[Path]:
    """The files `<int>.mat` of RAW/data, or of RAW where there are none in RAW/data, in numeric order.

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
    """`cvind.mat` in the folder of the slices of RAW or in the one above it; None if there is none."""
    folder = find_slices(raw)[0].parent.absolute()
    return next((p for p in (folder / "cvind.mat", folder.parent / "cvind.mat") if p.is_file()), None)
