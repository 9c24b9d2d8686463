"""The newest finished run of a folder, and `eval` without a run."""

import os
import shutil
from pathlib import Path

import pytest

from unet_jax import eval as eval_command
from unet_jax.config import Config, OptimConfig, UserError, to_json
from unet_jax.runs.newest import newest_finished
from unet_jax.runs.records import append_record
from unet_jax.runs.workdir import Workdir


def a_run(path, *, saved, epochs=2, done=2, **optim):
    """The files of a run that say how far it is, and when its last checkpoint was saved."""
    workdir = Workdir(path)
    workdir.checkpoints.mkdir(parents=True)
    workdir.config.write_text(to_json(Config(optim=OptimConfig(epochs=epochs, **optim))))
    for epoch in range(1, done + 1):
        append_record(workdir, {"epoch": epoch, "step": epoch, "val": {"micro_iou": 1 / epoch}})
        manifest = workdir.checkpoints / f"{epoch}.json"
        manifest.touch()
        os.utime(manifest, (0, saved + epoch - done))
    return path


def test_the_one_whose_last_checkpoint_is_newest(tmp_path):
    assert newest_finished(tmp_path / "runs") is None
    for name, saved in (("a", 3000), ("b", 5000), ("c/d", 4000)):
        a_run(tmp_path / "runs" / name, saved=saved)
    assert newest_finished(tmp_path / "runs") == tmp_path / "runs" / "b"
    # A look at another one makes it no newer, and a symbolic link is a name as good as any.
    (tmp_path / "runs" / "a" / "eval").mkdir()
    os.utime(tmp_path / "runs" / "a" / "metrics.jsonl", (0, 9000))
    assert newest_finished(tmp_path / "runs") == tmp_path / "runs" / "b"
    a_run(tmp_path / "runs" / "c" / "e", saved=6000)
    assert newest_finished(tmp_path / "runs") == tmp_path / "runs" / "c" / "e"
    (tmp_path / "runs" / "loop").symlink_to(tmp_path / "runs")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link").symlink_to(tmp_path / "runs" / "a")
    assert newest_finished(tmp_path / "other") == tmp_path / "other" / "link"
    assert newest_finished(tmp_path / "runs") == tmp_path / "runs" / "c" / "e"


def test_what_is_no_finished_run_is_left_out(tmp_path):
    runs = tmp_path / "runs"
    good = a_run(runs / "good", saved=1000, epochs=9, early_stopping=1)
    a_run(runs / "under-way", saved=2000, done=1)
    a_run(runs / "not-begun", saved=2000, done=0)
    a_run(runs / "cv" / "fold-1", saved=2000)
    (runs / "cv" / "crossval.json").write_text('{"folds": 3}')
    a_run(runs / "damaged", saved=2000)
    (runs / "damaged" / "config.json").write_text("{")
    a_run(runs / "torn", saved=2000)
    (runs / "torn" / "metrics.jsonl").write_text("{\n{\n")
    a_run(runs / "odd", saved=2000)
    (runs / "odd" / "metrics.jsonl").write_text('{"epoch": 2}\n3\n')
    shutil.rmtree(a_run(runs / "moved", saved=2000) / "checkpoints")
    (runs / "notes.txt").write_text("")
    (runs / "model").mkdir()
    (runs / "model" / "config.json").write_text('{"format_version": 1}')  # as `export` writes
    assert newest_finished(runs) == good


def test_eval_takes_it_and_says_so(trained, tiny_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="neither --workdir nor --model was given, and runs/ holds no finished run"):
        eval_command.main([])
    shutil.copytree(trained, "runs/a")
    a_run(Path("runs/b"), saved=2**32, done=1)
    assert eval_command.main(["--split", "val"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("Scoring runs/a, the newest finished run in runs/, since neither --workdir nor --model was")
    assert Path("runs/a/eval/val/summary.json").is_file()
