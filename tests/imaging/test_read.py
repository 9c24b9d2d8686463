"""Reading of a file of any format, and what is refused whatever the format."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.images import RAMP, refused, same
from tests.helpers.mat import slice_file
from unet_jax.imaging.read import stem_of, suffix_of


def test_slice_of_the_dataset(tmp_path):
    same(slice_file(tmp_path / "7.mat", image=RAMP.astype(np.int16)), RAMP.astype(np.int16))
    (tmp_path / "8.mat").write_bytes(b"nothing")
    refused(tmp_path / "8.mat", "not a MATLAB 7.3 (HDF5) file")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),  # which is not waited for
        (lambda path: path.write_text("hello"), "is no PNG, JPEG, TIFF, BMP, WebP, GIF, PGM or JPEG 2000 picture"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, make, reason):
    make(tmp_path / "a.png")
    refused(tmp_path / "a.png", reason)


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a.png", ".png", "a"),
        ("a.b.PNG", ".png", "a.b"),
        ("a.nii", ".nii", "a"),
        ("a.NII.GZ", ".nii.gz", "a"),
        ("a.gz", "", "a.gz"),
        ("1.2.840.5", "", "1.2.840.5"),
        ("IM1", "", "IM1"),
        (".png", "", ".png"),
    ],
)
def test_suffix_and_stem(name, suffix, stem):
    assert (suffix_of(Path("p/q.png") / name), stem_of(Path("p/q.png") / name)) == (suffix, stem)
