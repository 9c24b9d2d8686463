"""Scoring a trained run from the command line."""

import csv
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from unet_jax import eval as eval_door
from unet_jax.config import UserError
from unet_jax.data.arrays import build, open_arrays
from unet_jax.data.resize import from_network
from unet_jax.data.splits import load_split
from unet_jax.predictor import Predictor


def evaluate(workdir, *more):
    return eval_door.main(["--workdir", str(workdir), *(str(m) for m in more)])


def summary(workdir, split):
    return json.loads((workdir / "eval" / split / "summary.json").read_text())


def test_scores_agree_with_scikit_learn(trained, tiny_data):
    assert evaluate(trained, "--split", "test") == 0
    arrays, split, predictor = open_arrays(tiny_data), load_split(trained / "split.json"), Predictor.open(trained)
    rows = [int(r) for r in split.rows(arrays, "test")]
    slices = [arrays.network_slice(r) for r in rows]
    truth, pred, native_truth, native_pred = [], [], [], []
    for r, probs in zip(rows, predictor.stream_network(slices), strict=True):
        mask = arrays.native_mask(r)
        truth.append(arrays.masks[r].ravel())
        pred.append(probs.ravel() >= np.float32(predictor.threshold))
        native_truth.append(mask.ravel())
        native_pred.append(from_network(probs, mask.shape).ravel() >= np.float32(predictor.threshold))
    got = summary(trained, "test")
    assert (got["split"], got["n_slices"], got["n_patients"]) == ("test", len(rows), len(set(arrays.pids[rows])))
    for name, t, p in (("network", truth, pred), ("native", native_truth, native_pred)):
        assert got[name]["micro_iou"] == pytest.approx(jaccard_score(np.concatenate(t), np.concatenate(p)))
        dices = [f1_score(a, b, zero_division=1.0) for a, b in zip(t, p, strict=True)]
        assert got[name]["mean_dice"] == pytest.approx(np.mean(dices))
        assert got[name]["pixel_accuracy"] == pytest.approx((np.concatenate(t) == np.concatenate(p)).mean())


def test_what_it_leaves(trained):
    evaluate(trained, "--split", "val")
    out = trained / "eval" / "val"
    assert {p.name for p in out.iterdir()} >= {
        "summary.json",
        "slices.csv",
        "patients.csv",
        "threshold.png",
        "gallery.png",
    }
    with (out / "slices.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert [int(r["slice"]) for r in rows] == sorted(load_split(trained / "split.json").val)
    got = summary(trained, "val")
    assert set(got["network"]["by_tumor"]) == {"meningioma", "glioma", "pituitary"}
    chosen = json.loads((trained / "threshold.json").read_text())
    assert got["threshold"] == chosen["threshold"]
    assert got["native"]["micro_iou"] == pytest.approx(chosen["micro_iou"])


def test_every_slice_once_with_split_all(trained, tiny_data):
    evaluate(trained, "--split", "all")
    assert summary(trained, "all")["n_slices"] == len(open_arrays(tiny_data))


def test_threshold_is_made_again_where_it_is_missing(trained):
    path = trained / "threshold.json"
    before = path.read_text()
    path.unlink()
    evaluate(trained, "--split", "val")
    assert path.read_text() == before


def test_threshold_and_checkpoint_can_be_given(trained, capsys):
    before = (trained / "threshold.json").read_text()
    evaluate(trained, "--split", "val", "--threshold", 0.33, "--checkpoint", "latest")
    assert summary(trained, "val")["threshold"] == 0.33
    assert (trained / "threshold.json").read_text() == before
    with pytest.raises(UserError, match=r"--threshold is 1\.5; it must be between 0 and 1"):
        evaluate(trained, "--threshold", 1.5)
    with pytest.raises(UserError, match="--checkpoint is 3; expected best, latest or one of the steps"):
        evaluate(trained, "--checkpoint", 3)


def test_another_checkpoint_leaves_the_stored_threshold(trained, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    stored = (workdir / "threshold.json").read_text()
    steps = sorted(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.is_dir() and p.name.isdecimal())
    other = next(s for s in steps if s != json.loads(stored)["checkpoint_step"])
    evaluate(workdir, "--split", "val", "--checkpoint", other)
    assert (workdir / "threshold.json").read_text() == stored
    # Its own threshold was used all the same: the best that validation has for it.
    got = summary(workdir, "val")["native"]["micro_iou"]
    evaluate(workdir, "--split", "val", "--checkpoint", other, "--threshold", 0.5)
    assert got >= summary(workdir, "val")["native"]["micro_iou"]
    (workdir / "threshold.json").unlink()
    evaluate(workdir, "--split", "val", "--checkpoint", other)
    assert json.loads((workdir / "threshold.json").read_text())["checkpoint_step"] == other


def test_another_dataset_only_as_a_whole(trained, raw_phantom, tmp_path):
    build(raw_phantom, tmp_path / "any", size=32, mask_rule="any", progress=False)
    with pytest.raises(UserError, match=r"--split test means nothing for it\. Use --split all"):
        evaluate(trained, "--data", tmp_path / "any")
    assert evaluate(trained, "--data", tmp_path / "any", "--split", "all") == 0
    assert summary(trained, "all")["mask_rule"] == "any"


def test_another_size_is_refused(trained, raw_phantom, tmp_path):
    build(raw_phantom, tmp_path / "d16", size=16, mask_rule="area", progress=False)
    with pytest.raises(UserError, match="converted at 16x16, the network was trained at 32x32"):
        evaluate(trained, "--data", tmp_path / "d16", "--split", "all")


def test_no_run(tmp_path):
    with pytest.raises(UserError, match=r"config\.json does not exist; expected a workdir"):
        evaluate(tmp_path)
