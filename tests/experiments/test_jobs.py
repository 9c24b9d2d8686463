"""Runs side by side: their options, scores and exports, and a run that fails among them."""

import json

import pytest

from experiments.gpu import jobs


def test_a_runs_own_options_take_the_place_of_common_ones():
    common = ["--data", "d", "--model.decoder-widths", "1", "2", "--augment.vertical-flip"]
    own = ["--model.decoder-widths", "3", "4", "5", "--seed", "1"]
    assert jobs.merged(common, own) == [
        "--data", "d", "--model.decoder-widths", "3", "4", "5", "--augment.vertical-flip", "--seed", "1"
    ]  # fmt: skip


@pytest.mark.slow
def test_runs_are_scored_and_exported_and_a_failing_one_is_named(tiny_data, tmp_path, monkeypatch, capsys):
    common = ["--model.width", "2", "--model.levels", "2", "--loader.batch-size", "4", "--loader.pipeline", "device"]
    listed = {
        "all": [*common, "--optim.epochs", "1"],
        "plain": [],
        "odd": ["--model.width", "0"],
        "two": ["--optim.epochs", "2"],
    }
    (tmp_path / "jobs.json").write_text(json.dumps(listed))
    argv = ["jobs", "--jobs", tmp_path / "jobs.json", "--data", tiny_data, "--out", tmp_path / "out", "--at-once", 2]
    monkeypatch.setattr("sys.argv", [str(word) for word in argv])
    jobs.main()
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [results[name]["epochs"] for name in ("plain", "two")] == [1, 2]
    assert results["odd"]["failed"] == "train" and "--model.width is 0" in results["odd"]["error"][-1]
    summary = json.loads((tmp_path / "out" / "two" / "eval" / "val" / "summary.json").read_text())
    assert results["two"]["plain"]["mean_dice"] == summary["native"]["mean_dice"]
    assert (tmp_path / "out" / "two.model" / "model.safetensors").exists()
    printed = capsys.readouterr().out
    assert "odd                  failed: error: --model.width is 0" in printed and "trained 2 epochs" in printed
