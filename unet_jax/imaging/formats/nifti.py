"""Volumes from and to NIfTI files, by nibabel: of the extra `medical`, and imported when such a file is read."""

import gzip
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from unet_jax.imaging.find import suffix_of
from unet_jax.imaging.formats.medical import package, rescaled
from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.imaging.scan import BAD_VALUES, MAX_VALUE, ImageError, check_sides, one_line, spacing_of
from unet_jax.shared.files import replacing

MAX_BYTES = 2**31
"""Of a volume in memory."""
MAX_HEADER_BYTES = 2**24
"""Of what stands before the voxels, extensions included."""
MAX_REST_BYTES = 2**20
"""Of what stands after the voxels."""
MAX_DEFLATE_RATIO = 1032
"""No deflated stream grows more: two bits stand for 258 bytes at best."""

_START = 176
"""Bytes of a header that tell its version and, in both, where the voxels begin."""
_GZIP_LEVEL = 1
"""A volume of a mask takes a hundredth of itself even so; of probabilities no level saves much."""
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""By the unit's code: unknown, metre, millimetre, micrometre."""
_GEOMETRY = (
    *("pixdim", "xyzt_units", "sform_code", "srow_x", "srow_y", "srow_z", "qform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
"""Fields of a header that say where its voxels are."""


class Volume:
    """A NIfTI volume as slices along one axis.

    Attributes:
        shape: of a slice as stored: the two other axes of the volume in their order.
        spacing: of a slice as stored.
    """

    def __init__(self, path: Path, image: Any, stored: Shaped[np.ndarray, "_ _ _"], axis: int, upright: bool):
        self.path, self.axis = path, axis
        self._stored, self._image = stored, image
        self._slope, self._intercept = image.dataobj.slope, image.dataobj.inter
        rows, columns = (i for i in range(3) if i != axis)
        self.shape = stored.shape[rows], stored.shape[columns]
        scale = _MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 0.0)
        zooms = [*(float(z) * scale for z in image.header.get_zooms()), 0.0, 0.0][:3]
        self.spacing = spacing_of(zooms[rows], zooms[columns])
        self._transposed, self._flips = _turn(image.affine, rows, columns) if upright else (False, (1, 1))

    def __len__(self) -> int:
        return self._stored.shape[self.axis]

    def at(self, index: int) -> tuple[slice | int, ...]:
        """What selects a slice in an array of the volume's three axes."""
        return (*[slice(None)] * self.axis, index)

    def read(self, index: int) -> Shaped[np.ndarray, "h w"]:
        """A slice for the network: intensities with the file's scaling applied, turned if it is to be upright."""
        image = rescaled(self._stored[self.at(index)], self._slope, self._intercept)
        image = image.T if self._transposed else image
        return np.ascontiguousarray(image[:: self._flips[0], :: self._flips[1]])

    def back(self, image: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h2 w2"]:
        """What belongs to the pixels of `read`, turned back to how the volume is stored."""
        image = image[:: self._flips[0], :: self._flips[1]]
        return image.T if self._transposed else image

    def empty(self, dtype: Any) -> Shaped[np.ndarray, "_ _ _"]:
        """An array of the volume's three axes."""
        # Slices are written one by one, and the file holds the first axis's neighbours side by side.
        return np.zeros(self._stored.shape, dtype, order="F")

    def write(self, path: Path, values: Shaped[np.ndarray, "_ _ _"]) -> None:
        """Write values of the volume's voxels as `.nii.gz` in their dtype, with the volume's shape and affine.

        Nothing else is taken over: descriptions and extensions may say whose volume it is.

        Args:
            path: where to; an existing file is replaced once the new one is whole.
            values: as `empty` gives them.
        """
        old, header = self._image.header, type(self._image.header)()
        header.set_data_dtype(values.dtype)
        header.set_data_shape(self._image.shape)
        for name in _GEOMETRY:
            header[name] = old[name]
        image = type(self._image)(values.reshape(self._image.shape, order="F"), self._image.affine, header)
        with replacing(path) as f, gzip.GzipFile("", "wb", _GZIP_LEVEL, f, mtime=0) as packed:
            image.to_stream(packed)


def open_volume(path: Path, axis: int | None = None, upright: bool = False) -> Volume:
    """Read a NIfTI volume.

    Args:
        path: a `.nii` or `.nii.gz` of three axes, or of more where the others have a length of 1.
        axis: along which to slice; default the one with the fewest slices, of equals the last.
        upright: turn slices as radiologists look at them, by the file's affine: in axial ones anterior is up, in
            coronal and sagittal ones superior; the patient's right is on the left, in sagittal ones anterior.
            Else a slice is `volume[:, :, i]` (or `[:, i]`, `[i]`), its first axis the rows.

    Raises:
        ImageError: anything that keeps the file from being such a volume, whatever is wrong with it.
    """
    nibabel = package("nibabel", path)
    try:
        return _open_volume(nibabel, path, axis, upright)
    except ImageError:
        raise
    except MemoryError as e:
        raise ImageError(path, "too large for this machine's memory") from e
    except OSError as e:
        raise ImageError(path, one_line(e.strerror or e)) from e
    except Exception as e:
        # A damaged file makes nibabel raise nearly anything: ImageFileError, HeaderDataError, zlib.error, EOFError, ...
        raise ImageError(path, f"cannot be decoded ({one_line(e)})") from e


def count_slices(path: Path, axis: int | None = None) -> int:
    """How many slices `open_volume` finds, by the header alone; 1 where the header cannot be used."""
    try:
        with _opened(path) as f:
            _, sides, axis = _read_header(package("nibabel", path), path, f, axis)
            return sides[axis]
    except Exception:
        # As in `open_volume`, which will tell.
        return 1


def _opened(path: Path) -> Any:
    return gzip.open(path) if suffix_of(path) == ".nii.gz" else path.open("rb")


def _read_header(nibabel: Any, path: Path, f: Any, axis: int | None) -> tuple[Any, tuple[int, int, int], int]:
    """The image, its voxels yet unread, their three sides, and the axis to slice along."""
    kind = {348: nibabel.Nifti1Image, 540: nibabel.Nifti2Image}[_check_start(path, f.read(_START))]
    f.seek(0)
    # Not mapped into memory: a mapped file that somebody cuts short ends the process.
    image = kind.from_file_map(kind.make_file_map({"image": Clamped(f, MAX_HEADER_BYTES)}), mmap=False)
    shape, dtype = image.shape, image.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ImageError(path, f"holds {dtype}; expected integers or real numbers of up to 64 bits")
    if len(shape) < 2 or any(n != 1 for n in shape[3:]):
        raise ImageError(path, f"has shape {shape}; expected one volume of three axes. Split it")
    sides = (shape[0], shape[1], shape[2] if len(shape) > 2 else 1)
    if axis is None:
        axis = max(i for i in range(3) if sides[i] == min(sides))
    check_sides(path, tuple(n for i, n in enumerate(sides) if i != axis))
    size = math.prod(sides) * dtype.itemsize
    if size > MAX_BYTES:
        raise ImageError(path, f"takes {size} bytes; expected at most {MAX_BYTES}")
    held = path.stat().st_size * (MAX_DEFLATE_RATIO if suffix_of(path) == ".nii.gz" else 1)
    if held < size:
        raise ImageError(path, f"is too short for the {size} bytes of voxels that its header says")
    return image, sides, axis


def _open_volume(nibabel: Any, path: Path, axis: int | None, upright: bool) -> Volume:
    with _opened(path) as f:
        image, sides, axis = _read_header(nibabel, path, f, axis)
        stored = image.dataobj.get_unscaled().reshape(sides, order="F")
        # What is packed has its checksum at the very end.
        if suffix_of(path) == ".nii.gz" and len(f.read(MAX_REST_BYTES)) == MAX_REST_BYTES:
            raise ImageError(path, f"goes on for {MAX_REST_BYTES} bytes and more after its voxels")
    if upright and image.header["sform_code"] == 0 and image.header["qform_code"] == 0:
        raise ImageError(path, "does not tell how it lies, so its slices cannot be turned upright")
    for extreme in (stored.min(), stored.max()):
        if not abs(float(extreme) * image.dataobj.slope + image.dataobj.inter) < MAX_VALUE:
            raise ImageError(path, BAD_VALUES)
    return Volume(path, image, stored, axis, upright)


def _check_start(path: Path, start: bytes) -> int:
    """The length of the header, which tells the version: 348 or 540 bytes.

    Refuses one whose extensions would fill the memory, since nibabel reads them with it.
    """
    for order in "<>" if len(start) == _START else "":
        (length,) = struct.unpack(f"{order}i", start[:4])
        if length in (348, 540):
            field, at = ("f", slice(108, 112)) if length == 348 else ("q", slice(168, 176))
            (voxels,) = struct.unpack(f"{order}{field}", start[at])
            if not voxels <= MAX_HEADER_BYTES:
                raise ImageError(path, f"has a header of {voxels:g} bytes; expected at most {MAX_HEADER_BYTES}")
            return length
    raise ImageError(path, "is no NIfTI file")


def _turn(affine: Shaped[np.ndarray, "4 4"], rows: int, columns: int) -> tuple[bool, tuple[int, int]]:
    """Whether rows and columns are exchanged, and then the steps (1 or -1) along them, to look at a slice upright.

    Of the directions right, anterior and superior, numbered so, the higher-numbered one of a slice runs up and the
    other to the left, whatever the slice.
    """
    from nibabel.orientations import io_orientation

    orientation = io_orientation(affine)
    transposed = bool(orientation[rows, 0] < orientation[columns, 0])
    down, across = (columns, rows) if transposed else (rows, columns)
    return transposed, (-int(orientation[down, 1]), -int(orientation[across, 1]))
