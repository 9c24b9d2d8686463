"""Keys by which slices are known again in another dataset, and after other programs have stored them anew.

A slice has three: the SHA-256 of its file; its number, tumour type and patient together; and its fingerprint, a coarse
picture that other intensities, JPEG and another size leave nearly as it was.
"""

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from unet_jax.config import UserError
from unet_jax.data.converted.arrays import Arrays
from unet_jax.imaging.formats.npy import read_member
from unet_jax.imaging.resize import NetworkSlice, resize
from unet_jax.shared.files import replacing

SIDE = 16
"""Side of a fingerprint in pixels."""

TOLERANCE = 0.002
"""Largest distance between two fingerprints of one slice: 1 less the correlation of their pixels.

Measured on the Figshare dataset's 2,653 slices at 192 pixels, their 8-bit pictures stored anew in ten ways (JPEG of
quality 60 to 90, 128 to 640 pixels, contrast 0.3 to 1): at most 0.00041 from their own fingerprints, and 0.00135 at the
extremes, 128 pixels with quality 60 and contrast 0.3. Other slices of the patient were at least 0.0029 away, those of
other patients 0.0063.
"""

MOST_BYTES = 2**26
"""Largest size of one array of the stored keys."""

_BLOCK = 256
"""Fingerprints compared at a time with all others, for the memory's sake."""

KEYS = ("file", "identity", "fingerprint")
"""Names of the keys, in the order of `Recognised`'s columns."""


@dataclass(frozen=True, eq=False)
class SliceKeys:
    """Keys of n slices."""

    sha256: UInt8[np.ndarray, "n 32"]
    """SHA-256 of each file."""
    slice: Int64[np.ndarray, " n"]
    label: UInt8[np.ndarray, " n"]
    pid: UInt8[np.ndarray, "n bytes"]
    """Patient: UTF-8, filled up with zeros."""
    fingerprint: UInt8[np.ndarray, "n 256"]

    def __len__(self) -> int:
        return len(self.slice)

    def identities(self) -> list[tuple[int, int, bytes]]:
        """List number, tumour type and patient of each slice."""
        pids = [bytes(row).rstrip(b"\0") for row in self.pid]
        return list(zip(self.slice.tolist(), self.label.tolist(), pids, strict=True))


def keys_of(arrays: Arrays, rows: Int64[np.ndarray, " n"]) -> SliceKeys:
    """Collect the keys of some rows of a dataset."""
    pids = [str(arrays.pids[row]).encode() for row in rows]
    width = max((len(pid) for pid in pids), default=0)
    return SliceKeys(
        sha256=_bytes([_digest(arrays, int(row)) for row in rows], 32),
        slice=arrays.slices[rows].astype(np.int64),
        label=arrays.labels[rows].astype(np.uint8),
        pid=_bytes(pids, width),
        fingerprint=_bytes([fingerprint(arrays.network_slice(int(row))).tobytes() for row in rows], SIDE**2),
    )


def fingerprint(part: NetworkSlice) -> UInt8[np.ndarray, "256"]:
    """Draw a slice coarsely: SIDE x SIDE means over area, its 1st percentile as 0 and its 99th as 255."""
    if part.p1 == part.p99:
        return np.zeros(SIDE**2, np.uint8)
    normal = np.clip((part.image - np.float32(part.p1)) / np.float32(part.p99 - part.p1), 0, 1)
    return np.rint(255 * resize(normal, (SIDE, SIDE))).astype(np.uint8).ravel()


def recognise(slices: SliceKeys, among: SliceKeys) -> Bool[np.ndarray, "n 3"]:
    """Tell which slices are among others, by each of KEYS; a fingerprint is one within TOLERANCE.

    A slice that is not recognised may be among them all the same, cropped or turned, say.
    """
    files = {bytes(row) for row in among.sha256}
    identities = set(among.identities())
    found = np.zeros((len(slices), len(KEYS)), bool)
    found[:, 0] = [bytes(row) in files for row in slices.sha256]
    found[:, 1] = [identity in identities for identity in slices.identities()]
    found[:, 2] = nearest(slices.fingerprint, among.fingerprint) <= TOLERANCE
    return found


def count(found: Bool[np.ndarray, "n 3"]) -> dict[str, Any]:
    """Count, for JSON, the slices that `recognise` found by any key, by each one, and those it did not."""
    n = int(found.any(axis=1).sum())
    by_key = {key: int(number) for key, number in zip(KEYS, found.sum(axis=0), strict=True)}
    return {"n": n, "by_key": by_key, "not_recognised": len(found) - n, "tolerance": TOLERANCE}


def nearest(fingerprints: UInt8[np.ndarray, "n 256"], among: UInt8[np.ndarray, "m 256"]) -> Float64[np.ndarray, " n"]:
    """Compute the distance of each fingerprint from the nearest of some others: 1 less the correlation of their pixels.

    A fingerprint without contrast is infinitely far from all.
    """
    result, others = np.full(len(fingerprints), np.inf), _standard(among)
    for start in range(0, len(fingerprints), _BLOCK):
        distances = 1 - _standard(fingerprints[start : start + _BLOCK]) @ others.T
        result[start : start + _BLOCK] = np.where(np.isnan(distances), np.inf, distances).min(axis=1, initial=np.inf)
    return result


def _standard(fingerprints: UInt8[np.ndarray, "n 256"]) -> Float64[np.ndarray, "n 256"]:
    """Bring fingerprints to mean 0 and length 1; NaN without contrast."""
    centred = fingerprints - fingerprints.mean(axis=1, keepdims=True)
    lengths = np.sqrt((centred**2).sum(axis=1, keepdims=True))
    return centred / np.where(lengths > 0, lengths, np.nan)


def write_keys(path: Path, keys: SliceKeys) -> None:
    """Write keys as compressed .npz; equal keys give equal bytes."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **vars(keys))
    with replacing(path) as f:
        f.write(packed.getvalue())


def read_keys(path: Path) -> SliceKeys:
    """Read what `write_keys` wrote; UserError if it is absent or something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            columns = {name: read_member(archive, f"{name}.npy", MOST_BYTES) for name in SliceKeys.__annotations__}
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Export the model again.") from None
    except Exception as e:  # a damaged archive, or .npy in it, raises nearly anything
        raise UserError(f"{path} cannot be read ({e}). Export the model again.") from None
    n = columns["slice"].size
    shapes = {"sha256": (n, 32), "slice": (n,), "label": (n,), "fingerprint": (n, SIDE**2)}
    for name, column in columns.items():
        kind = np.int64 if name == "slice" else np.uint8
        fits = column.shape[:1] == (n,) and column.ndim == 2 if name == "pid" else column.shape == shapes[name]
        if column.dtype != kind or not fits:
            raise UserError(
                f"{path}: {name} is {column.dtype} {column.shape}; expected {np.dtype(kind)} of {n} slices. "
                "Export the model again."
            )
    return SliceKeys(**columns)


def _digest(arrays: Arrays, row: int) -> bytes:
    text = arrays.sha256[row]
    if re.fullmatch("[0-9a-f]{64}", text) is None:
        raise UserError(
            f"{arrays.path / 'slices.csv'}: slice {arrays.slices[row]} has the sha256 {text!r}; expected 64 "
            "hexadecimal digits. The dataset is damaged; make it again with `python -m unet_jax.convert`."
        )
    return bytes.fromhex(text)


def _bytes(texts: Sequence[bytes], width: int) -> UInt8[np.ndarray, "n width"]:
    joined = b"".join(text.ljust(width, b"\0") for text in texts)
    return np.frombuffer(joined, np.uint8).reshape(len(texts), width)
