"""The list of bad files that a conversion writes: rejected.csv, with source and reason."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from unet_jax.config import UserError
from unet_jax.imaging.formats.mat import SliceError
from unet_jax.shared.files import write_csv

NAME = "rejected.csv"


def write_rejected(folder: Path, rejected: Sequence[SliceError]) -> None:
    """Write FOLDER/rejected.csv, making the folder if it is not there."""
    folder.mkdir(exist_ok=True)
    write_csv(folder / NAME, [{"source": e.path.name, "reason": e.reason} for e in rejected])


def remove_rejected(folder: Path) -> None:
    """Remove FOLDER/rejected.csv, and the folder with it where it holds nothing else."""
    (folder / NAME).unlink(missing_ok=True)
    with suppress(OSError):  # it holds something else, or is not there
        folder.rmdir()


def bad_files(rejected: Sequence[SliceError], total: int, folder: Path, good: int) -> UserError:
    """Make the error that names the first bad file and the list.

    Args:
        rejected: at least one.
        total: number of files looked at.
        folder: where the list is.
        good: number of files that could be taken.
    """
    first = f"the first is {rejected[0].path.name}: {rejected[0].reason}"
    remedy = "Mend or remove them, or leave them out with --skip-bad." if good else "There is nothing left to convert."
    return UserError(f"{len(rejected)} of {total} files are bad; {folder / NAME} lists them ({first}). {remedy}")
