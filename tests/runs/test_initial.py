"""Runs that start from another network's weights: what is taken, when it is read, and whom those weights have seen."""

import csv
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

from tests.helpers.runs import final_variables, options
from unet_jax import eval as eval_door
from unet_jax import export, train
from unet_jax.config import Config, ModelConfig, UserError, read_config
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.converted.build import build
from unet_jax.data.splits import load_split
from unet_jax.models.pretrained import Pretrained
from unet_jax.runs import model_folder
from unet_jax.runs.initial import initial_arrays, known_patients, open_source, started_from, store_initial
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.model_folder import read_info
from unet_jax.runs.networks import open_run
from unet_jax.runs.opening import store_absolute
from unet_jax.runs.workdir import Workdir
from unet_jax.training.checkpoints.trees import flatten
from unet_jax.training.state import init_state

ARRAYS = 34
"""Arrays of the smallest network: kernel and bias of 13 convolutions, and four of each of two normalisations."""


@pytest.fixture(scope="module")
def source(tiny_data, tmp_path_factory) -> Path:
    """A run of one epoch, not to be changed."""
    workdir = tmp_path_factory.mktemp("source") / "first"
    assert train.main(options(workdir, tiny_data, epochs=1)) == 0
    return workdir


@pytest.fixture(scope="module")
def folder(source, tmp_path_factory) -> Path:
    """The same, exported."""
    out = tmp_path_factory.mktemp("models") / "tiny"
    assert export.main(["--workdir", str(source), "--out", str(out)]) == 0
    return out


def stopped(monkeypatch, argv):
    """Begin a run and stop it before its first step, which saves the weights that it starts with."""
    plain = Interrupts.stopping

    def signalled(interrupts, step):
        os.kill(os.getpid(), signal.SIGTERM)
        return plain(interrupts, step)

    with monkeypatch.context() as patched:
        patched.setattr(Interrupts, "stopping", signalled)
        assert train.main(argv) == 75


def started(workdir: Path) -> dict[str, np.ndarray]:
    step, variables = final_variables(workdir)
    assert step == 0
    return flatten(variables)


def initial(workdir: Path):
    return json.loads((workdir / "initial.json").read_text())


def patients(data: Path, numbers) -> list[str]:
    """Patient of each slice, from the dataset's own table."""
    with (data / "slices.csv").open() as f:
        pids = {int(row["slice"]): row["pid"] for row in csv.DictReader(f)}
    return [pids[number] for number in numbers]


# What is taken


@pytest.mark.slow
def test_a_run_starts_with_the_values_of_another_and_never_reads_it_again(source, tiny_data, tmp_path, monkeypatch):
    given = shutil.copytree(source, tmp_path / "given")
    argv = options(tmp_path / "run", tiny_data, "--seed", 7, "--init-from", given, epochs=1)
    stopped(monkeypatch, argv)
    best = open_run(source)
    assert best.step > 0
    expected, got = flatten(best.variables), started(tmp_path / "run")
    assert len(expected) == len(got) == ARRAYS
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)
    written = initial(tmp_path / "run")
    assert written["encoder_weights"] is None
    assert (written["init_from"]["source"], written["init_from"]["sha256"]) == (str(given), best.sha256)
    assert (written["init_from"]["arrays"], written["init_from"]["of"]) == (ARRAYS, ARRAYS)
    shutil.rmtree(given)
    before = (tmp_path / "run" / "initial.json").read_bytes()
    assert train.main(argv) == 0
    assert (tmp_path / "run" / "initial.json").read_bytes() == before
    with pytest.raises(UserError, match=r"another configuration: --init-from .*else \(it has .*given\)"):
        train.main([*argv[:-1], str(tmp_path / "else")])


def test_the_moving_average_starts_there_too_and_the_optimizer_afresh(source):
    config = replace(read_config(source / "config.json"), seed=5)
    config = replace(config, optim=replace(config.optim, ema_decay=0.9))
    taken = open_source(str(source), config.model).taken
    tx = optax.adam(0.1)
    state, fresh = init_state(config, 32, tx, initial=taken), init_state(config, 32, tx)
    for variables in (state.variables, {"params": state.params, "batch_stats": state.batch_stats}):
        jax.tree.map(np.testing.assert_array_equal, flatten(variables), taken)
    jax.tree.map(np.testing.assert_array_equal, state.opt_state, fresh.opt_state)
    assert state.step == 0


def test_an_exported_folder_and_a_model_of_the_package_are_sources(source, folder, monkeypatch):
    model = read_config(source / "config.json").model
    expected = open_source(str(source), model).taken
    monkeypatch.setattr(model_folder, "SHIPPED_FOLDER", folder.parent)
    for name in (str(folder), "tiny"):
        found = open_source(name, model)
        assert found.network.sha256 == open_source(str(folder), model).network.sha256
        jax.tree.map(np.testing.assert_array_equal, found.taken, expected)


def test_the_output_layer_of_other_classes_is_drawn(source):
    config = read_config(source / "config.json")
    config = replace(config, seed=3, model=replace(config.model, classes=3))
    found, tx = open_source(str(source), config.model), optax.sgd(0.1)
    said = f"Starts from {source}: {ARRAYS - 2} of {ARRAYS} arrays (not output/bias, output/kernel)."
    assert found.describe() == said
    assert replace(found, left_out=[f"params/{i}" for i in range(6)]).describe().endswith("(not 0, 1, 2, 3, 2 more).")
    got, drawn = init_state(config, 32, tx, initial=found.taken).params, init_state(config, 32, tx).params
    np.testing.assert_array_equal(got["output"]["kernel"], drawn["output"]["kernel"])
    expected = open_run(source).variables["params"]
    np.testing.assert_array_equal(got["up0"]["conv1"]["kernel"], expected["up0"]["conv1"]["kernel"])


def test_what_fits_nowhere_and_what_is_not_there_is_refused_before_anything_is_stored(source, tiny_data, tmp_path):
    """The bias of the output has its shape whatever the width."""
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"first: no kernel of it but the output's has the name and shape"):
        train.main(options(run, tiny_data, "--init-from", source, "--model.width", 3, epochs=1))
    with pytest.raises(UserError, match=r"--init-from is nothing; expected the workdir of a trained run"):
        train.main(options(run, tiny_data, "--init-from", "nothing", epochs=1))
    assert not (run / "config.json").exists() and not (run / "initial.json").exists()


def test_a_source_that_changed_before_the_first_step_is_refused(source, tiny_data, tmp_path, monkeypatch):
    argv = options(tmp_path / "run", tiny_data, "--init-from", source, epochs=1)
    stopped(monkeypatch, argv)
    workdir = Workdir(tmp_path / "run")
    config = read_config(workdir.config)
    assert len(initial_arrays(workdir, config) or {}) == ARRAYS
    workdir.initial.write_text(workdir.initial.read_text().replace(open_run(source).sha256, "0" * 64))
    with pytest.raises(
        UserError, match=r"first has other weights \(SHA-256 \w{64}\) than when the run in .* \(0{64}\)"
    ):
        initial_arrays(workdir, config)
    workdir.initial.write_text("{}")
    with pytest.raises(UserError, match=r"initial\.json is damaged"):
        initial_arrays(workdir, config)
    workdir.initial.unlink()
    with pytest.raises(UserError, match=r"initial\.json is missing, and the run started from .*first\. Restore it"):
        initial_arrays(workdir, config)


def test_paths_are_stored_absolute_and_names_of_models_as_they_are(tmp_path, monkeypatch):
    (tmp_path / "runs").mkdir()
    monkeypatch.chdir(tmp_path)
    for given, stored in (("runs", "runs"), ("runs/a", "runs/a"), ("./best", "best")):
        assert store_absolute(Config(init_from=given)).init_from == str(tmp_path.resolve() / stored)
    assert store_absolute(Config(init_from="best")).init_from == "best"


def test_the_digest_of_an_encoders_weights_is_kept_and_without_any_there_is_no_file(tiny_data, source, tmp_path):
    workdir, arrays, split = Workdir(tmp_path), open_arrays(tiny_data), load_split(source / "split.json")
    store_initial(workdir, arrays, split, Pretrained("hf:a/b", "d1", {}), None, print)
    assert initial(tmp_path) == {"encoder_weights": {"source": "hf:a/b", "sha256": "d1"}, "init_from": None}
    store_initial(workdir, arrays, split, None, None, print)
    assert not workdir.initial.exists() and not (source / "initial.json").exists()


# Whom the weights have seen


@pytest.mark.slow
def test_slices_of_patients_that_the_weights_were_trained_on_are_counted(
    source, tiny_data, tmp_path, monkeypatch, capsys
):
    """Also those of the network that the other network started from."""
    trained, counts, before = [patients(tiny_data, load_split(source / "split.json").train)], [], source
    for seed in (1, 2):
        run = tmp_path / f"seed-{seed}"
        capsys.readouterr()
        assert train.main(options(run, tiny_data, "--split.seed", seed, "--init-from", before, epochs=1)) == 0
        seen_by = {pid for pids in trained for pid in pids}
        split, said = load_split(run / "split.json"), capsys.readouterr().out
        val, test = (sum(pid in seen_by for pid in patients(tiny_data, side)) for side in (split.val, split.test))
        assert initial(run)["init_from"]["seen"] == {"val": val, "test": test}
        assert initial(run)["init_from"]["patients"] == sorted(seen_by)
        line = (
            f"{val} of {len(split.val)} validation and {test} of {len(split.test)} test slices are of patients that "
            f"{before} was trained on."
        )
        assert line in said
        counts.append((test, len(split.test)))
        trained.append(patients(tiny_data, split.train))
        before = run
    # Otherwise the counts would tell nothing.
    (first, n), (second, of) = counts
    assert 0 < first < n and second > 0
    assert eval_door.main(["--workdir", str(before)]) == 0
    said = f"Started from: seed-1; {second} of these {of} slices are of patients trained on there."
    assert said in capsys.readouterr().out
    summary = json.loads((before / "eval" / "test" / "summary.json").read_text())
    described = initial(before)
    del described["init_from"]["patients"]
    assert summary["initial"] == {"seen": second, "runs": [described]}
    assert f"seed-1; {second} of these {of} slices" in (before / "eval" / "test" / "report.html").read_text()
    # Of folds each is scored on slices of its own; a slice that two networks were scored on counts once.
    arrays, runs = open_arrays(tiny_data), [open_run(tmp_path / "seed-1"), open_run(before), open_run(source)]
    tested = [run.split.rows(arrays, "test") for run in runs]
    expected = set()
    for run, known in zip(runs, ({*trained[0]}, {*trained[0], *trained[1]}, set()), strict=True):
        pids = patients(tiny_data, run.split.test)
        expected |= {number for number, pid in zip(run.split.test, pids, strict=True) if pid in known}
    found = started_from(list(zip(runs, tested, strict=True)), arrays)
    assert found is not None and found["seen"] == len(expected)
    assert [run["init_from"] is None for run in found["runs"]] == [False, False, True]
    assert started_from([(runs[2], tested[2])], arrays) is None


def test_a_network_of_other_data_is_known_by_their_slices(source, folder, raw_phantom, tmp_path, tiny_data):
    """As long as the data, or their keys, are there."""
    build(raw_phantom, tmp_path / "any", size=32, mask_rule="any")
    arrays = open_arrays(tmp_path / "any")
    assert arrays.digest != open_arrays(tiny_data).digest
    expected = set(patients(tiny_data, load_split(source / "split.json").train))
    assert 0 < len(expected) < 12
    model = open_source(str(folder), read_config(source / "config.json").model).network
    run = open_run(source)
    assert known_patients(run, arrays) == known_patients(model, arrays) == expected
    gone = replace(run, config=replace(run.config, data=str(tmp_path / "gone")))
    assert known_patients(gone, arrays) is None
    assert known_patients(gone, open_arrays(tiny_data)) == expected


@pytest.mark.slow
def test_an_export_tells_that_its_run_started_from_another(source, tiny_data, tmp_path, capsys):
    run, out = tmp_path / "run", tmp_path / "out"
    assert train.main(options(run, tiny_data, "--init-from", source, epochs=1)) == 0
    assert export.main(["--workdir", str(run), "--out", str(out)]) == 0
    assert read_info(out).init_from == open_run(source).sha256
    card = (out / "README.md").read_text()
    assert f"The weights started from those of the network `first` (SHA-256 `{open_run(source).sha256}`)" in card
    assert str(source) not in card and "--init-from first" in card
    scores = ["--data", str(tiny_data), "--output", str(tmp_path / "scores")]
    assert eval_door.main(["--model", str(out), *scores]) == 0
    assert f"Its weights started from others (SHA-256 {open_run(source).sha256})" in capsys.readouterr().out
    network = open_source(str(out), ModelConfig(width=2, levels=2)).network
    assert known_patients(network, open_arrays(tiny_data)) is None
