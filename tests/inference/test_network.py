"""Predictions by a trained network: the same slice gives the same whatever its file, and whatever the batch."""

import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.helpers.images import dicom_file
from unet_jax.data.raw import find_slices
from unet_jax.imaging.formats.mat import read_slice
from unet_jax.models.compiler import library
from unet_jax.predict import main


@pytest.fixture(scope="module")
def slices(raw_phantom):
    return [read_slice(f).image for f in find_slices(raw_phantom)[:7]]


def run(trained, source, out, *more):
    argv = ["--workdir", str(trained), "--input", str(source), "--output", str(out), *more]
    assert main([*argv, "--probabilities", "--threshold", "0.5"]) == 0


def test_dicom_volume_and_npy_give_the_same(trained, slices, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    volume = np.stack(slices, axis=-1)
    for i, image in enumerate(slices):
        np.save(source / f"n{i}.npy", image)
        dicom_file(source / f"d{i}", image + np.int16(1000), RescaleSlope=1, RescaleIntercept=-1000)
    for axis in range(3):
        nib.save(nib.Nifti1Image(np.moveaxis(volume, -1, axis), np.eye(4)), source / f"v{axis}.nii.gz")
    run(trained, source, out, "--no-upright", "--tta", "--uncertainty", "--dropout-samples", "3")
    masks = [np.asarray(Image.open(out / f"n{i}.png")) for i in range(len(slices))]
    assert any(mask.any() for mask in masks)
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(np.asarray(Image.open(out / f"d{i}.png")), mask)
        assert (out / f"d{i}.probs.npy").read_bytes() == (out / f"n{i}.probs.npy").read_bytes()
    for axis in range(3):
        written = np.moveaxis(np.asarray(nib.load(out / f"v{axis}.nii.gz").dataobj), axis, -1)
        np.testing.assert_array_equal(written * 255, np.stack(masks, axis=-1))
        probs = np.moveaxis(np.asarray(nib.load(out / f"v{axis}.probs.nii.gz").dataobj), axis, -1)
        spread = np.moveaxis(np.asarray(nib.load(out / f"v{axis}.uncertainty.nii.gz").dataobj), axis, -1)
        assert 0 < spread.max() <= 0.5
        for i in range(len(slices)):
            np.testing.assert_array_equal(probs[..., i].astype(np.float16), np.load(out / f"n{i}.probs.npy"))
            picture = np.asarray(Image.open(out / f"n{i}.uncertainty.png"))
            np.testing.assert_array_equal(np.rint(spread[..., i] * np.float32(510)), picture)


def test_batch_size_changes_nothing(trained, slices, tmp_path):
    (tmp_path / "in").mkdir()
    for i, image in enumerate(slices):
        np.save(tmp_path / f"in/{i}.npy", image)
    written = []
    for batch_size in ("1", "3", "16"):
        out = tmp_path / batch_size
        run(trained, tmp_path / "in", out, "--batch-size", batch_size)
        written.append({p.name: p.read_bytes() for p in out.iterdir()})
    assert written[0] == written[1] == written[2]


def test_library_and_precision_are_named(trained, slices, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", slices[0])
    masks = []
    for many in (1, 2):
        monkeypatch.setattr("unet_jax.inference.folder.MANY", many)
        out = tmp_path / str(many)
        run(trained, tmp_path / "in", out)
        made = json.loads((out / "predictions.json").read_text())
        assert (made["library"], made["precision"]) == (library(onednn=many == 1), "float32")
        masks.append(np.asarray(Image.open(out / "a.png")) > 0)
    assert masks[0].any() and (masks[0] != masks[1]).mean() < 1e-3
