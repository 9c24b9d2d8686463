"""Readers that do what the project's must not, to see that read_cases.py finds it; run by test_files.py.

python tests/faults/read_badly.py READER and the arguments of read_cases.py
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import read_cases

from unet_jax.imaging.scan import ImageError


def npy(path: Path) -> list[Any]:
    return [np.load(path, allow_pickle=True)]


def mat(path: Path) -> list[Any]:
    with h5py.File(path) as file:
        return [file["cjdata/image"][()].T]


def anonymous(path: Path) -> list[Any]:
    raise ImageError(Path("a file"), "is bad")


def greedy(path: Path) -> list[Any]:
    raise ImageError(path, "is bad") from MemoryError()


def littering(path: Path) -> list[Any]:
    (path.parent / "litter").write_text("")
    raise ImageError(path, "is bad")


def crashing(path: Path) -> list[Any]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return []


def looping(path: Path) -> list[Any]:
    while path.exists():
        pass
    return []


def main() -> None:
    bad = globals()[sys.argv.pop(1)]
    good = dict(read_cases.READERS)

    def read(format: str, path: Path) -> list[Any]:
        # The specimens are read first, before the limits are set.
        timed = signal.getitimer(signal.ITIMER_PROF) != (0.0, 0.0)
        return bad(path) if timed else good[format](path)

    read_cases.SECONDS = 0.2
    read_cases.READERS.update({format: lambda path, format=format: read(format, path) for format in good})
    read_cases.main()


if __name__ == "__main__":
    main()
