"""FreeSurfer's volumes, as nibabel writes them."""

import gzip
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.helpers.images import refused
from unet_jax.imaging import read
from unet_jax.imaging.formats.nifti import Volume
from unet_jax.imaging.read import count_slices
from unet_jax.imaging.scan import Kind, Reading

SHAPE = (16, 18, 20)
RAMP = np.arange(np.prod(SHAPE)).reshape(SHAPE)
AFFINE = np.array([[0, 0, 3, -7], [-0.5, 0, 0, 8], [0, -0.75, 0, 9], [0, 0, 0, 1]])
"""Sagittal slices, as their rows go backwards and their columns down."""


def mgh_file(path: Path, stored: np.ndarray, affine: np.ndarray | None = AFFINE) -> Path:
    nib.save(nib.freesurfer.MGHImage(stored, affine), path)
    return path


def opened(path: Path, **reading) -> Volume:
    volume = read.open(path, Reading(**reading))
    assert isinstance(volume, Volume)
    return volume


@pytest.mark.parametrize("suffix", [".mgz", ".mgh", ".MGZ"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4"])
def test_every_type(tmp_path, dtype, suffix):
    values = (RAMP % 200).astype(dtype)
    path = mgh_file(tmp_path / f"a{suffix.lower()}", values).rename(tmp_path / f"a{suffix}")
    assert count_slices(path, Reading(axis=2)) == 20
    volume = opened(path, axis=2, upright=False)
    assert len(volume) == 20 and volume.spacing == (0.5, 0.75)
    for i in (0, 7, 19):
        assert volume.read(i).dtype == np.dtype(dtype)
        np.testing.assert_array_equal(volume.read(i), values[:, :, i])


@pytest.mark.parametrize("axis", [0, 1, 2, None])
def test_it_is_read_as_the_same_volume_in_nifti(tmp_path, axis):
    values = RAMP.astype(np.int16)
    nib.save(nib.Nifti1Image(values, AFFINE), tmp_path / "a.nii")
    nifti, mgh = (
        opened(path, axis=axis, upright=True) for path in (tmp_path / "a.nii", mgh_file(tmp_path / "a.mgz", values))
    )
    assert (len(mgh), mgh.axis, mgh.spacing, mgh.aspect) == (len(nifti), nifti.axis, nifti.spacing, nifti.aspect)
    assert mgh.warnings == nifti.warnings
    for i in (0, len(nifti) - 1):
        np.testing.assert_array_equal(mgh.read(i), nifti.read(i))


def test_a_mask_is_nifti_of_the_same_place(tmp_path):
    volume = opened(mgh_file(tmp_path / "a.mgz", RAMP.astype(np.float32)), axis=2)
    masks = [np.zeros(SHAPE[:2], bool) for _ in range(20)]
    masks[3][5, 6] = True
    kind: Kind = "mask"
    volume.write(kind, tmp_path / "m.nii.gz", masks)
    mask = nib.load(tmp_path / "m.nii.gz")
    assert mask.shape == SHAPE and np.argwhere(np.asarray(mask.dataobj)).tolist() == [[5, 6, 3]]
    np.testing.assert_allclose(mask.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(nib.load(tmp_path / "a.mgz").affine, AFFINE, atol=1e-5)


def test_without_a_place_slices_are_as_stored_and_that_is_said(tmp_path):
    path = mgh_file(tmp_path / "a.mgh", RAMP.astype(np.int16))
    raw = bytearray(path.read_bytes())
    raw[28:30] = bytes(2)  # goodRASFlag
    path.write_bytes(raw)
    volume = opened(path, axis=2, upright=True)
    assert any("does not tell how it lies" in warning for warning in volume.warnings)
    np.testing.assert_array_equal(volume.read(4), RAMP[:, :, 4])


def test_nan_is_background(tmp_path):
    values = RAMP.astype(np.float32)
    values[:, :, 2] = np.nan
    volume = opened(mgh_file(tmp_path / "a.mgz", values), axis=2)
    assert np.ma.getmaskarray(volume.read(2)).all()
    assert any("voxels not a number" in warning for warning in volume.warnings)


def damaged(path: Path, at: int, value: bytes) -> Path:
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[at : at + len(value)] = value
    path.write_bytes(gzip.compress(bytes(raw)))
    return path


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, b"\0\0\0\2", "is no MGH file"),
        (4, struct.pack(">i", -1), "expected sides of at least 1"),
        (4, struct.pack(">i", 2**30), "sides"),
        (16, struct.pack(">i", 3), "expected one volume of three axes"),
        (12, struct.pack(">i", 4000), "ends after"),
        (20, struct.pack(">i", 99), "holds voxels of type 99; expected one of 0, 1, 3, 4, 10"),
    ],
)
def test_what_is_no_such_volume_is_refused(tmp_path, at, value, message):
    path = damaged(mgh_file(tmp_path / "a.mgz", RAMP.astype(np.int16)), at, value)
    refused(path, message)


def test_a_file_that_is_cut_is_refused(tmp_path):
    path = mgh_file(tmp_path / "a.mgz", RAMP.astype(np.int16))
    whole = path.read_bytes()
    for size, said in ((0, "MGH"), (5, "end"), (50, "end"), (len(whole) // 2, "end"), (len(whole) - 1, "end")):
        path.write_bytes(whole[:size])
        refused(path, said)
