"""Scoring a trained run from the command line."""

import csv
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import f1_score, jaccard_score

from unet_jax import eval as eval_command
from unet_jax import export
from unet_jax.config import UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.converted.build import build
from unet_jax.data.splits import load_split
from unet_jax.imaging.resize import from_network
from unet_jax.runs.load import load
from unet_jax.runs.model_folder import open_model
from unet_jax.scoring.components import CHOICES, Postprocess, postprocess


def evaluate(workdir, *more):
    return eval_command.main(["--workdir", str(workdir), *(str(m) for m in more)])


def read_json(path):
    return json.loads(path.read_text())


def summary(workdir, split):
    return read_json(workdir / "eval" / split / "summary.json")


def predicted(workdir, data, split):
    """Rows of a split, their probabilities at the network's size, their native masks, predicted and true."""
    arrays, predictor = open_arrays(data), load(workdir)
    rows = [int(r) for r in load_split(workdir / "split.json").rows(arrays, split)]
    probs = [p for p, _ in predictor.stream_network(arrays.network_slice(r) for r in rows)]
    masks = [arrays.native_mask(r) > 0 for r in rows]
    preds = [
        from_network(p, mask.shape) >= np.float32(predictor.threshold) for p, mask in zip(probs, masks, strict=True)
    ]
    return rows, probs, preds, masks


def test_scores_agree_with_scikit_learn(trained, tiny_data):
    assert evaluate(trained, "--split", "test") == 0
    arrays, got = open_arrays(tiny_data), summary(trained, "test")
    rows, probs, native_pred, native_truth = predicted(trained, tiny_data, "test")
    pred, truth = [p >= np.float32(got["threshold"]) for p in probs], [arrays.masks[r] > 0 for r in rows]
    assert (got["split"], got["n_slices"], got["n_patients"]) == ("test", len(rows), len(set(arrays.pids[rows])))
    for name, *masks in (("network", truth, pred), ("native", native_truth, native_pred)):
        t, p = ([mask.ravel() for mask in each] for each in masks)
        assert got[name]["micro_iou"] == pytest.approx(jaccard_score(np.concatenate(t), np.concatenate(p)))
        dices = [f1_score(a, b, zero_division=1.0) for a, b in zip(t, p, strict=True)]
        assert got[name]["mean_dice"] == pytest.approx(np.mean(dices))
        assert got[name]["pixel_accuracy"] == pytest.approx((np.concatenate(t) == np.concatenate(p)).mean())


def test_what_it_leaves(trained):
    evaluate(trained, "--split", "val")
    out = trained / "eval" / "val"
    named = ("summary.json", "slices.csv", "patients.csv", "threshold.png", "gallery.png")
    assert {p.name for p in out.iterdir()} >= set(named)
    with (out / "slices.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert [int(r["slice"]) for r in rows] == sorted(load_split(trained / "split.json").val)
    got = summary(trained, "val")
    assert set(got["network"]["by_tumor"]) == {"meningioma", "glioma", "pituitary"}
    chosen = read_json(trained / "threshold.json")
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


@pytest.mark.slow
def test_another_checkpoint_leaves_the_stored_threshold(trained, tmp_path):
    workdir = shutil.copytree(trained, tmp_path / "run")
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
    assert read_json(workdir / "threshold.json")["checkpoint_step"] == other


def test_scores_of_patients_who_were_trained_on_are_called_too_good(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    split = json.loads((trained / "split.json").read_text())
    said = "3 patients have slices both in training and among these: the scores are too good."
    for straddling in (0, 3):
        (tmp_path / "run" / "split.json").write_text(json.dumps(split | {"patients_straddling": straddling}))
        assert evaluate(tmp_path / "run", "--split", "val") == 0
        assert (said in capsys.readouterr().out) == bool(straddling)


def test_another_dataset_only_as_a_whole_and_of_the_same_size(trained, raw_phantom, tmp_path):
    build(raw_phantom, tmp_path / "any", size=32, mask_rule="any")
    build(raw_phantom, tmp_path / "d16", size=16, mask_rule="area")
    with pytest.raises(UserError, match="converted at 16x16, the network was trained at 32x32"):
        evaluate(trained, "--data", tmp_path / "d16", "--split", "all")
    with pytest.raises(UserError, match=r"--split test means nothing for it\. Use --split all"):
        evaluate(trained, "--data", tmp_path / "any")
    assert evaluate(trained, "--data", tmp_path / "any", "--split", "all") == 0
    assert summary(trained, "all")["mask_rule"] == "any"


def test_no_run(tmp_path):
    with pytest.raises(UserError, match=r"config\.json does not exist; expected a workdir"):
        evaluate(tmp_path)


# Post-processing, mirror images, distances, several runs


@pytest.mark.slow
def test_post_processing_is_chosen_on_validation_and_stored(trained, tiny_data, tmp_path):
    """Against every choice tried out by hand."""
    workdir = shutil.copytree(trained, tmp_path / "run")
    stored = read_json(workdir / "postprocess.json")
    (workdir / "postprocess.json").unlink()
    evaluate(workdir, "--split", "val", "--postprocess")
    chosen = read_json(workdir / "postprocess.json")
    assert chosen == stored
    _, _, preds, masks = predicted(workdir, tiny_data, "val")
    ious = {}
    for how in CHOICES:
        cleaned = [postprocess(p, how) for p in preds]
        both = sum(int((c & m).sum()) for c, m in zip(cleaned, masks, strict=True))
        either = sum(int((c | m).sum()) for c, m in zip(cleaned, masks, strict=True))
        ious[how] = both / either
    assert chosen["micro_iou"] == pytest.approx(max(ious.values()))
    assert ious[Postprocess(chosen["min_pixels"], chosen["fill_holes"])] == pytest.approx(max(ious.values()))
    got = summary(workdir, "val")
    assert got["native"]["micro_iou"] == pytest.approx(chosen["micro_iou"])
    assert got["postprocess"] == {name: chosen[name] for name in ("min_pixels", "fill_holes")}
    evaluate(workdir, "--split", "val")
    plain = summary(workdir, "val")
    assert plain["postprocess"] is None and plain["network"] == got["network"]
    assert plain["native"]["micro_iou"] == pytest.approx(ious[Postprocess(0, False)])


def test_distances_are_in_millimetres_where_the_spacing_is_given(trained, tmp_path):
    argv = ["--split", "val", "--output"]
    evaluate(trained, *argv, tmp_path / "px", "--tolerance", 2)
    evaluate(trained, *argv, tmp_path / "mm", "--tolerance", 1, "--spacing", 0.5)
    px, mm = (read_json(tmp_path / unit / "summary.json") for unit in ("px", "mm"))
    assert (px["distance_unit"], mm["distance_unit"], mm["spacing_mm"]) == ("px", "mm", 0.5)
    # A native pixel is half a millimetre, one of the network (512 / 32) times as much.
    assert mm["native"]["hd95"] == pytest.approx(px["native"]["hd95"] / 2)
    assert mm["network"]["hd95"] == pytest.approx(px["network"]["hd95"] * 8)
    assert mm["native"]["nsd"] == pytest.approx(px["native"]["nsd"])
    for option, value in (("--spacing", 0), ("--tolerance", -1)):
        with pytest.raises(UserError, match=rf"^{option} is "):
            evaluate(trained, option, value)


@pytest.mark.slow
def test_several_runs_are_averaged_into_a_folder_of_their_own(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "second")
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    argv = ["--workdir", str(trained), str(tmp_path / "second"), "--split", "val"]
    with pytest.raises(UserError, match="--output is needed for 2 runs averaged"):
        eval_command.main(argv)
    assert eval_command.main([*argv, "--output", str(tmp_path / "out"), "--tta"]) == 0
    got = read_json(tmp_path / "out" / "summary.json")
    # Twice the same network is that network.
    evaluate(trained, "--split", "val", "--tta", "--output", tmp_path / "one")
    alone = read_json(tmp_path / "one" / "summary.json")
    assert got["tta"] and got["native"]["mean_dice"] == pytest.approx(alone["native"]["mean_dice"], abs=1e-6)
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before
    for name in ("slices.csv", "patients.csv", "gallery.png", "report.html"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    with pytest.raises(UserError, match="--workdir names no folder"):
        eval_command.main(["--workdir", "--split", "val"])


def test_runs_of_different_splits_are_not_averaged(trained, tmp_path):
    other = shutil.copytree(trained, tmp_path / "other")
    split = read_json(other / "split.json")
    split["test"], split["val"] = split["val"], split["test"]
    (other / "split.json").write_text(json.dumps(split))
    argv = ["--workdir", str(trained), str(other), "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match="have different slices in split test: what one of them is scored on"):
        eval_command.main(argv)
    assert eval_command.main([*argv, "--split", "all"]) == 0


def test_what_the_report_and_the_table_say(trained, capsys):
    assert evaluate(trained, "--split", "val") == 0
    said, got = capsys.readouterr().out, summary(trained, "val")
    assert got["empty_rule"] in said and f"Report: {trained / 'eval' / 'val' / 'report.html'}" in said
    low, high = got["native"]["ci95"]["mean_dice"]
    assert f"mean Dice {got['native']['mean_dice']:.4g} ({low:.4g} to {high:.4g})" in said
    cost = got["threshold_cost"]
    assert cost["micro_iou"] == pytest.approx(got["native"]["micro_iou"]) and cost["cost"] == 0  # it was chosen here
    assert 0 <= got["calibration"]["ece"] <= 1


# Models


@pytest.fixture(scope="module")
def model(trained, tmp_path_factory):
    """The network of `trained` in a folder, not to be changed."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    assert export.main(["--workdir", str(trained), "--out", str(folder)]) == 0
    return folder


def test_a_model_scores_as_its_run_and_tells_first_what_it_was_trained_on(trained, model, tiny_data, tmp_path, capsys):
    split, n = load_split(trained / "split.json"), len(open_arrays(tiny_data))
    evaluate(trained, "--split", "all", "--output", tmp_path / "run", "--postprocess")
    capsys.readouterr()
    argv = ["--model", str(model), "--data", str(tiny_data), "--postprocess", "--output"]
    assert eval_command.main([*argv, str(tmp_path / "model")]) == 0
    known = len(split.train)
    line = (
        f"{known} of these {n} slices (the same file: {known}; the same number, tumour type and patient: {known}; "
        f"nearly the same picture: {known}). Not recognised: {n - known}."
    )
    assert capsys.readouterr().out.startswith(f"Trained on: {line}\nall: {n} slices of 12 patients")
    assert line in (tmp_path / "model" / "report.html").read_text()
    run, got = (read_json(tmp_path / name / "summary.json") for name in ("run", "model"))
    assert next(iter(got)) == "training_slices" and "training_slices" not in run
    by_key = dict.fromkeys(("file", "identity", "fingerprint"), known)
    expected = {"n": known, "by_key": by_key, "not_recognised": n - known}
    assert got.pop("training_slices").items() >= expected.items()
    assert got.pop("networks") == [open_model(model).sha256] != run.pop("networks")  # of the file, of the checkpoint
    assert got == run
    assert (tmp_path / "model" / "slices.csv").read_bytes() == (tmp_path / "run" / "slices.csv").read_bytes()


def test_what_a_model_cannot_be_scored_on(trained, model, tiny_data, raw_phantom, tmp_path):
    given = {"--model": str(model), "--data": str(tiny_data), "--output": str(tmp_path / "out")}
    for option, value in (("--data", None), ("--output", None), ("--split", "test")):
        argv = [text for pair in (given | {option: value}).items() if pair[1] for text in pair]
        with pytest.raises(UserError, match="--model needs --data and --output, and scores all slices"):
            eval_command.main(argv)
    build(raw_phantom, tmp_path / "d16", size=16, mask_rule="area")
    with pytest.raises(UserError, match="converted at 16x16, the network was trained at 32x32"):
        eval_command.main([text for pair in (given | {"--data": str(tmp_path / "d16")}).items() for text in pair])
    with pytest.raises(UserError, match=r"--workdir .* and --model .* were both given"):
        evaluate(trained, "--model", model)
