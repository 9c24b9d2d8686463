"""Raising the epochs of a finished run: the learning rates of each stretch, and what is refused."""

import json
import math
import os
import re
import shutil
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.helpers.runs import assert_same_run, final_variables, options, untimed_records
from unet_jax import crossval, train
from unet_jax.config import Config, OptimConfig, UserError, read_config, to_json
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.opening import go_on
from unet_jax.runs.records import append_record
from unet_jax.runs.workdir import Workdir

# What is asked of a workdir, without training


def silent(line):
    pass


@pytest.fixture
def finished(tmp_path):
    """Function that makes the workdir of a run by its optimizer's options and its validation IoU after each epoch."""

    def make(*ious, **optim):
        workdir = Workdir(tmp_path / "run")
        workdir.path.mkdir()
        workdir.config.write_text(to_json(Config(optim=OptimConfig(**optim))))
        for epoch, iou in enumerate(ious, 1):
            append_record(workdir, {"epoch": epoch, "step": 10 * epoch, "val": {"micro_iou": iou}})
        return workdir

    return make


def asked(workdir, *, say=silent, new_rate=False, **optim):
    """The optimizer's options to train with, where these are asked for beside those that are stored."""
    stored = read_config(workdir.config)
    return go_on(workdir, replace(stored, optim=replace(stored.optim, **optim)), say, new_rate=new_rate).optim


RATES = {"learning_rate": 0.5, "final_learning_rate": 0.25}


@pytest.mark.parametrize(
    ("schedule", "earlier", "given", "rate"),
    [
        ("constant", (), {}, 0.5),
        ("constant", ((1, 0.125),), {}, 0.125),
        ("constant", ((1, 0.125),), {"learning_rate": 0.5, "new_rate": True}, 0.5),
        ("constant", ((1, 0.125),), {"learning_rate": 0.125, "new_rate": True}, 0.125),
        ("constant", (), {"learning_rate": 2.0}, 2.0),
        ("exponential", (), {}, 0.25),
        ("exponential", (), {"learning_rate": 0.5, "new_rate": True}, 0.25),  # the command of the beginning
        ("exponential", ((1, 0.25),), {"learning_rate": 0.5, "new_rate": True}, 0.25),  # it once more
        ("exponential", ((1, 2.0),), {"learning_rate": 2.0, "new_rate": True}, 2.0),
        ("exponential", ((1, 2.0),), {"learning_rate": 0.5, "new_rate": True}, 0.5),
        ("exponential", ((1, 0.125),), {}, 0.125),  # it began below the final rate, and stayed there
        ("exponential", ((1, 2.0),), {}, 0.25),
        ("exponential", (), {"learning_rate": 2.0}, 2.0),
        ("cosine", (), {"learning_rate": 2.0}, 2.0),
        ("cosine", (), {"learning_rate": 0.5, "new_rate": True}, 0.5),
        ("cosine", ((1, 2.0),), {"learning_rate": 2.0, "new_rate": True}, 2.0),
    ],
)
def test_the_rate_of_the_new_stretch(finished, schedule, earlier, given, rate):
    workdir, lines = finished(0.1, 0.2, epochs=2, schedule=schedule, stretches=earlier, **RATES), []
    had = read_config(workdir.config).optim
    got = asked(workdir, epochs=5, say=lines.append, **given)
    assert got == replace(had, epochs=5, stretches=(*earlier, (2, rate)))
    assert lines == [f"Going on for 3 epochs, from 2 to 5, at a learning rate of {rate:g}."]


@pytest.mark.parametrize("optim", [{"epochs": 5, "learning_rate": 2.0}, {"learning_rate": 2.0}, {}, {"stretches": ()}])
def test_the_same_command_again_goes_on_with_what_it_stored(finished, optim):
    """Where the run is finished and where it is not; of several processes, also with what was stored before."""
    workdir = finished(0.1, 0.2, 0.3, epochs=5, schedule="cosine", stretches=((2, 2.0),), **RATES)
    had = read_config(workdir.config).optim
    assert asked(workdir, **optim) == asked(workdir, **optim, new_rate=True) == had
    assert asked(workdir, **optim, say=pytest.fail) == had


@pytest.mark.parametrize("schedule", ["constant", "exponential", "cosine"])
@pytest.mark.parametrize("rate", [0.5, 2.0])
def test_a_rate_of_before_begins_one_stretch_however_often_it_is_asked_for(finished, schedule, rate):
    workdir = finished(0.1, 0.2, 0.3, epochs=3, schedule=schedule, stretches=((1, 2.0), (2, 1.0)), **RATES)
    for said in ([f"Going on for 2 epochs, from 3 to 5, at a learning rate of {rate:g}."], []):
        lines = []
        got = asked(workdir, epochs=5, learning_rate=rate, new_rate=True, say=lines.append)
        assert (got.epochs, got.learning_rate, got.stretches) == (5, 0.5, ((1, 2.0), (2, 1.0), (3, rate)))
        assert lines == said
        workdir.config.write_text(to_json(Config(optim=got)))


@pytest.mark.parametrize(
    ("ious", "had", "given", "message"),
    [
        ((0.1, 0.2), {}, {"epochs": 1}, "has 2 epochs; --optim.epochs 1 would be fewer. Leave it out, or use another"),
        ((0.1,), {}, {"epochs": 3}, "has done 1 of 2 epochs; --optim.epochs may be raised when it is finished."),
        ((), {}, {"epochs": 3}, "has done 0 of 2 epochs; --optim.epochs may be raised when it is finished."),
        ((0.1,), {}, {"epochs": 1}, "has 2 epochs; --optim.epochs 1 would be fewer."),
        (
            (0.1, 0.2),
            {"schedule": "cosine", "final_learning_rate": 1e-6},
            {"epochs": 7},
            "is at the end of its cosine, a learning rate of 1e-06. Give --optim.learning-rate for the 5 epochs from 2",
        ),
        (
            (0.1, 0.2),
            {},
            {"epochs": 3, "schedule": "cosine"},
            "configuration: --optim.schedule cosine (it has exponential)",
        ),
        ((0.1, 0.2), {}, {"epochs": 3, "clip_norm": 1.0}, "configuration: --optim.clip-norm 1.0 (it has 0.0)"),
        ((0.1, 0.2), {}, {"learning_rate": 0.2}, "configuration: --optim.learning-rate 0.2 (it has 0.001)"),
        ((0.1, 0.2), {}, {"stretches": ((1, 0.5),)}, "configuration: --optim.stretches ((1, 0.5),) (it has ())"),
        (
            (0.2, 0.1),
            {"epochs": 3, "early_stopping": 1},
            {"epochs": 9},
            "was stopped early, after epoch 2, so that more",
        ),
        ((0.2, 0.1), {"early_stopping": 1}, {"epochs": 9}, "was stopped early, after epoch 2, so that more epochs"),
    ],
)
def test_what_is_refused_is_named(finished, ious, had, given, message):
    workdir = finished(*ious, **{"epochs": 2} | had)
    before = workdir.config.read_bytes()
    with pytest.raises(UserError, match=re.escape(message)) as e:
        asked(workdir, **given)
    assert str(workdir.path) in str(e.value) and "\n" not in str(e.value)
    assert workdir.config.read_bytes() == before


@pytest.mark.parametrize(
    "more",
    [{"stretches": ((2, 0.25), (3, 0.25))}, {"warmup_epochs": 2.5}, {"stretches": ((3, 0.25),), "warmup_epochs": 2.0}],
)
@pytest.mark.parametrize("epochs", [2, 0])
def test_fewer_epochs_are_told_before_what_no_longer_fits_them(finished, more, epochs):
    """The command that began the run, after its epochs were raised."""
    workdir = finished(0.1, 0.2, 0.3, 0.4, epochs=4, **RATES, **more)
    with pytest.raises(UserError, match=rf"has 4 epochs; --optim\.epochs {epochs} would be fewer\. Leave it out"):
        train.main(["--workdir", str(workdir.path), "--optim.epochs", str(epochs)])


def test_stretches_that_are_given_must_fit_the_epochs_that_are(finished):
    workdir = finished(0.1, 0.2, 0.3, 0.4, epochs=4, stretches=((3, 0.25),), **RATES)
    with pytest.raises(UserError, match=r"^--optim\.stretches is \(\(5, 0\.25\),\); it must be epochs that rise below"):
        train.main(["--workdir", str(workdir.path), "--optim.stretches", "5", "0.25"])


@pytest.mark.parametrize(
    "stretches",
    [((0, 0.1),), ((4, 0.1),), ((2, 0.1), (2, 0.1)), ((3, 0.1), (2, 0.1)), ((2, 0.0),), ((2, math.nan),)],
)
def test_stretches_rise_below_the_epochs_at_rates_above_0(stretches):
    with pytest.raises(
        UserError, match=r"^--optim\.stretches is .*; it must be epochs that rise below optim\.epochs, each"
    ):
        Config(optim=OptimConfig(epochs=4, stretches=stretches)).check()
    optim = OptimConfig(epochs=4, stretches=((2, 0.1), (3, 0.1)))
    assert optim.check() is optim


# Training


def rates(workdir):
    """Learning rate of the last step of each epoch."""
    return [record["learning_rate"] for record in untimed_records(workdir)]


def stored(workdir):
    return json.loads((workdir / "config.json").read_text())["optim"]


@pytest.fixture(scope="module")
def trained_once(tiny_data, tmp_path_factory):
    """Function that copies a run of one epoch, which is nine steps, to a workdir; trained once for each schedule."""
    folder, made = tmp_path_factory.mktemp("finished"), {}

    def make(schedule, workdir):
        if schedule not in made:
            made[schedule] = folder / schedule
            assert train.main(options(made[schedule], tiny_data, "--optim.schedule", schedule, epochs=1)) == 0
        return shutil.copytree(made[schedule], workdir)

    return make


@pytest.mark.slow
def test_an_exponential_schedule_goes_on_at_its_last_rate(trained_once, tmp_path, capsys):
    workdir = trained_once("exponential", tmp_path / "run")
    for argv in (["--optim.epochs", "2"], []):
        assert train.main(["--workdir", str(workdir), *argv]) == 0
    assert "This run was finished before: 2 epochs." in capsys.readouterr().out
    assert rates(workdir) == pytest.approx([1e-3 * 0.1 ** (8 / 9), 1e-4])
    assert stored(workdir)["stretches"] == [[1, 1e-4]]
    assert stored(workdir)["learning_rate"] == 1e-3 and stored(workdir)["epochs"] == 2


@pytest.mark.slow
def test_a_constant_rate_goes_on_and_equals_a_run_of_as_many_epochs(trained_once, tiny_data, tmp_path):
    schedule = ("--optim.schedule", "constant")
    assert train.main(options(tmp_path / "whole", tiny_data, *schedule, epochs=3)) == 0
    workdir = trained_once("constant", tmp_path / "run")
    for epochs in (2, 3):
        assert train.main(options(workdir, tiny_data, *schedule, epochs=epochs)) == 0
    one, other = final_variables(workdir), final_variables(tmp_path / "whole")
    jax.tree.map(np.testing.assert_array_equal, one, other)
    for record, expected in zip(untimed_records(workdir), untimed_records(tmp_path / "whole"), strict=True):
        assert record == expected | {"learning_rate": pytest.approx(1e-3)}
    assert stored(workdir)["stretches"] == [[1, 1e-3], [2, 1e-3]]


@pytest.mark.slow
def test_a_cosine_begins_anew_and_is_resumed_to_the_bit(trained_once, tmp_path, monkeypatch):
    whole, stopped = (trained_once("cosine", tmp_path / name) for name in ("whole", "stopped"))
    with pytest.raises(UserError, match=r"Give --optim\.learning-rate for the 2 epochs from 1 to 3"):
        train.main(["--workdir", str(whole), "--optim.epochs", "3"])
    more = ["--optim.epochs", "3", "--optim.learning_rate=1e-3"]  # the one it has, but given
    assert train.main(["--workdir", str(whole), *more]) == 0
    # Half a cosine in 18 steps: after 8 of them at 80 degrees, after 17 at 170.
    assert rates(whole)[1:] == pytest.approx([5.5e-4 + 4.5e-4 * c for c in (0.17364818, -0.98480775)], abs=1e-9)
    plain = Interrupts.stopping

    def signalled(interrupts, step):
        if step == 13:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(interrupts, step)

    with monkeypatch.context() as while_it_runs:
        while_it_runs.setattr(Interrupts, "stopping", signalled)
        assert train.main(["--workdir", str(stopped), *more]) == 75
    assert stored(stopped)["stretches"] == [[1, 1e-3]]
    assert train.main(["--workdir", str(stopped), *more]) == 0
    assert_same_run(stopped, whole)


@pytest.mark.slow
def test_stretches_given_to_a_new_run_train_the_same(trained_once, tiny_data, tmp_path):
    """They stand in the configuration, which decides all."""
    workdir = trained_once("exponential", tmp_path / "run")
    assert train.main(["--workdir", str(workdir), "--optim.epochs", "2"]) == 0
    schedule = ("--optim.schedule", "exponential", "--optim.stretches", 1, 1e-4)
    assert train.main(options(tmp_path / "new", tiny_data, *schedule, epochs=2)) == 0
    assert read_config(tmp_path / "new" / "config.json") == read_config(workdir / "config.json")
    assert rates(tmp_path / "new") == pytest.approx(rates(workdir))
    one, other = final_variables(workdir), final_variables(tmp_path / "new")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), one, other)


@pytest.mark.slow
def test_a_cross_validation_keeps_its_epochs(tiny_data, tmp_path):
    argv = [*options(tmp_path / "cv", tiny_data, epochs=1), "--folds", "3"]
    assert crossval.main(argv) == 0
    with pytest.raises(UserError, match=r"another configuration: --optim\.epochs 2 \(it has 1\)"):
        crossval.main([*argv, "--optim.epochs", "2"])
