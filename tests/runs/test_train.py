"""Training from the command line: what a run leaves, and that a stopped one ends as if it had not been stopped."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tests.helpers.runs as helpers
from tests.helpers.commands import exit_code
from tests.helpers.runs import assert_same_run, final_variables, wait_for
from unet_jax import train
from unet_jax.config import RunError, UserError
from unet_jax.data.converted.build import build
from unet_jax.data.splits import load_split
from unet_jax.runs import interrupts as interrupts_module
from unet_jax.runs.interrupts import Interrupts
from unet_jax.runs.records import best_record, read_records
from unet_jax.runs.workdir import Workdir
from unet_jax.training import steps as steps_module
from unet_jax.training.checkpoints.store import Checkpoints

EPOCHS = 12
options = functools.partial(helpers.options, epochs=EPOCHS, pipeline="auto")


def started(argv):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "unet_jax.train", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def clean(tiny_data, tmp_path_factory):
    """A run that nothing stopped."""
    workdir = tmp_path_factory.mktemp("clean") / "run"
    assert train.main(options(workdir, tiny_data)) == 0
    return workdir


def test_what_a_run_leaves(clean, tiny_data):
    for name in ("config.json", "split.json", "metrics.jsonl", "threshold.json", "history.png", "gallery.png"):
        assert (clean / name).stat().st_size > 0, name
    assert list(clean.glob("events.out.tfevents.*"))
    split, records = load_split(clean / "split.json"), read_records(Workdir(clean))
    steps = len(split.train) // 4
    assert [r["epoch"] for r in records] == list(range(1, EPOCHS + 1))
    assert [r["step"] for r in records] == [steps * e for e in range(1, EPOCHS + 1)]
    assert records[-1]["learning_rate"] == pytest.approx(
        1e-3 * 0.1 ** ((records[-1]["step"] - 1) / records[-1]["step"])
    )
    for side in ("train", "val"):
        assert set(records[0][side]) == {"loss", "micro_iou", "micro_dice", "pixel_accuracy"}
    assert records[-1]["train"]["loss"] < records[0]["train"]["loss"]
    chosen = json.loads((clean / "threshold.json").read_text())
    best = max(records, key=lambda r: (r["val"]["micro_iou"], r["epoch"]))
    assert chosen["checkpoint_step"] == best["step"]
    assert chosen["micro_iou"] == max(chosen["curve"].values()) == chosen["curve"][f"{chosen['threshold']:.2f}"]
    with Checkpoints(clean / "checkpoints", read_only=True) as checkpoints:
        assert set(checkpoints.steps()) == {best["step"], records[-2]["step"], records[-1]["step"]}


def test_a_finished_run_says_so_and_changes_nothing(clean, tiny_data, capsys):
    def content():
        times = {p: p.stat().st_mtime_ns for p in (clean / "checkpoints").rglob("*")}
        return times | {p: p.read_bytes() for p in clean.iterdir() if p.suffix in (".png", ".jsonl", ".json")}

    before = content()
    for argv in (options(clean, tiny_data), ["--workdir", str(clean)]):  # the workdir alone is enough
        assert train.main(argv) == 0
        assert "was finished before" in capsys.readouterr().out
        assert content() == before

    def kept():
        times = {p: p.stat().st_mtime_ns for p in (clean / "checkpoints").rglob("*")}
        return times, {p: p.read_bytes() for p in clean.iterdir() if p.suffix in (".png", ".jsonl", ".json")}


def test_another_configuration_other_data_and_missing_records_are_refused(clean, tiny_data, tmp_path, raw_phantom):
    shutil.copytree(clean, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").unlink()
    with pytest.raises(UserError, match=r"metrics\.jsonl lacks epochs that the checkpoint of step \d+ has behind it"):
        train.main(["--workdir", str(tmp_path / "run")])
    with pytest.raises(UserError, match=r"--model\.width 4 \(it has 2\)"):
        train.main(options(clean, tiny_data, "--model.width", 4))
    build(raw_phantom, tmp_path / "d", size=32, mask_rule="any")
    with pytest.raises(UserError, match="was trained on data with digest"):
        train.main(options(clean, tmp_path / "d"))


@pytest.mark.slow
def test_killed_and_resumed_equals_the_clean_run(clean, tiny_data, tmp_path):
    """The clean run streams by tf.data, this one holds its arrays on the device: the same batches, the same result."""
    argv = options(tmp_path / "run", tiny_data, pipeline="device")
    with started(argv) as process:
        wait_for(process, f"epoch 3/{EPOCHS}")
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert len(read_records(Workdir(tmp_path / "run"))) < EPOCHS
    assert train.main(argv) == 0
    assert_same_run(tmp_path / "run", clean)


@pytest.mark.slow
def test_sigterm_from_outside_saves_and_exits_75(tiny_data, tmp_path):
    argv = options(tmp_path / "run", tiny_data)
    with started(argv) as process:
        wait_for(process, f"epoch 2/{EPOCHS}")
        process.terminate()
        assert "SIGTERM: saved" in process.stdout.read()
    assert process.returncode == 75
    step, _ = final_variables(tmp_path / "run")
    assert step >= read_records(Workdir(tmp_path / "run"))[1]["step"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_within_an_epoch_and_resumed_equals_the_clean_run(
    clean, tiny_data, tmp_path, monkeypatch, capsys, number
):
    """The sums of the broken epoch are kept: its line in metrics.jsonl is that of the clean run."""
    plain, workdir = Interrupts.stopping, tmp_path / "run"

    def signalled(interrupts, step):
        if step == 2:
            os.kill(os.getpid(), number)
        return plain(interrupts, step)

    monkeypatch.setattr(Interrupts, "stopping", signalled)
    argv = options(workdir, tiny_data)
    assert train.main(argv) == 75
    assert f"{number.name}: saved" in capsys.readouterr().out
    step, _ = final_variables(workdir)
    assert 0 < step < read_records(Workdir(clean))[0]["step"]
    assert read_records(Workdir(workdir)) == []
    monkeypatch.undo()
    assert train.main(argv) == 0
    assert_same_run(workdir, clean)


@pytest.mark.parametrize("same", [True, False])
def test_a_second_signal(tiny_data, tmp_path, monkeypatch, same):
    """At once it is the first one come twice; later the run ends where it is."""
    plain = Interrupts.stopping

    def signalled(interrupts, step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return plain(interrupts, step)

    monkeypatch.setattr(Interrupts, "stopping", signalled)
    if not same:
        monkeypatch.setattr(interrupts_module, "SAME_SECONDS", 0.0)
    argv = helpers.options(tmp_path / "run", tiny_data, epochs=2)
    assert exit_code(train.main, *argv) == (75 if same else 1)
    assert (tmp_path / "run" / "checkpoints" / "2.json").exists() == same


@pytest.mark.slow
def test_a_moving_average_goes_on_to_the_bit(tiny_data, tmp_path, monkeypatch):
    more = ["--optim.ema-decay", 0.9, "--optim.weight-decay", 0.1, "--optim.freeze-encoder-epochs", 1.5]
    whole, stopped = (options(tmp_path / name, tiny_data, *more, epochs=2) for name in ("whole", "stopped"))
    assert train.main(whole) == 0
    plain = Interrupts.stopping

    def signalled(interrupts, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(interrupts, step)

    monkeypatch.setattr(Interrupts, "stopping", signalled)
    assert train.main(stopped) == 75
    monkeypatch.undo()
    assert train.main(stopped) == 0
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


@pytest.mark.parametrize("most", [1, 3])
def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tiny_data, tmp_path, monkeypatch, most):
    """Whichever of the steps done at a time it is."""
    plain, poisoned_from = steps_module.make_train_step, 11

    def make(config, tx, frozen):
        step = plain(config, tx, frozen)

        def poisoned(state, batch, key):
            factor = jnp.where(state.step >= poisoned_from, jnp.nan, 1.0)
            return step(state, batch._replace(images=batch.images * factor), key)

        return poisoned

    monkeypatch.setattr(steps_module, "make_train_step", make)
    monkeypatch.setattr(steps_module, "steps_per_dispatch", lambda: most)
    workdir = tmp_path / "run"
    with pytest.raises(RunError, match=rf"loss is nan at step {poisoned_from}\. The checkpoint of step \d+ is kept"):
        train.main(options(workdir, tiny_data, epochs=5))
    records = read_records(Workdir(workdir))
    steps = records[0]["step"]
    step, variables = final_variables(workdir)
    assert step == steps * (poisoned_from // steps) and len(records) == poisoned_from // steps
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(variables))


def test_seconds_are_those_of_the_steps_alone(tiny_data, tmp_path, monkeypatch):
    """By a clock that only moves when something is compiled, a feed begins, a step is done or validation runs."""
    now = [0.0]
    monkeypatch.setattr("unet_jax.runs.journal.time", SimpleNamespace(monotonic=lambda: now[0]))

    def slow(name, seconds):
        plain = getattr(steps_module, name)

        def slowed(*args, **kwargs):
            now[0] += seconds
            return plain(*args, **kwargs)

        monkeypatch.setattr(steps_module, name, slowed)

    slow("compile_steps", 1000.0)
    slow("feed", 1000.0)
    slow("run_steps", 7.0)
    slow("eval_batches", 1000.0)
    assert train.main(options(tmp_path / "run", tiny_data, epochs=2)) == 0
    assert [r["seconds"] for r in read_records(Workdir(tmp_path / "run"))] == [7.0, 7.0]


@pytest.mark.slow
def test_a_run_begun_on_four_devices_goes_on_with_one(clean, tiny_data, tmp_path):
    """Rounding differs, and Adam makes a step of it where a gradient is next to nothing; the losses are as close."""
    code = """
import os, signal, sys
from unet_jax import train
from unet_jax.training.steps import Trainer
plain = Trainer.start
def start(trainer, state):
    assert trainer.mesh.size == 4
    advance = plain(trainer, state)
    def signalled(state, stop, on_losses, stopping):
        def stopping_then(step):
            if step == trainer.steps_per_epoch + 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return stopping(step)
        return advance(state, stop, on_losses, stopping_then)
    return signalled
Trainer.start = start
sys.exit(train.main(sys.argv[1:]))
"""
    argv = options(tmp_path / "run", tiny_data)
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, "-c", code, *argv], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 75, done.stderr
    assert "Using" not in done.stdout
    assert len(read_records(Workdir(tmp_path / "run"))) == 1
    assert train.main(argv) == 0
    records, others = (read_records(Workdir(w)) for w in (tmp_path / "run", clean))
    assert [r["epoch"] for r in records] == list(range(1, EPOCHS + 1))
    for one, other in zip(records[:3], others[:3], strict=True):
        for side in ("train", "val"):
            assert one[side]["loss"] == pytest.approx(other[side]["loss"], rel=2e-3)


@pytest.mark.slow
def test_early_stopping(tiny_data, tmp_path, capsys):
    """With a learning rate of nothing the first epoch stays the best."""
    nothing = ["--optim.learning-rate", "1e-30", "--optim.final-learning-rate", "1e-30"]
    # The running statistics still move; without them validation stays as it is.
    still = [*nothing, "--model.norm", "none"]
    assert train.main(options(tmp_path / "run", tiny_data, *still, "--optim.early-stopping", 2)) == 0
    records = read_records(Workdir(tmp_path / "run"))
    assert [r["epoch"] for r in records] == [1, 2, 3]
    assert len({r["val"]["micro_iou"] for r in records}) == 1
    # Of equals the latest is the best: for the records, the checkpoints and what was evaluated.
    assert best_record(records) == records[-1]
    with Checkpoints(tmp_path / "run" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.best() == records[-1]["step"]
    assert json.loads((tmp_path / "run" / "threshold.json").read_text())["checkpoint_step"] == records[-1]["step"]
    assert "3 epochs" in capsys.readouterr().out


def test_size_that_does_not_fit_the_network(tiny_data, tmp_path):
    with pytest.raises(UserError, match="image is 32x32; both sides must be multiples of 64"):
        train.main(["--workdir", str(tmp_path / "run"), "--data", str(tiny_data), "--model.levels", "6"])


def test_wrong_usage_exits_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as e:
        train.main(["--workdir", str(tmp_path / "run"), "--model.width", "wide"])
    assert e.value.code == 2
    assert not Path(tmp_path / "run").exists()
