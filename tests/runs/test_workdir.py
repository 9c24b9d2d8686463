"""Opening a workdir: configuration, data, split and records, new and resumed."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.arrays import held
from tests.helpers.disk import full
from unet_jax import train
from unet_jax.config import Config, PhantomConfig, SplitConfig, UserError, preset, read_config, to_json
from unet_jax.data.converted.arrays import Arrays
from unet_jax.data.splits import load_split, make_split
from unet_jax.runs import opening
from unet_jax.runs.opening import check_config, open_data, open_split, store_absolute
from unet_jax.runs.records import append_record, cut_records, read_records
from unet_jax.runs.workdir import Workdir
from unet_jax.shared.files import write_text

CONFIG = preset("demo", "/d")


def dataset(digest: str = "0123456789abcdef") -> Arrays:
    """Eight patients of two slices, meningioma and pituitary by turns."""
    return held([f"p{i // 2}" for i in range(16)], [1, 1, 3, 3] * 4, digest=digest)


def silent(line: str) -> None:
    pass


@pytest.fixture
def workdir(tmp_path) -> Workdir:
    return Workdir(tmp_path / "runs" / "a")


@pytest.fixture
def begun(workdir) -> Workdir:
    """The workdir of a run of CONFIG on the dataset."""
    check_config(workdir, CONFIG)
    open_split(workdir, CONFIG, dataset(), silent)
    return workdir


# Names


def test_names_that_scripts_rely_on():
    workdir = Workdir(Path("w"))
    files = ("config.json", "split.json", "metrics.jsonl", "threshold.json", "history.png", "gallery.png")
    for name in (*files, "checkpoints"):
        assert getattr(workdir, name.partition(".")[0]) == Path("w") / name
    assert workdir.data(Config(data="some/where")) == Path("some/where")
    assert workdir.data(Config()) == Path("w/data")


def test_data_are_stored_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert store_absolute(Config(data="d")) == Config(data=str(tmp_path.resolve() / "d"))
    assert store_absolute(Config()) == Config()


# Configuration


def test_the_same_configuration_is_accepted(begun):
    check_config(begun, CONFIG)
    assert read_config(begun.config) == CONFIG


def test_options_that_differ_are_named_with_both_values(begun):
    before = begun.config.read_bytes()
    other = replace(
        CONFIG,
        preset="original",
        seed=3,
        model=replace(CONFIG.model, width=4, norm_momentum=0.9),
        optim=replace(CONFIG.optim, epochs=16),
        loader=replace(CONFIG.loader, batch_size=17),
        split=replace(CONFIG.split, seed=1),
    )
    expected = (
        f"{begun.path} holds a run of another configuration: --preset original (it has demo), --seed 3 (it has 0), "
        "--model.width 4 (it has 16), --model.norm-momentum 0.9 (it has 0.8), --optim.epochs 16 (it has 14), "
        "--loader.batch-size 17 (it has 8), --split.seed 1 (it has 0). Use another --workdir."
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        check_config(begun, other)
    assert begun.config.read_bytes() == before


def test_data_and_pipeline_may_change_and_are_stored(begun):
    other = replace(CONFIG, data="/moved", loader=replace(CONFIG.loader, pipeline="device"))
    check_config(begun, other)
    open_split(begun, other, dataset(), silent)
    assert read_config(begun.config) == other


def test_options_that_the_data_do_not_allow_can_be_mended(workdir):
    wrong = replace(CONFIG, split=SplitConfig(kind="official"))
    check_config(workdir, wrong)
    with pytest.raises(UserError, match=r"no fold from 1 to 5.* use --split\.kind patient"):
        open_split(workdir, wrong, dataset(), silent)
    assert not workdir.config.exists()
    check_config(workdir, CONFIG)
    assert open_split(workdir, CONFIG, dataset(), silent).kind == "patient"


def test_a_broken_stored_configuration_and_a_file_in_the_place_of_the_workdir_are_named(begun, tmp_path):
    begun.config.write_text("{")
    with pytest.raises(UserError, match=r"config\.json is not JSON"):
        check_config(begun, CONFIG)
    (tmp_path / "w").write_text("")
    with pytest.raises(UserError, match=r"w is a file; --workdir must be a folder"):
        check_config(Workdir(tmp_path / "w"), CONFIG)


# Split


def test_a_split_is_drawn_once(workdir):
    check_config(workdir, CONFIG)
    lines = []
    split = open_split(workdir, CONFIG, dataset(), lines.append)
    assert split == make_split(dataset(), CONFIG.split) == load_split(workdir.split)
    assert lines == ["16 slices of 4x4 (mask rule area); split patient: 8 train, 4 validation, 4 test."]
    assert read_config(workdir.config) == CONFIG
    stamp = workdir.split.stat().st_ino
    assert open_split(workdir, CONFIG, dataset(), silent) == split
    assert workdir.split.stat().st_ino == stamp


def test_the_stored_split_is_the_one_used(begun):
    # As a later version of the program could draw another one.
    stored = json.loads(begun.split.read_text())
    stored["train"], stored["val"] = stored["val"], stored["train"]
    begun.split.write_text(json.dumps(stored))
    assert open_split(begun, CONFIG, dataset(), silent).train == stored["train"]


def test_a_split_without_a_configuration_is_drawn_anew(begun):
    begun.config.unlink()
    other = replace(CONFIG, split=SplitConfig(kind="slice"))
    check_config(begun, other)
    assert open_split(begun, other, dataset(), silent).kind == "slice"


def test_the_slice_split_says_how_many_patients_straddle(workdir):
    config = replace(CONFIG, split=SplitConfig(kind="slice", test_fraction=0.5))
    check_config(workdir, config)
    lines = []
    split = open_split(workdir, config, dataset(), lines.append)
    # Slices 10 and 11 are p0's, 12 and 13 p1's, and so on.
    straddling = {s // 2 for s in split.train} & {s // 2 for s in split.val}
    assert straddling
    assert lines[1:] == [
        f"{len(straddling)} patients have slices both in training and in validation, which is also test."
    ]


def test_other_data_are_refused_and_not_stored(begun):
    other = replace(CONFIG, data="/other")
    check_config(begun, other)
    with pytest.raises(UserError, match=r"with digest 0123456789ab, /data has fedcba987654\. Give the folder .*--data"):
        open_split(begun, other, dataset(digest="fedcba9876543210"), silent)
    assert read_config(begun.config) == CONFIG


# Data


def test_the_phantom_is_made_once_and_leaves_nothing_else(workdir, monkeypatch, capsys):
    monkeypatch.setattr(opening, "PhantomConfig", lambda: PhantomConfig(patients=1))
    check_config(workdir, Config())
    lines = []
    arrays = open_data(workdir, Config(), lines.append)
    assert lines == ["Making the phantom: 1 patients."]
    assert arrays.path == workdir.path / "data" and arrays.size == 64 and arrays.info["counts"]["patients"] == 1
    assert [p.name for p in workdir.path.iterdir()] == ["data"]
    again = open_data(workdir, Config(), lines.append)
    assert len(lines) == 1 and again.digest == arrays.digest


def test_given_data_are_opened_and_nothing_is_made(workdir, tmp_path):
    check_config(workdir, CONFIG)
    assert workdir.path.is_dir()
    with pytest.raises(UserError, match=r"nowhere is not a converted dataset"):
        open_data(workdir, replace(CONFIG, data=str(tmp_path / "nowhere")), silent)
    assert list(workdir.path.iterdir()) == []


def test_raw_data_are_told_with_the_command_that_converts_them(workdir, raw_phantom):
    data = str(raw_phantom)
    with pytest.raises(UserError) as e:
        train.main(["--workdir", str(workdir.path), "--data", data])
    command = f"python -m unet_jax.convert --raw {data} --out {data}-128"
    assert str(e.value) == (
        f"{data} holds raw slices and is not a converted dataset. Run `{command}`, and give {data}-128 instead."
    )
    assert {p.name for p in workdir.path.iterdir()} <= {"train.lock"}


# Records


def record(epoch, step=None):
    return {"epoch": epoch, "step": 10 * epoch if step is None else step, "val": {"micro_iou": 0.1 * epoch}}


@pytest.fixture
def recorded(workdir) -> Workdir:
    """Three epochs of ten steps."""
    workdir.path.mkdir(parents=True)
    for epoch in (1, 2, 3):
        append_record(workdir, record(epoch))
    return workdir


def test_records_come_back_in_order(workdir, recorded):
    assert read_records(workdir) == [record(1), record(2), record(3)]
    assert workdir.metrics.read_text().count("\n") == 3
    workdir.metrics.unlink()
    assert read_records(workdir) == []
    append_record(workdir, {"epoch": 1, "step": 1, "loss": float("inf")})
    assert read_records(workdir)[0]["loss"] == float("inf")


@pytest.mark.parametrize("torn", [b'{"epoch": 4, "st', b"{", b"\xff\xfe\x00"])
def test_a_torn_last_line_is_left_out(recorded, torn):
    with recorded.metrics.open("ab") as f:
        f.write(torn)
    assert read_records(recorded) == [record(1), record(2), record(3)]
    cut_records(recorded, 30)
    append_record(recorded, record(4))
    assert read_records(recorded) == [record(1), record(2), record(3), record(4)]


def test_a_last_line_without_its_end_of_line_is_whole(recorded):
    recorded.metrics.write_text(recorded.metrics.read_text().removesuffix("\n"))
    assert read_records(recorded) == [record(1), record(2), record(3)]
    cut_records(recorded, 30)
    assert recorded.metrics.read_text().endswith("}\n")


def test_a_broken_line_in_the_middle_is_named(recorded):
    lines = recorded.metrics.read_text().splitlines()
    recorded.metrics.write_text("\n".join([lines[0], lines[1][:-5], lines[2]]) + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2 is not JSON"):
        read_records(recorded)


@pytest.mark.parametrize(("step", "epochs"), [(30, [1, 2, 3]), (29, [1, 2]), (20, [1, 2]), (10, [1]), (9, []), (0, [])])
def test_records_are_cut_to_a_step(recorded, step, epochs):
    assert [r["epoch"] for r in cut_records(recorded, step)] == epochs
    assert [r["epoch"] for r in read_records(recorded)] == epochs


# Files


@pytest.mark.parametrize("old", [None, "old"])
@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failing_write_leaves_what_was_there_and_the_next_one_replaces_it(tmp_path, monkeypatch, old, fails):
    path = tmp_path / "a.json"
    if old is not None:
        path.write_text(old)
    with monkeypatch.context() as patched:
        patched.setattr(os, fails, full)
        with pytest.raises(OSError, match="No space left"):
            write_text(path, "a longer text", durable=True)
    assert (path.read_text() if path.exists() else None) == old
    write_text(path, "short")
    assert path.read_text() == "short" and list(tmp_path.iterdir()) == [path]


def test_a_failing_write_keeps_the_stored_configuration(begun, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        open_split(begun, replace(CONFIG, data="/moved"), dataset(), silent)
    assert begun.config.read_text() == to_json(CONFIG)
