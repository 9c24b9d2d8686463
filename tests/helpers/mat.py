"""Slices in the source format, as MATLAB would have saved them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def mat_file(path: Path, write: Callable[[h5py.File], Any]) -> Path:
    """A MATLAB 7.3 file: 512 bytes that MATLAB calls a header and HDF5 a user block, then HDF5."""
    with h5py.File(path, "w", userblock_size=512) as file:
        write(file)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as f:
        f.write(header)
    return path


def codes(text: str, dtype: Any = np.uint16) -> np.ndarray:
    """Text as MATLAB stores it."""
    return np.array([[ord(c)] for c in text], dtype)


def slice_file(path: Path, **changes: Any) -> Path:
    """A good slice of 20x24 by default; each change is a value for a field, or None to leave it out.

    `image` and `tumorMask` are given as displayed and stored transposed, as MATLAB's column-major order looks to h5py.
    """
    rng = np.random.default_rng(int(path.stem) if path.stem.isdigit() else 0)
    image = changes.get("image")
    mask = np.zeros(image.shape[:2] if isinstance(image, np.ndarray) else (20, 24), np.uint8)
    mask[4:9, 6:14] = 1
    fields = {
        "image": rng.integers(0, 4000, (20, 24)).astype(np.int16),
        "tumorMask": mask,
        "label": np.array([[2.0]]),
        "PID": codes("MR0042B"),
        "tumorBorder": np.array([[7.0, 5.0, 14.0, 5.0, 14.0, 9.0, 7.0, 9.0]]),
    }
    fields.update(changes)

    def write(file: h5py.File) -> None:
        group = file.create_group("cjdata")
        for name, value in fields.items():
            if value is not None:
                picture = name in ("image", "tumorMask") and isinstance(value, np.ndarray)
                stored = np.transpose(value) if picture else value
                group.create_dataset(name, data=stored, **({"compression": "gzip"} if picture else {}))

    return mat_file(path, write)


def raw_folder(folder: Path, slices: dict[int, dict[str, Any]], folds: dict[int, int] | None = None) -> Path:
    """A raw folder of `slice_file`s by their numbers, and the folds of some of them."""
    (folder / "data").mkdir(parents=True)
    for number, changes in slices.items():
        slice_file(folder / "data" / f"{number}.mat", **changes)
    if folds is not None:
        values = [float(folds.get(number, 0)) for number in range(1, max(folds) + 1)]
        mat_file(folder / "cvind.mat", lambda file: file.create_dataset("cvind", data=[values]))
    return folder
