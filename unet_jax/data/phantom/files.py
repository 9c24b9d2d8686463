"""The Figshare dataset's file layout, written: MATLAB v7.3 slices, cvind.mat, and the nested archive.

The same content always gives the same bytes: HDF5 objects carry no times, archive members a fixed date.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int, Int16

USER_BLOCK = 512
DESCRIPTION = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, written by unet_jax.phantom, HDF5 schema 1.00 ."
HEADER = DESCRIPTION.ljust(116) + bytes(8) + b"\x00\x02IM"
"""116 bytes of text, no subsystem data, version 2.0, and the byte-order mark."""

ARCHIVES = 4
_DATE = (1980, 1, 1, 0, 0, 0)


def slice_bytes(
    image: Int16[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    border: Float[np.ndarray, "n 2"],
    label: int,
    pid: str,
) -> bytes:
    """One slice as the bytes of a MATLAB v7.3 file with the struct `cjdata`.

    Args:
        image: raw intensities, int16 (h, w).
        mask: tumour or not, bool (h, w).
        border: corners (x, y) of the tumour's outline, float64 (n, 2), counted from 1.
        label: 1 meningioma, 2 glioma, 3 pituitary.
        pid: the patient's name, ASCII.

    Returns:
        The file. Its arrays are column-major, so that h5py sees them transposed.
    """

    def write(file: h5py.File) -> None:
        group = file.create_group("cjdata")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        codes = np.frombuffer(pid.encode("ascii"), np.uint8).astype(np.uint16)
        _put(group, "PID", codes[:, None], "char")
        _put(group, "image", image.T, "int16")
        _put(group, "label", np.array([[float(label)]]), "double")
        _put(group, "tumorBorder", border.astype(np.float64).reshape(1, -1), "double")
        _put(group, "tumorMask", mask.T.astype(np.uint8), "logical")

    return _mat_bytes(write)


def folds_bytes(folds: Int[np.ndarray, " n"]) -> bytes:
    """cvind.mat: the fold, 1 to 5, of slice N at column N - 1 of `cvind` (1, n), as bytes."""
    return _mat_bytes(lambda file: _put(file, "cvind", folds.astype(np.float64)[None, :], "double"))


def write_archive(path: Path, slices: Sequence[Path], others: Sequence[Path]) -> None:
    """The article's archive: four inner archives with consecutive slices, and the other files beside them.

    Args:
        path: the archive to write.
        slices: files of slices 1, 2, ... n in this order.
        others: files that stand next to the inner archives.
    """
    share = -(-len(slices) // ARCHIVES)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as outer:
        for first in range(0, ARCHIVES * share, share):
            part = slices[first : first + share]
            inner = io.BytesIO()
            with zipfile.ZipFile(inner, "w", zipfile.ZIP_STORED) as archive:  # the images are compressed already
                for file in part:
                    archive.writestr(_entry(file.name), file.read_bytes())
            name = f"brainTumorDataPublic_{first + 1}-{first + max(len(part), 1)}.zip"
            outer.writestr(_entry(name), inner.getvalue())
        for file in others:
            outer.writestr(_entry(file.name), file.read_bytes())


def _mat_bytes(write: Callable[[h5py.File], None]) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=USER_BLOCK) as file:
        write(file)
    raw = bytearray(buffer.getvalue())
    raw[: len(HEADER)] = HEADER
    return bytes(raw)


def _put(group: h5py.Group, name: str, value: np.ndarray, matlab_class: str) -> None:
    extra = {}
    if value.size > 1000:
        # One chunk and the quickest level: writing the phantom is part of the demonstration's time.
        extra = {"chunks": value.shape, "compression": "gzip", "compression_opts": 1, "shuffle": True}
    data = group.create_dataset(name, data=value, track_times=False, **extra)
    data.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    if matlab_class in ("char", "logical"):
        data.attrs["MATLAB_int_decode"] = np.int32(2 if matlab_class == "char" else 1)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.external_attr = 0o644 << 16
    entry.create_system = 3  # otherwise the system that wrote it would show in the bytes
    return entry
