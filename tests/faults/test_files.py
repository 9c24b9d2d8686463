"""Damaged and hostile files of every format that is read: an error that names the file, or what is in it.

Each is read by read_cases.py in a process of its own, within limits of memory and time. README.md has the list.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import unet_jax
from tests.helpers.mat import slice_file

HERE = Path(__file__).parent
PICTURES = ("npy", "npz", "png", "jpeg", "tiff", "bmp", "pictures")
FORMATS = ("dataset", "mat", *PICTURES, "dicom", "nifti", "mgh", "nrrd", "mha", "zip")
SECRET = 12_321
"""As in read_cases.py."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With files that the hostile ones lead to."""
    (tmp_path / "outside").mkdir()
    secret = np.full((36, 40), SECRET, np.int16)
    (tmp_path / "outside/secret.bin").write_bytes(secret.tobytes())
    slice_file(tmp_path / "outside/secret.mat", image=secret)
    return tmp_path


def faults(folder: Path, *argv: str, script: Sequence[str] = (str(HERE / "read_cases.py"),)) -> tuple[int, list[str]]:
    """How many files were read, and what is wrong with how."""
    path = os.pathsep.join((str(HERE), str(Path(unet_jax.__file__).parents[1])))
    done = subprocess.run(
        [sys.executable, *script, str(folder), *argv],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
        timeout=600,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    read = [line for line in lines if "fault" in line]
    wrong = [f"{line['format']} {line['case']}: {line['fault']}" for line in read if line["fault"]]
    if done.returncode:
        last = f"{lines[-1]['format']} {lines[-1]['case']}" if len(lines) > 2 * len(read) else "between two files"
        wrong.append(f"{last}: the process that read it ended with {done.returncode}: {done.stderr[-2000:]}")
    return len(read), wrong


def test_some(folder: Path):
    n, wrong = faults(folder, "--seed", "1", "--rounds", "2", "--sample", "12", *FORMATS)
    assert wrong == [], "seed 1; mutate.py makes one of these again"
    assert n > 20 * len(FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_many(folder: Path, format: str):
    n, wrong = faults(folder, "--seed", "2", "--rounds", "12", format)
    assert wrong == [], "seed 2; mutate.py makes one of these again"
    assert n > 350


@pytest.mark.parametrize(
    ("reader", "format", "case", "fault"),
    [
        ("npy", "npy", "crafted/pickle", "'os.system'"),
        ("npy", "npy", "crafted/not a number", "read as"),
        ("mat", "mat", "crafted/cjdata is a external link", "what is in another file"),
        ("mat", "mat", "crafted/values in another file", "what is in another file"),
        ("mat", "mat", "crafted/no hdf5 at all", "OSError instead of an error for the person"),
        ("anonymous", "bmp", "crafted/odd bits", "an error that does not name the file"),
        ("greedy", "bmp", "crafted/odd bits", "too much memory"),
        ("littering", "bmp", "crafted/odd bits", "changed what is beside it"),
        ("crashing", "bmp", "crafted/odd bits", "the process that read it ended with -11"),
        ("looping", "bmp", "crafted/odd bits", "the process that read it ended with -27"),
    ],
)
def test_what_a_reader_does_wrong_is_seen(folder: Path, reader: str, format: str, case: str, fault: str):
    argv = ("--seed", "0", "--rounds", "0", "--case", case, format)
    _, wrong = faults(folder, *argv, script=(str(HERE / "read_badly.py"), reader))
    assert len(wrong) == 1 and wrong[0].startswith(f"{format} {case}: ") and fault in wrong[0], wrong
