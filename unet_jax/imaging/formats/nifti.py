"""Volumes from and to NIfTI files, by nibabel."""

import gzip
import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Bool, Shaped

from unet_jax.imaging.content import beginning, is_gzip
from unet_jax.imaging.formats.medical import rescaled, upright
from unet_jax.imaging.formats.untrusted import Clamped
from unet_jax.imaging.scan import (
    BAD_VALUES,
    MAX_VALUE,
    MIN_SIDE,
    NO_TURN,
    Kind,
    Reading,
    Refused,
    Slices,
    check_sides,
    contiguous,
    same_everywhere,
    spacing_of,
)
from unet_jax.shared.files import replacing

MAX_BYTES = 2**31
"""Largest volume, in bytes of memory."""
MAX_HEADER_BYTES = 2**24
"""Largest offset of the voxels, in bytes: the size of header and extensions."""
MAX_REST_BYTES = 2**20
"""Largest size of what follows the voxels, in bytes, not included."""
MAX_THICKNESS = 3
"""Largest ratio of the sides of a pixel of a slice that does not cut across thick slices."""
MAX_DEFLATE_RATIO = 1032
"""Largest growth of a deflated stream: two bits stand for 258 bytes at best."""

_GZIP_LEVEL = 1
"""A volume of a mask takes a hundredth of itself even so; of probabilities no level saves much."""
_MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""Millimetres of a unit, by its code: unknown, metre, millimetre, micrometre."""
_GEOMETRY = (
    *("pixdim", "xyzt_units", "sform_code", "srow_x", "srow_y", "srow_z", "qform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)
"""Fields of a header that say where its voxels are."""


class Volume(Slices):
    """Slices of a volume along the axis `axis`, whose masks are NIfTI volumes of the same place.

    A value is what is stored, times `slope`, plus `inter`. The affine of an image that lies in no patient's space does
    not tell how slices lie (`tells_place`), but is that of the masks.
    """

    def __init__(
        self,
        image: Any,
        stored: Shaped[np.ndarray, "_ _ _"],
        axis: int,
        reading: Reading,
        slope: float = 1.0,
        inter: float = 0.0,
        *,
        tells_place: bool = True,
    ):
        self.axis, self.pixels, self._image, self._sides = axis, stored, image, stored.shape
        self._slope, self._inter = slope, inter
        self.turn, self.warnings = NO_TURN, []
        self._check_values(stored)
        rows, columns = (i for i in range(3) if i != axis)
        scale = _MILLIMETRES.get(int(image.header["xyzt_units"]) & 7, 0.0)
        zooms = [*(float(z) * scale for z in image.header.get_zooms()), 0.0, 0.0][:3]
        self.spacing = spacing_of(zooms[rows], zooms[columns])
        self.set_aspect(None)
        self._warn_about_thick_slices(rows, columns)
        if reading.upright:
            told = tells_place and (image.header["sform_code"] != 0 or image.header["qform_code"] != 0)
            turn = upright(image.affine[:3, [rows, columns, axis]].astype(np.float64)) if told else None
            if turn is None:
                self.warnings.append("does not tell how it lies, so its slices were predicted as stored")
            else:
                self.turn = turn

    def _check_values(self, stored: Shaped[np.ndarray, "_ _ _"]) -> None:
        low, high, self._not_numbers = stored.min(), stored.max(), 0
        # Both are NaN where any is.
        if low != low:
            self._not_numbers = int(np.count_nonzero(np.isnan(stored)))
            if self._not_numbers == stored.size:
                raise Refused("has no voxel that is a number")
            low, high = np.nanmin(stored), np.nanmax(stored)
            self.warnings.append(
                f"has {self._not_numbers} of its {stored.size} voxels not a number (NaN), taken for background"
            )
        slope, inter = self._slope, self._inter
        for extreme in (low, high):
            if not abs(float(extreme) * slope + inter) < MAX_VALUE:
                raise Refused(BAD_VALUES)
        if low == high:
            self.warnings.append(same_everywhere(float(low) * slope + inter))

    def _warn_about_thick_slices(self, rows: int, columns: int) -> None:
        thick = rows if self.stored_aspect > 1 else columns
        ratio = max(self.stored_aspect, 1 / self.stored_aspect)
        # Slices along the other axis must be slices, of which a picture alone has none.
        if ratio > MAX_THICKNESS and min(n for i, n in enumerate(self._sides) if i != thick) >= MIN_SIDE:
            self.warnings.append(
                f"was sliced along axis {self.axis}, across slices {ratio:.3g} times as thick as their pixels; "
                f"--axis {thick} takes those"
            )

    def __len__(self) -> int:
        return self._sides[self.axis]

    def read(self, index: int) -> Shaped[np.ndarray, "h w"]:
        """Return a slice for the network: the file's scaling applied, turned if it is to be upright."""
        assert self.pixels is not None, "given up"
        stored = self.pixels[(*[slice(None)] * self.axis, index)]
        image = rescaled(stored, self._slope, self._inter)
        if self._not_numbers:
            image = np.ma.MaskedArray(image, np.isnan(image))
        return contiguous(self.turn.apply(image))

    def write(self, kind: Kind, path: Path, planes: list[Any]) -> None:
        """Write values of the volume's voxels as `.nii.gz`, with the volume's shape and affine.

        Nothing else is taken over: descriptions and extensions may say whose volume it is.
        """
        dtype = np.uint8 if kind == "mask" else np.float32
        # The file holds the first axis's neighbours side by side.
        values = np.empty(self._sides, dtype, order="F")
        while planes:
            index = len(planes) - 1
            values[(*[slice(None)] * self.axis, index)] = planes.pop()
        old, header = self._image.header, type(self._image.header)()
        header.set_data_dtype(dtype)
        header.set_data_shape(self._image.shape)
        for name in _GEOMETRY:
            header[name] = old[name]
        image = type(self._image)(values.reshape(self._image.shape, order="F"), self._image.affine, header)
        with replacing(path) as f, gzip.GzipFile("", "wb", _GZIP_LEVEL, f, mtime=0) as packed:
            image.to_stream(packed)


def open_slices(path: Path, reading: Reading) -> Volume:
    """Read a NIfTI volume.

    Args:
        path: a `.nii` or `.nii.gz` of three axes, or of more where the others have a length of 1.
        reading: `axis` is by default the one with the fewest slices, of equals the last. `upright` turns slices as
            radiologists look at them (`medical.upright`), by the file's affine, where it has one. Else a slice is
            `volume[:, :, i]` (or `[:, i]`, `[i]`), its first axis the rows.

    Raises:
        Refused: not one volume of real numbers, or one too large.
        Exception: nearly any, of a file that is damaged.
    """
    with opened(path) as f:
        image, sides, axis, told = _read_header(path, f, reading.axis)
        stored = image.dataobj.get_unscaled().reshape(sides, order="F")
        read_to_end(f)
    volume = Volume(image, stored, axis, reading, image.dataobj.slope, image.dataobj.inter)
    if not all(told[i] for i in range(3) if i != axis):
        volume.spacing = None
        volume.set_aspect(None)
    return volume


def count_slices(path: Path, reading: Reading) -> int:
    """Count the slices that `open_slices` finds, by the header alone."""
    with opened(path) as f:
        _, sides, axis, _ = _read_header(path, f, reading.axis)
        return sides[axis]


def opened(path: Path) -> Any:
    """Open a file that may be packed by gzip."""
    # By content: many a file is packed without the suffix, or has it and is not.
    return gzip.open(path) if is_gzip(beginning(path)) else path.open("rb")


def read_to_end(f: Any) -> None:
    """Read what follows the voxels, if it is packed: the checksum is at the very end. Refuses a file that goes on."""
    if not isinstance(f, gzip.GzipFile):
        return
    try:
        rest = f.read(MAX_REST_BYTES)
    except gzip.BadGzipFile as e:
        # Behind the end of what is packed, whose checksum was right, may be anything.
        if str(e).startswith("Not a gzipped file"):
            return
        raise
    if len(rest) == MAX_REST_BYTES:
        raise Refused(f"goes on for {MAX_REST_BYTES} bytes and more after its voxels")


def sides_of(
    shape: tuple[int, ...], dtype: np.dtype, axis: int | None, path: Path, packed: bool
) -> tuple[tuple[int, int, int], int]:
    """Give the sides of a volume and the axis to slice along, by default the one with the fewest slices.

    Args:
        shape, dtype: of its voxels, as a header says.
        axis: the one that is asked for.
        path: the file, whose size must suffice for such a volume.
        packed: whether its voxels are deflated.

    Raises:
        Refused: not one volume of real numbers, one too large, or a file too short for it.
    """
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Refused(f"holds {dtype}; expected integers or real numbers of up to 64 bits")
    if len(shape) < 2 or any(n != 1 for n in shape[3:]):
        raise Refused(f"has shape {shape}; expected one volume of three axes. Split it")
    sides = (shape[0], shape[1], shape[2] if len(shape) > 2 else 1)
    if axis is None:
        axis = max(i for i in range(3) if sides[i] == min(sides))
    check_sides(tuple(n for i, n in enumerate(sides) if i != axis))
    size = math.prod(sides) * dtype.itemsize
    if size > MAX_BYTES:
        raise Refused(f"takes {size} bytes; expected at most {MAX_BYTES}")
    held = path.stat().st_size * (MAX_DEFLATE_RATIO if packed else 1)
    if held < size:
        raise Refused(f"is too short for the {size} bytes of voxels that its header says")
    return sides, axis


def _read_header(path: Path, f: Any, axis: int | None) -> tuple[Any, tuple[int, int, int], int, Bool[np.ndarray, "3"]]:
    """Return the image, its voxels yet unread; their sides; the axis to slice along; axes whose spacing is told."""
    start = f.read(nibabel.Nifti2Header.sizeof_hdr)
    kind = _kind(start)
    f.seek(0)
    # Not mapped into memory: a mapped file that somebody cuts short ends the process.
    image: Any = kind.from_file_map(kind.make_file_map({"image": Clamped(f, MAX_HEADER_BYTES)}), mmap=False)
    sides, axis = sides_of(image.shape, image.get_data_dtype(), axis, path, isinstance(f, gzip.GzipFile))
    # As stored, since nibabel takes 1 for 0.
    block = kind.header_class(start[: kind.header_class.sizeof_hdr], check=False)
    told = np.abs(block["pixdim"][1:4]) > 0
    if not told.all() and image.header["sform_code"] > 0:
        sides_of_voxel = np.linalg.norm(image.affine[:3, :3], axis=0)
        image.header["pixdim"][1:4] = np.where(told, image.header["pixdim"][1:4], sides_of_voxel)
        told |= sides_of_voxel > 0
    return image, sides, axis, told


def _kind(start: bytes) -> Any:
    """Return nibabel's class for the version that a header is of.

    Refuses one whose extensions would fill the memory, since nibabel reads them with it.
    """
    for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        block = start[: kind.header_class.sizeof_hdr]
        if kind.header_class.may_contain_header(block):
            voxels = float(kind.header_class(block, check=False)["vox_offset"])
            if not voxels <= MAX_HEADER_BYTES:
                raise Refused(f"has a header of {voxels:g} bytes; expected at most {MAX_HEADER_BYTES}")
            return kind
    raise Refused("is no NIfTI file")
