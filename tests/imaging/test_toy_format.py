"""A format that is added by a file, a row of the table and a test."""

import sys

import numpy as np
import pytest

from tests.helpers.images import RAMP, refused, same
from tests.helpers.prediction import FakePredictor, Job
from unet_jax.imaging import read
from unet_jax.imaging.find import find_images
from unet_jax.imaging.scan import AS_STORED, Slices
from unet_jax.inference.folder import predict_images
from unet_jax.inference.output import Output, check_output
from unet_jax.inference.table import Table


def open_slices(path, reading):
    """Read a slice of numbers in plain text, a row a line."""
    return Slices(np.loadtxt(path, np.uint8), spacing=(2.0, 0.5))


@pytest.fixture(autouse=True)
def row(monkeypatch):
    module = sys.modules[open_slices.__module__]
    monkeypatch.setitem(sys.modules, "unet_jax.imaging.formats.toy", module)
    toy = read.Format("unet_jax.imaging.formats.toy", (".toy", ".toy.txt"))
    monkeypatch.setattr(read, "FORMATS", (*read.FORMATS, toy))


def test_it_is_read(tmp_path):
    np.savetxt(tmp_path / "a.toy", RAMP % 256, "%d")
    same(tmp_path / "a.toy", (RAMP % 256).astype(np.uint8))
    (tmp_path / "a.toy").write_text("1 2 x")
    refused(tmp_path / "a.toy", "cannot be decoded (could not convert string 'x'")
    np.savetxt(tmp_path / "a.toy", np.zeros((15, 16)), "%d")
    refused(tmp_path / "a.toy", "is 15x16 pixels; expected sides of 16 to 8192")


def test_it_is_found_and_predicted(tmp_path):
    job = Job(tmp_path)
    job.put("a.png", job.bright(2))
    np.savetxt(job.source / "b.toy.txt", job.bright(3), "%d")
    images, output = find_images(job.source), Output(job.out, probabilities=True, overlays=True)
    assert [path.name for path in images] == ["a.png", "b.toy.txt"]
    check_output(job.source, images, output)
    done = []
    with Table(output, {}) as table:
        predict_images(
            FakePredictor(), job.source, images, output, table, done.append, reading=AS_STORED, batch_size=16
        )
    assert sum(done) == 2
    assert [row["tumor_mm2"] for row in job.table()] == ["", "51.00"]
    same(job.out / "b.png", np.where(job.bright(3) > 200, 255, 0).astype(np.uint8))
    assert job.files()[3:] == ["b.overlay.png", "b.png", "b.probs.npy", "predictions.csv"]
