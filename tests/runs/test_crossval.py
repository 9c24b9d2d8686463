"""Cross-validation: every slice is scored once, by the network that left it out; and a stopped one goes on."""

import csv
import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest

import tests.helpers.runs as helpers
from unet_jax import crossval, train
from unet_jax import eval as eval_door
from unet_jax.config import Config, UserError, fold_configs
from unet_jax.data import splits
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.splits import load_split, make_split
from unet_jax.imaging.resize import from_network
from unet_jax.runs import crossval as drawing
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.load import load
from unet_jax.runs.opening import open_split
from unet_jax.runs.workdir import Workdir, run_folders


def options(workdir, data, *more):
    return helpers.options(workdir, data, "--optim.learning-rate", 0.01, *more, epochs=3)


@pytest.fixture(scope="module")
def crossvalidated(tiny_data, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("crossval") / "cv"
    assert crossval.main(options(workdir, tiny_data, "--folds", 3)) == 0
    return workdir


def summary(path):
    return json.loads((path / "summary.json").read_text())


@pytest.mark.slow
def test_every_slice_is_scored_once_by_the_fold_that_left_it_out(crossvalidated, tiny_data):
    arrays, of_folds = open_arrays(tiny_data), [load_split(f / "split.json") for f in run_folders(crossvalidated)]
    assert len(of_folds) == 3
    assert sorted(s for split in of_folds for s in split.test) == arrays.slices.tolist()
    out = crossvalidated / "eval" / "oof"
    with (out / "slices.csv").open() as f:
        rows = {int(r["slice"]): r for r in csv.DictReader(f)}
    assert sorted(rows) == arrays.slices.tolist()
    got = summary(out)
    assert (got["split"], got["n_slices"]) == ("oof", len(arrays))
    thresholds = []
    for folder, split in zip(run_folders(crossvalidated), of_folds, strict=True):
        predictor = load(folder)
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


@pytest.mark.slow
def test_a_fold_is_what_training_it_alone_gives(crossvalidated, tiny_data, tmp_path):
    alone = tmp_path / "alone"
    assert train.main(options(alone, tiny_data, "--split.kind", "folds", "--split.folds", 3, "--split.fold", 2)) == 0
    fold = crossvalidated / "fold-2"
    assert load_split(alone / "split.json") == load_split(fold / "split.json")
    assert helpers.untimed_records(fold) == helpers.untimed_records(alone)


@pytest.mark.slow
def test_a_finished_one_is_only_scored_again(crossvalidated, capsys):
    before = {p: p.read_bytes() for p in crossvalidated.rglob("*.json*")}
    assert crossval.main(["--workdir", str(crossvalidated)]) == 0
    assert {p: p.read_bytes() for p in crossvalidated.rglob("*.json*")} == before
    assert "oof:" in capsys.readouterr().out


@pytest.mark.slow
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
        load(workdir)
    monkeypatch.undo()
    # Nothing is drawn a second time, and a fold is a workdir that `train` alone goes on with.
    for module in (splits, drawing):
        monkeypatch.setattr(module, "draw_folds", None)
    assert train.main(["--workdir", str(workdir / "fold-2")]) == 0
    assert crossval.main(["--workdir", str(workdir)]) == 0
    got, expected = summary(workdir / "eval" / "oof"), summary(crossvalidated / "eval" / "oof")
    # A network's digest is that of its checkpoint's files, in which the time of writing stands.
    assert len(got.pop("networks")) == len(expected.pop("networks")) == 3
    assert got == expected


@pytest.mark.slow
def test_it_stands_for_the_average_of_its_folds(crossvalidated, raw_phantom, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (32, 32)).astype(np.uint8) for _ in range(2)]
    each = [next(load(f).stream(images[:1])).probs for f in run_folders(crossvalidated)]
    np.testing.assert_allclose(next(load(crossvalidated).stream(images[:1])).probs, np.mean(each, axis=0), atol=1e-6)


@pytest.mark.slow
def test_its_average_is_not_scored_on_what_it_was_trained_on(crossvalidated, tmp_path):
    argv = ["--workdir", str(crossvalidated), "--output", str(tmp_path / "out")]
    with pytest.raises(UserError, match=r"have different slices in split test: .*own scores are in its eval/oof"):
        eval_door.main(argv)
    assert eval_door.main([*argv, "--split", "all"]) == 0
    assert summary(tmp_path / "out")["split"] == "all"
    with pytest.raises(UserError, match="--output is needed for 3 runs averaged"):
        eval_door.main(argv[:2])


@pytest.mark.slow
def test_another_number_of_folds_or_another_run_is_refused(crossvalidated, tiny_data, trained):
    with pytest.raises(UserError, match="holds a cross-validation of 3 folds, not 4"):
        crossval.main(options(crossvalidated, tiny_data, "--folds", 4))
    with pytest.raises(UserError, match=r"--model\.width 4 \(it has 2\)"):
        crossval.main(["--workdir", str(crossvalidated), "--model.width", "4"])
    with pytest.raises(UserError, match="holds a single run"):
        crossval.main(options(trained, tiny_data))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["{", "{}", '{"folds": "3"}', "[]"])
def test_a_damaged_record_is_named(crossvalidated, tiny_data, tmp_path, text):
    shutil.copytree(crossvalidated, tmp_path / "cv")
    (tmp_path / "cv" / "crossval.json").write_text(text)
    with pytest.raises(UserError, match=r"crossval\.json is damaged"):
        load(tmp_path / "cv")
    with pytest.raises(UserError, match=r"crossval\.json is damaged|folds, not"):
        crossval.main(options(tmp_path / "cv", tiny_data, "--folds", 3))


# The drawing of the folds, without training


class Drawing:
    """A cross-validation of `n` folds whose folds can be drawn, begun and drawn again."""

    def __init__(self, path, data, n, kind="patient"):
        self.path, self.arrays = path, open_arrays(data)
        self.record = path / "crossval.json"
        config = Config(data=str(data))
        self.configs = fold_configs(replace(config, split=replace(config.split, kind=kind)), n)

    def draw(self):
        stored = drawing._open_folder(self.path, len(self.configs))
        return drawing.draw_once(self.path, stored, self.configs, self.arrays)

    def begin(self, fold, split):
        workdir = Workdir(self.path / f"fold-{fold}")
        workdir.path.mkdir()
        open_split(workdir, self.configs[fold - 1], self.arrays, lambda line: None, drawn=split)

    def forget(self):
        """Leave crossval.json as older versions wrote it."""
        self.record.write_text(json.dumps({"folds": len(self.configs)}))


@pytest.fixture
def five(tmp_path, tiny_data):
    return Drawing(tmp_path / "five", tiny_data, 5)


@pytest.fixture
def update(monkeypatch):
    """Have folds drawn otherwise from now on, as an update of scikit-learn might."""
    drawn_before = drawing.draw_folds
    changed = lambda arrays, config: config.folds + 1 - drawn_before(arrays, config)  # noqa: E731
    return lambda: monkeypatch.setattr(drawing, "draw_folds", changed)


def test_folds_are_drawn_together_and_stored(five, update):
    first = five.draw()
    assert sorted(s for split in first for s in split.test) == five.arrays.slices.tolist()
    assert first == [make_split(five.arrays, config.split) for config in five.configs]
    stored = json.loads(five.record.read_text())
    assert (stored["folds"], stored["data_digest"]) == (5, five.arrays.digest)
    assert set(stored["patients"]) == set(five.arrays.pids)
    update()
    assert five.draw() != first  # no fold has begun


@pytest.mark.parametrize("begun", [[1], [2], [1, 2]])
def test_an_update_in_between_tests_no_slice_twice(five, update, begun):
    first = five.draw()
    for fold in begun:
        five.begin(fold, first[fold - 1])
    update()
    assert five.draw() == first


@pytest.mark.parametrize(("n", "begun"), [(3, [1]), (5, [1, 2, 3]), (5, [2, 4]), (5, [1, 2, 3, 4, 5])])
def test_folds_of_older_versions_go_on_where_they_imply_the_rest(tmp_path, tiny_data, update, n, begun):
    older = Drawing(tmp_path / "cv", tiny_data, n)
    first = older.draw()
    for fold in begun:
        older.begin(fold, first[fold - 1])
    older.forget()
    update()
    assert older.draw() == first


def test_other_folds_of_older_versions_go_on_only_where_they_are_drawn_alike(five, update):
    first = five.draw()
    five.begin(1, first[0])
    five.forget()
    assert five.draw() == first
    assert "patients" in json.loads(five.record.read_text())
    five.forget()
    update()
    with pytest.raises(
        UserError, match=r"five has begun with other folds than .* Use another --workdir, or the version"
    ):
        five.draw()


def test_folds_that_overlap_are_refused(five, update):
    first = five.draw()
    update()
    other = five.draw()
    five.begin(1, first[0])
    five.begin(5, other[4])  # the same patients are for test in both
    for forget in (lambda: None, five.forget):
        forget()
        with pytest.raises(UserError, match=r"five has begun with other folds than|is on two sides of split folds"):
            five.draw()


@pytest.mark.parametrize("patients", [None, [], {"p": "x"}, {"p": 1}, 0, 6])
def test_damaged_patients_are_refused(five, patients):
    first = five.draw()
    five.begin(1, first[0])
    content = json.loads(five.record.read_text())
    if isinstance(patients, int):  # the fold of one patient, who would be tested in none
        of_training = five.arrays.pids[five.arrays.slices == first[0].train[0]][0]
        patients = {**content["patients"], of_training: patients}
    five.record.write_text(json.dumps({**content, "patients": patients}))
    with pytest.raises(UserError, match=r"is damaged\. Delete it|leaves none for|has begun with other folds than"):
        five.draw()
    five.record.unlink()
    assert five.draw() == first


def test_official_folds_are_not_drawn(tmp_path, tiny_data):
    official = Drawing(tmp_path / "cv", tiny_data, 5, kind="official")
    drawn = splits.draw_folds(official.arrays, official.configs[0].split)
    official.arrays = replace(official.arrays, folds=drawn)
    first = official.draw()
    assert first == [make_split(official.arrays, config.split) for config in official.configs]
    assert json.loads(official.record.read_text()) == {"folds": 5}
    official.begin(1, first[0])
    assert official.draw() == first
