"""Networks scored on pictures without a tumour."""

import json

import numpy as np
import pytest

from experiments.best import tumor_free
from unet_jax.config import UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.splits import load_split
from unet_jax.data.symmetry import midline, without_tumor
from unet_jax.imaging.resize import from_network
from unet_jax.inference.predictor import Probabilities


class Bright:
    """Takes for tumour what is in the upper half of a slice's range."""

    size = 32

    def stream_network(self, slices):
        for s in slices:
            yield Probabilities((s.image - np.float32(s.p1)) / np.float32(s.p99 - s.p1), None)

    def mask(self, probs):
        return probs > 0.5


def test_mirrored_slices_are_predicted_at_their_own_size(tiny_data):
    arrays, rows, expected = open_arrays(tiny_data), np.arange(10, 30), []
    for row in rows:
        found = midline(arrays.images[row], arrays.masks[row])
        if found:
            image = without_tumor(arrays.images[row].astype(np.float32), found)
            native = from_network(image, (int(arrays.heights[row]), int(arrays.widths[row])))
            expected.append((native > (arrays.p1[row] + arrays.p99[row]) / 2).mean())
    assert len(expected) > 3 and min(expected) > 0.02
    np.testing.assert_allclose(tumor_free.mirrored_areas(Bright(), arrays, rows), expected, atol=1e-3)


def test_the_command_scores_the_side_asked_for(trained, tmp_path, capsys):
    file = tmp_path / "f.json"
    options = ["--workdir", str(trained), "--source", "mirrored", "--side", "train", "--json", str(file)]
    assert tumor_free.main(options) == 0
    (row,) = json.loads(file.read_text())["figures"]
    split = load_split(trained / "split.json")
    arrays = open_arrays(json.loads((trained / "config.json").read_text())["data"])
    usable = [midline(arrays.images[i], arrays.masks[i]) != 0 for i in split.rows(arrays, "train")]
    assert (row["source"], row["part"], row["n_slices"]) == ("mirrored", "train", sum(usable))
    assert f"mirrored  train     {sum(usable):8}" in capsys.readouterr().out


def test_slices_of_a_template_lie_as_those_of_the_dataset():
    """Numbers are x, y, z in digits, counted from 1: to the right, to the front, up."""
    x, y, z = np.mgrid[1:3, 1:4, 1:5]
    template = (100 * x + 10 * y + z).astype(np.float32)
    axial, coronal, sagittal = (list(tumor_free.template_slices(template, a)) for a in ("axial", "coronal", "sagittal"))
    assert (len(axial), len(coronal), len(sagittal)) == (4, 3, 2)
    assert axial[0].tolist() == [[131, 231], [121, 221], [111, 211]]
    assert coronal[0].tolist() == [[114, 214], [113, 213], [112, 212], [111, 211]]
    assert sagittal[0].tolist() == [[134, 124, 114], [133, 123, 113], [132, 122, 112], [131, 121, 111]]
    template[:, :, 1] = 0
    template[0, 0, 1] = 1  # a sixth
    template[:, :, 2] = 0
    assert len(list(tumor_free.template_slices(template, "axial"))) == 3


def test_another_size_is_refused(tiny_data):
    predictor = Bright()
    predictor.size = 64
    with pytest.raises(UserError, match=r"converted at 32x32.*--size 64"):
        tumor_free.mirrored_areas(predictor, open_arrays(tiny_data), np.arange(2))
