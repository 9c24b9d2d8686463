"""The comparison of a network with its exported files."""

import re

import numpy as np
import pytest

from experiments.best import exported


def test_a_network_and_its_files_agree(trained, tiny_data, capsys):
    assert exported.main(["--workdir", str(trained)]) == 0
    said = capsys.readouterr().out
    rows = dict(re.findall(r"^(\w[\w, ]*?) {2,}(\S+ +\S+ +\S+)$", said, re.MULTILINE))
    assert {"Eigen", "oneDNN", "onnx", "stablehlo", "onnx, own limits"} <= rows.keys()
    figures = {name: [float(x) for x in text.split()] for name, text in rows.items()}
    for name in ("onnx", "stablehlo"):
        assert figures[name][0] < 1e-5 and figures[name][1] == 0 and figures[name][2] == figures["Eigen"][2]
    assert figures["onnx, own limits"][0] > 1e-5


def test_mean_dice_by_hand():
    masks, truth = np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    masks[0, 0], truth[0, :, 0], truth[1, 1, 1] = True, True, True
    assert exported.mean_dice(masks, truth) == pytest.approx((2 * 1 / 4 + 0) / 2)
