"""Files in the Figshare dataset's layout: MATLAB v7.3 slices, cvind.mat, and the nested archive.

The same content always gives the same bytes: HDF5 objects carry no times, archive members a fixed date.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int, Int16

USER_BLOCK = 512
DESCRIPTION = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, written by unet_jax.phantom, HDF5 schema 1.00 ."
HEADER = DESCRIPTION.ljust(116) + bytes(8) + b"\x00\x02IM"
"""116 bytes of text, no subsystem data, version 2.0, and the byte-order mark."""

ARCHIVES = 4


def slice_bytes(
    image: Int16[np.ndarray, "h w"],
    mask: Bool[np.ndarray, "h w"],
    border: Float[np.ndarray, "n 2"],
    label: int,
    pid: str,
) -> bytes:
    """Write one slice as the bytes of a MATLAB v7.3 file with the struct `cjdata`.

    Args:
        image: raw intensities.
        mask: tumour or not.
        border: corners (x, y) of the tumour's outline, counted from 1.
        label: 1 meningioma, 2 glioma, 3 pituitary.
        pid: name of the patient, ASCII.

    Returns:
        The file. Its arrays are column-major, so that h5py sees them transposed.
    """
    codes = np.frombuffer(pid.encode("ascii"), np.uint8).astype(np.uint16)
    fields = {
        "PID": (codes[:, None], "char"),
        "image": (image.T, "int16"),
        "label": (np.array([[float(label)]]), "double"),
        "tumorBorder": (border.astype(np.float64).reshape(1, -1), "double"),
        "tumorMask": (mask.T.astype(np.uint8), "logical"),
    }
    return _mat_bytes(fields, struct="cjdata")


def folds_bytes(folds: Int[np.ndarray, " n"]) -> bytes:
    """Write the folds, 1 to 5, of slices 1, 2, ... n as the bytes of cvind.mat, where they are `cvind` (1, n)."""
    return _mat_bytes({"cvind": (folds.astype(np.float64)[None, :], "double")})


def write_archive(path: Path, slices: Sequence[Path], others: Sequence[Path]) -> None:
    """Write the article's archive: inner archives with the slices 1, 2, ... n, and the other files beside them."""
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


def _mat_bytes(fields: dict[str, tuple[np.ndarray, str]], struct: str = "") -> bytes:
    """Write arrays, each with its class in MATLAB, as a MATLAB v7.3 file: variables, or fields of one struct."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=USER_BLOCK) as file:
        group = file.create_group(struct) if struct else file
        if struct:
            group.attrs["MATLAB_class"] = np.bytes_("struct")
        for name, (value, matlab_class) in fields.items():
            _put(group, name, value, matlab_class)
    return HEADER + buffer.getvalue()[len(HEADER) :]


def _put(group: h5py.Group, name: str, value: np.ndarray, matlab_class: str) -> None:
    """Write an array, and close it: how long arrays are open decides where HDF5 puts the next ones."""
    extra = {}
    if value.size > 1000:
        # One chunk and the quickest level: writing the phantom is part of the demonstration's time.
        extra = {"chunks": value.shape, "compression": "gzip", "compression_opts": 1, "shuffle": True}
    data = group.create_dataset(name, data=value, track_times=False, **extra)
    data.attrs["MATLAB_class"] = np.bytes_(matlab_class)
    if matlab_class in ("char", "logical"):
        data.attrs["MATLAB_int_decode"] = np.int32(2 if matlab_class == "char" else 1)


def _entry(name: str) -> zipfile.ZipInfo:
    """Describe a member of an archive, the same at any time: its date is the first that archives know."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    return entry
