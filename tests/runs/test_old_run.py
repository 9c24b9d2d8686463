"""A run of an earlier version: trained for two of its three epochs, then stopped, by the code of commit c0e5446."""

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

import unet_jax
from unet_jax import train
from unet_jax.runs.records import read_records
from unet_jax.runs.workdir import Workdir


@pytest.fixture
def old(tmp_path, tiny_data):
    """Its workdir, and what that code predicted and recorded afterwards."""
    with zipfile.ZipFile(Path(__file__).with_name("old_run.zip")) as archive:
        archive.extractall(tmp_path / "run")
    expected = json.loads((tmp_path / "run" / "expected.json").read_text())
    (tmp_path / "run" / "expected.json").unlink()
    shutil.copytree(tiny_data, tmp_path / "data")
    return tmp_path, expected


def test_it_predicts_what_it_predicted(old):
    folder, expected = old
    y, x = np.mgrid[:40, :50]
    image = (200 + 3 * x + 5 * y + 900 * ((x - 30) ** 2 + (y - 15) ** 2 < 60)).astype(np.int16)
    probs = unet_jax.load(folder / "run").predict(image).probs
    np.testing.assert_allclose(probs[4::10, 5::12], expected["probabilities"], atol=2e-5)


@pytest.mark.slow
def test_it_goes_on_as_it_would_have(old, capsys):
    folder, expected = old
    assert train.main(["--workdir", str(folder / "run"), "--data", str(folder / "data")]) == 0
    assert "at step 8, epoch 3" in capsys.readouterr().out
    records = read_records(Workdir(folder / "run"))
    assert [r["step"] for r in records] == [r["step"] for r in expected["records"]] == [4, 8, 12]
    for got, was in zip(records, expected["records"], strict=True):
        for side in ("train", "val"):
            # Bit for bit on one kind of processor; elsewhere up to rounding.
            assert got[side] == pytest.approx(was[side], rel=1e-3)
    assert json.loads((folder / "run" / "threshold.json").read_text())["threshold"] == expected["threshold"]
