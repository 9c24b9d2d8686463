"""The precision of a run: chosen when it begins, kept or given anew when it goes on, and that of its network in use.

Whether the machine multiplies bfloat16 is played; what is then computed is real.
"""

import json
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from tests.helpers.runs import assert_same_run, final_variables, options, untimed_records
from unet_jax import crossval, train
from unet_jax.config import Config, ModelConfig, UserError, read_config, to_json
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.models import compiler
from unet_jax.runs import crossval as folds
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.load import load
from unet_jax.runs.opening import choose_precision
from unet_jax.runs.workdir import Workdir


@pytest.fixture
def bfloat16(monkeypatch):
    """Function that plays a CPU which multiplies bfloat16, or does not."""
    return lambda there: monkeypatch.setattr(compiler, "has_bfloat16", lambda: there)


def wish(name):
    return ["--model.precision", name]


def stored(workdir):
    return read_config(workdir / "config.json").model.precision


def computed(workdir):
    return [record["precision"] for record in untimed_records(workdir)]


@pytest.fixture
def stopped(tiny_data, tmp_path, monkeypatch, bfloat16):
    """Workdir and options of a run of bfloat16 that was stopped in its second epoch."""
    argv = options(tmp_path / "run", tiny_data, *wish("auto"), epochs=2)
    plain = Interrupts.stopping

    def signalled(interrupts, step):
        if step == 11:  # epochs are of nine
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(interrupts, step)

    bfloat16(True)
    with monkeypatch.context() as while_it_runs:
        while_it_runs.setattr(Interrupts, "stopping", signalled)
        assert train.main(argv) == 75
    assert stored(tmp_path / "run") == "bfloat16" and computed(tmp_path / "run") == ["bfloat16"]
    return tmp_path / "run", argv


@pytest.mark.slow
@pytest.mark.parametrize(("there", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_a_new_run_chooses_by_the_processor(there, expected, tiny_data, tmp_path, bfloat16, capsys):
    bfloat16(there)
    assert train.main(options(tmp_path / "run", tiny_data, *wish("auto"), epochs=1)) == 0
    assert f"\nComputing in {expected}.\n" in capsys.readouterr().out
    assert stored(tmp_path / "run") == expected and computed(tmp_path / "run") == [expected]


@pytest.mark.slow
def test_a_run_goes_on_in_the_precision_that_is_given(stopped, tmp_path):
    workdir, argv = stopped
    shutil.copytree(workdir, tmp_path / "other")
    assert train.main(argv) == 0
    assert train.main(["--workdir", str(tmp_path / "other"), *argv[2:], *wish("float32")]) == 0
    assert computed(workdir) == ["bfloat16", "bfloat16"] and computed(tmp_path / "other") == ["bfloat16", "float32"]
    assert (stored(workdir), stored(tmp_path / "other")) == ("bfloat16", "float32")
    one, other = (jax.tree.leaves(final_variables(w)[1]) for w in (workdir, tmp_path / "other"))
    assert not all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


@pytest.mark.slow
def test_where_bfloat16_is_missing_a_run_goes_on_in_float32(stopped, tmp_path, bfloat16, capsys):
    workdir, argv = stopped
    shutil.copytree(workdir, tmp_path / "float32")
    bfloat16(False)
    assert train.main(argv) == 0
    said = "Computing in float32, since bfloat16 would be no faster on this processor."
    assert said in capsys.readouterr().out
    assert stored(workdir) == "bfloat16" and computed(workdir) == ["bfloat16", "float32"]
    assert train.main(["--workdir", str(tmp_path / "float32"), *wish("float32")]) == 0
    assert "Computing in float32.\n" in capsys.readouterr().out
    assert_same_run(workdir, tmp_path / "float32")


def test_auto_is_what_the_run_has(tmp_path, bfloat16):
    workdir, auto = Workdir(tmp_path), Config(model=ModelConfig(precision="auto"))
    bfloat16(True)
    assert choose_precision(workdir, auto).model.precision == "bfloat16"
    workdir.config.write_text(to_json(Config()))
    assert choose_precision(workdir, auto).model.precision == "float32"
    raw = json.loads(to_json(Config()))
    del raw["model"]["precision"]  # of an earlier version
    workdir.config.write_text(json.dumps(raw))
    assert choose_precision(workdir, auto).model.precision == "float32"
    named = Config(model=ModelConfig(precision="bfloat16"))
    assert choose_precision(workdir, named) == named


def test_folds_are_alike(tiny_data, tmp_path, monkeypatch, bfloat16):
    """Those to come have the precision of the first one, which another machine may have begun."""
    seen = []

    def stop(path, stored, configs, arrays):
        seen.append([config.model.precision for config in configs])
        raise UserError("enough")

    monkeypatch.setattr(folds, "draw_once", stop)
    argv = options(tmp_path / "cv", tiny_data, *wish("auto"), "--folds", 3, epochs=1)
    for there in (True, False):
        bfloat16(there)
        with pytest.raises(UserError, match="enough"):
            crossval.main(argv)
    (tmp_path / "cv" / "fold-1").mkdir()
    (tmp_path / "cv" / "fold-1" / "config.json").write_text(to_json(Config(model=ModelConfig(precision="bfloat16"))))
    with pytest.raises(UserError, match="enough"):
        crossval.main(argv)
    assert seen == [["bfloat16"] * 3, ["float32"] * 3, ["bfloat16"] * 3]


def test_a_network_of_bfloat16_in_use(trained, tiny_data, tmp_path, bfloat16):
    """In bfloat16 where the processor has it, else in float32; one of float32 always so."""
    rough = shutil.copytree(trained, tmp_path / "rough") / "config.json"
    raw = json.loads(rough.read_text())
    raw["model"]["precision"] = "bfloat16"
    rough.write_text(json.dumps(raw))
    arrays = open_arrays(tiny_data)
    slices = [arrays.network_slice(row) for row in range(4)]

    def probs(workdir, **how):
        predictor = load(workdir, **how)
        return predictor.describe()["precision"], np.stack([p.probs for p in predictor.stream_network(slices)])

    bfloat16(True)
    precision, exact = probs(trained)
    assert precision == "float32"
    precision, coarse = probs(rough.parent)
    assert precision == "bfloat16" and 1e-5 < np.abs(coarse - exact).max() < 0.1
    both = load(trained, rough.parent).describe()
    assert both["precision"] == "float32, bfloat16"
    eigen = [probs(workdir, onednn=False) for workdir in (trained, rough.parent)]
    bfloat16(False)
    for precision, same in (probs(rough.parent), *eigen):
        assert precision == "float32"
        np.testing.assert_allclose(same, exact, atol=1e-5)
    np.testing.assert_array_equal(probs(rough.parent)[1], exact)
