"""Cross-validation: every slice is scored once, by the network that left it out; and a stopped one goes on."""

import csv
import json
import os
import shutil
import signal

import numpy as np
import pytest

import tests.helpers.runs as helpers
from unet_jax import crossval, train
from unet_jax import eval as eval_door
from unet_jax.config import UserError
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.splits import load_split
from unet_jax.imaging.resize import from_network
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.networks import open_predictor
from unet_jax.runs.workdir import run_folders


def options(workdir, data, *more):
    return helpers.options(workdir, data, "--optim.learning-rate", 0.01, *more, epochs=3)


@pytest.fixture(scope="module")
def crossvalidated(tiny_data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("crossval") / "cv"
    assert crossval.main(options(workdir, tiny_data, "--folds", 3)) == 0
    return workdir


def summary(path):
    return json.loads((path / "summary.json").read_text())


def test_every_slice_is_scored_once_by_the_fold_that_left_it_out(crossvalidated, tiny_data):
    arrays, splits = open_arrays(tiny_data), [load_split(f / "split.json") for f in run_folders(crossvalidated)]
    assert len(splits) == 3
    assert sorted(s for split in splits for s in split.test) == arrays.slices.tolist()
    out = crossvalidated / "eval" / "oof"
    with (out / "slices.csv").open() as f:
        rows = {int(r["slice"]): r for r in csv.DictReader(f)}
    assert sorted(rows) == arrays.slices.tolist()
    got = summary(out)
    assert (got["split"], got["n_slices"]) == ("oof", len(arrays))
    thresholds = []
    for folder, split in zip(run_folders(crossvalidated), splits, strict=True):
        predictor = open_predictor(folder)
        thresholds.append(predictor.threshold)
        row = int(split.rows(arrays, "test")[0])
        ((probs, _),) = predictor.stream_network([arrays.network_slice(row)])
        mask = arrays.native_mask(row)
        pred = from_network(probs, mask.shape) >= np.float32(predictor.threshold)
        found = rows[int(arrays.slices[row])]
        assert int(found["native_predicted_pixels"]) == pytest.approx(pred.sum(), abs=2)
    assert got["thresholds"] == thresholds
    for name in ("patients.csv", "gallery.png", "report.html"):
        assert (out / name).stat().st_size > 0


def test_a_fold_is_what_training_it_alone_gives(crossvalidated, tiny_data, tmp_path):
    alone = tmp_path / "alone"
    assert train.main(options(alone, tiny_data, "--split.kind", "folds", "--split.folds", 3, "--split.fold", 2)) == 0
    fold = crossvalidated / "fold-2"
    assert load_split(alone / "split.json") == load_split(fold / "split.json")
    assert helpers.untimed_records(fold) == helpers.untimed_records(alone)


def test_a_finished_one_is_only_scored_again(crossvalidated, capsys):
    before = {p: p.read_bytes() for p in crossvalidated.rglob("*.json*")}
    assert crossval.main(["--workdir", str(crossvalidated)]) == 0
    assert {p: p.read_bytes() for p in crossvalidated.rglob("*.json*")} == before
    assert "oof:" in capsys.readouterr().out


def test_a_stopped_one_goes_on(crossvalidated, tiny_data, tmp_path, monkeypatch, capsys):
    plain, workdir = Interrupts.stopping, tmp_path / "cv"

    def signalled(interrupts, step):
        if (workdir / "fold-2").exists() and step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(interrupts, step)

    monkeypatch.setattr(Interrupts, "stopping", signalled)
    assert crossval.main(options(workdir, tiny_data, "--folds", 3)) == 75
    assert "SIGTERM: saved" in capsys.readouterr().out
    assert not (workdir / "fold-3").exists() and not (workdir / "eval").exists()
    with pytest.raises(UserError, match=r"fold-3 is missing: the cross-validation is not finished"):
        open_predictor(workdir)
    monkeypatch.undo()
    assert crossval.main(["--workdir", str(workdir)]) == 0
    assert summary(workdir / "eval" / "oof") == summary(crossvalidated / "eval" / "oof")


def test_it_stands_for_the_average_of_its_folds(crossvalidated, raw_phantom, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (32, 32)).astype(np.uint8) for _ in range(2)]
    each = [next(open_predictor(f).stream(images[:1])).probs for f in run_folders(crossvalidated)]
    np.testing.assert_allclose(
        next(open_predictor(crossvalidated).stream(images[:1])).probs, np.mean(each, axis=0), atol=1e-6
    )


def test_its_average_is_not_scored_on_what_it_was_trained_on(crossvalidated, tmp_path):
    argv = ["--workdir", str(crossvalidated), "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"have different slices in split test: .*own scores are in its eval/oof"):
        eval_door.main(argv)
    assert eval_door.main([*argv, "--split", "all"]) == 0
    assert summary(tmp_path / "out")["split"] == "all"
    with pytest.raises(UserError, match="--output is needed for 3 runs averaged"):
        eval_door.main(argv[:2])


def test_another_number_of_folds_or_another_run_is_refused(crossvalidated, tiny_data, trained):
    with pytest.raises(UserError, match="holds a cross-validation of 3 folds, not 4"):
        crossval.main(options(crossvalidated, tiny_data, "--folds", 4))
    with pytest.raises(UserError, match=r"--model\.width 4 \(it has 2\)"):
        crossval.main(["--workdir", str(crossvalidated), "--model.width", "4"])
    with pytest.raises(UserError, match="holds a single run"):
        crossval.main(options(trained, tiny_data))


@pytest.mark.parametrize("text", ["{", "{}", '{"folds": "3"}', "[]"])
def test_a_damaged_record_is_named(crossvalidated, tiny_data, tmp_path, text):
    shutil.copytree(crossvalidated, tmp_path / "cv")
    (tmp_path / "cv" / "crossval.json").write_text(text)
    with pytest.raises(UserError, match=r"crossval\.json is damaged"):
        open_predictor(tmp_path / "cv")
    with pytest.raises(UserError, match=r"crossval\.json is damaged|folds, not"):
        crossval.main(options(tmp_path / "cv", tiny_data, "--folds", 3))
