"""The one table of image formats, and the reading of any file by it.

A format is a row of `FORMATS`, and a module of `unet_jax.imaging.formats`, which is imported when such a file is read.
Its function `open_slices(path, reading)` returns the `Slices` of a file, and may raise anything, `Refused` if it has a
reason to give; `open` names the file. The module of a format of volumes or frames also has
`count_slices(path, reading)`, which looks at the header alone.
"""

import contextlib
import logging
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from unet_jax.config import UserError
from unet_jax.imaging.content import beginning, is_dicom
from unet_jax.imaging.scan import AS_STORED, ImageError, Reading, Refused, Slices, one_line


@dataclass(frozen=True)
class Format:
    """A kind of image file."""

    module: str
    suffixes: tuple[str, ...]
    """Ends of the files' names, in lower case."""
    packages: tuple[str, ...] = ()
    """Those that the module needs besides the core's."""
    extra: str = "medical"
    """The extra that installs them."""
    volume: bool = False
    """Several slices a file, and one file for all of their masks."""
    frames: bool = False
    """Perhaps several pictures a file, and a file for the mask of each."""
    known: Callable[[bytes], bool] | None = None
    """Function that tells a file of this format by its beginning, whatever its name; one format alone has such."""


FORMATS = (
    Format("unet_jax.imaging.formats.picture", (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")),
    Format("unet_jax.imaging.formats.picture", (".webp", ".gif", ".pgm", ".jp2")),
    Format("unet_jax.imaging.formats.npy", (".npy", ".npz")),
    Format("unet_jax.imaging.formats.mat", (".mat",)),
    Format("unet_jax.imaging.formats.dicom", (".dcm", ".dicom"), packages=("pydicom",), frames=True, known=is_dicom),
    Format("unet_jax.imaging.formats.nifti", (".nii", ".nii.gz"), packages=("nibabel",), volume=True),
    Format("unet_jax.imaging.formats.mgh", (".mgz", ".mgh"), packages=("nibabel",), volume=True),
    Format(
        "unet_jax.imaging.formats.itk", (".nrrd", ".mha"), packages=("SimpleITK", "nibabel"), extra="itk", volume=True
    ),
)
"""The first takes what no other claims: pictures are recognised by their content."""


def suffixes() -> tuple[str, ...]:
    """List the suffixes, in lower case, of the files that are read; files of DICOM often have none."""
    return tuple(suffix for format in FORMATS for suffix in format.suffixes)


def suffix_of(path: Path) -> str:
    """Return the one of `suffixes` that a file's name ends in; empty where there is none."""
    name = path.name.lower()
    return next((suffix for suffix in suffixes() if name.endswith(suffix) and name != suffix), "")


def stem_of(path: Path) -> str:
    """Return a file's name without its suffix; whole where it has none of `suffixes`, such as DICOM's 1.2.840.1."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def format_of(path: Path) -> Format:
    """Return the format of a file that `find_images` lists, by its name; without a suffix the one known by content."""
    suffix = suffix_of(path)
    return next(format for format in FORMATS if (suffix in format.suffixes if suffix else format.known))


def known_by_content(start: bytes) -> Format | None:
    """Return the format that the beginning of a file tells, if it does."""
    return next((format for format in FORMATS if format.known and format.known(start)), None)


def holds_picture(path: Path) -> bool:
    """Tell by its header whether a file of a format that is known by content holds a picture; yes where it cannot."""
    format = known_by_content(beginning(path))
    if format is None or _lacking(format):
        return True
    try:
        with silent_readers():
            return import_module(format.module).holds_picture(path)
    except Exception:
        # As in `open`, which will tell.
        return True


def check_packages(images: Iterable[Path]) -> None:
    """Raise UserError if a file among these, as `find_images` lists them, takes a package that is not installed."""
    for format, image in {format_of(image): image for image in images}.items():
        if lacking := _lacking(format):
            raise UserError(f"{image} {lacking}")


def _lacking(format: Format) -> str | None:
    package = next((package for package in format.packages if find_spec(package) is None), None)
    return package and f"takes {package} to read, which is not installed: pip install 'unet-jax[{format.extra}]'"


def open(path: Path, reading: Reading = AS_STORED) -> Slices:
    """Open an image file of any format.

    Pixels come in the type of the file, as it stores them, or upright if that is wanted: as an affine,
    ImageOrientationPatient or an EXIF orientation tells. Colour becomes grey by the luma of ITU-R BT.601: the channel
    itself where the three are equal everywhere, else a floating-point picture. Pictures with opacity are laid over
    black; 1-bit and palette pictures become 8-bit.

    Raises:
        ImageError: whatever keeps the file from being an image with sides of MIN_SIDE to MAX_SIDE pixels.
    """
    format = _format_to_read(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Refused("not a regular file")
        if lacking := _lacking(format):
            raise Refused(lacking)
        slices: Slices = import_module(format.module).open_slices(path, reading)
    except ImageError:
        raise
    except Refused as e:
        raise ImageError(path, str(e)) from e
    except MemoryError as e:
        raise ImageError(path, "too large for this machine's memory") from e
    except Exception as e:
        # A damaged file makes the readers' libraries raise nearly anything: KeyError, struct.error, EOFError, ...
        by_system = e.strerror if isinstance(e, OSError) else None
        raise ImageError(path, by_system or f"cannot be decoded ({one_line(e)})") from e
    for one in (slices, *map(slices.frame, range(len(slices)))):
        if one.spacing is None and reading.spacing is not None:
            one.spacing = (reading.spacing, reading.spacing)
            one.set_aspect(None)
    return slices


def _format_to_read(path: Path) -> Format:
    by_name = format_of(path) if suffix_of(path) else FORMATS[0]
    # The files that are written for a volume are told by its name.
    return by_name if by_name.volume or by_name.known else known_by_content(beginning(path)) or by_name


def count_slices(path: Path, reading: Reading = AS_STORED) -> int:
    """Count the slices that `open` will find, by the header alone; 1 where the header cannot be used."""
    format = format_of(path)
    if not (format.volume or format.frames):
        return 1
    try:
        return import_module(format.module).count_slices(path, reading)
    except Exception:
        # As in `open`, which will tell.
        return 1


def read_image(path: Path) -> Shaped[np.ndarray, "h w"]:
    """Read the slice of a file of one, as it is stored; errors as `open_picture`."""
    return open_picture(path).read(0)


def open_picture(path: Path, reading: Reading = AS_STORED) -> Slices:
    """Open a file of one slice, as `open` says.

    Raises:
        ImageError: as `open`, or the file is of a format of volumes, or has several frames.
    """
    if suffix_of(path) and format_of(path).volume:
        raise ImageError(path, "is a volume; `unet_jax.predict` takes it, slice by slice")
    slices = open(path, reading)
    if len(slices) > 1:
        raise ImageError(path, f"holds {len(slices)} frames; `unet_jax.predict` takes it, frame by frame")
    return slices


@contextlib.contextmanager
def silent_readers() -> Iterator[None]:
    """Silence what the readers' libraries say about odd metadata of a file that can be read nevertheless.

    Not part of `open`, because Python's warning filters belong to the process: threads that each set and restore them
    would leave them in disorder. Enter it once, around all reading.
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
