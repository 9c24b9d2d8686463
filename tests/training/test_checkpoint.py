import contextlib
import logging
import os
import signal
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from tests.helpers.checkpoints import State, assert_same_bits, make_state, variables, write
from tests.helpers.disk import contents
from unet_jax.training.checkpoints import manifest
from unet_jax.training.checkpoints import store as checkpoint
from unet_jax.training.checkpoints.store import CheckpointError, Checkpoints


def stored_metric(directory: Path, step: int) -> float | None:
    return manifest.read(directory / f"{step}.json").metric


@pytest.mark.parametrize("state", [make_state(), make_state().replace(batch_stats={})], ids=["all", "no statistics"])
def test_round_trip_gives_the_same_bits_and_classes(tmp_path: Path, state: State):
    with Checkpoints(tmp_path / "new" / "folder") as checkpoints:
        checkpoints.save(7, state, 0.5, wait=True)
        assert (tmp_path / "new" / "folder" / "7.json").exists()
        assert_same_bits(checkpoints.restore(7, jax.eval_shape(lambda: state)), state)
    with Checkpoints(tmp_path / "new" / "folder", read_only=True) as checkpoints:
        other = make_state(seed=1).replace(batch_stats=state.batch_stats)
        restored = checkpoints.restore(7, other)
        assert_same_bits(restored, state)
        assert type(restored.opt_state[1][0]) is optax.ScaleByAdamState
        assert_same_bits(checkpoints.restore_variables(7, variables(other)), variables(state))


def test_restored_arrays_take_the_sharding_asked_for(two_steps: Path):
    sharding = jax.sharding.NamedSharding(jax.make_mesh((1,), ("data",)), jax.sharding.PartitionSpec())
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), variables(make_state()))
    with Checkpoints(two_steps, read_only=True) as checkpoints:
        asked = checkpoints.restore_variables(10, like)
        default = checkpoints.restore_variables(10, jax.eval_shape(lambda: variables(make_state())))
    assert all(x.sharding == sharding for x in jax.tree.leaves(asked))
    assert all(x.sharding == jnp.zeros(()).sharding for x in jax.tree.leaves(default))


def test_state_may_be_donated_while_it_is_written(tmp_path: Path):
    advance = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    state = {"params": {f"w{i}": jnp.full(200_000, float(i)) for i in range(5)}, "batch_stats": {}, "n": jnp.int32(0)}
    # The check below says something only where a donated buffer is written over at once.
    before = state["params"]["w3"].unsafe_buffer_pointer()
    state = advance(state)
    assert state["params"]["w3"].unsafe_buffer_pointer() == before
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2, 3):
            expected = jax.tree.map(np.array, state)
            checkpoints.save(step, state, None)
            for _ in range(5):
                state = advance(state)
            restored = checkpoints.restore(step, state)
            assert_same_bits(restored, expected)
            # What was restored is the program's own too.
            assert_same_bits(advance(restored), jax.tree.map(lambda x: x + 1, expected))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("metrics", "kept", "best"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [5, 6], 6),
        ([0.5, 0.5, 0.4, 0.3, 0.5, 0.2], [5, 6], 5),
        ([0.5, 0.5, 0.4, 0.3, 0.1, 0.2], [2, 5, 6], 2),
        ([0.1, 0.7, NAN, 0.3, None, INF], [2, 5, 6], 2),
        ([NAN, -INF, -1.0, None, -1.5, NAN], [3, 5, 6], 3),
        ([None, NAN, None, INF, -INF, NAN], [5, 6], None),
    ],
)
def test_the_newest_two_and_the_best_are_kept(tmp_path: Path, metrics: list[float | None], kept: list[int], best):
    state = {"params": {"w": jnp.zeros(2)}, "batch_stats": {}, "step": jnp.int32(0)}
    with Checkpoints(tmp_path) as checkpoints:
        assert (checkpoints.steps(), checkpoints.latest(), checkpoints.best()) == ([], None, None)
        for step, metric in enumerate(metrics, start=1):
            checkpoints.save(step, state, metric)
            checkpoints.wait()
            assert checkpoints.latest() == step
    for read_only in (True, False):
        with Checkpoints(tmp_path, read_only=read_only) as checkpoints:
            assert (checkpoints.steps(), checkpoints.latest(), checkpoints.best()) == (kept, 6, best)
            finite = [None if m is None or not np.isfinite(m) else m for m in metrics]
            assert [stored_metric(tmp_path, step) for step in kept] == [finite[step - 1] for step in kept]
    names = {str(step) for step in kept} | {f"{step}.json" for step in kept}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_ctrl_c_amid_a_save_comes_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plain, heeded = ocp.AsyncCheckpointer.save, signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        plain(*args, **kwargs)

    monkeypatch.setattr(ocp.AsyncCheckpointer, "save", interrupted)
    try:
        with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(7, make_state(), 0.5)
    finally:
        signal.signal(signal.SIGINT, heeded)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "7.json"]
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert_same_bits(checkpoints.restore(7, make_state(seed=1)), make_state())


def test_training_goes_on_after_reopening(copy: Path):
    write(copy, {30: 0.1, 40: 0.3})
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps() == [10, 30, 40]
        assert checkpoints.best() == 10
        assert_same_bits(checkpoints.restore(40, make_state()), make_state(40))


def test_the_same_step_again_is_no_error_and_may_add_its_metric(copy: Path):
    with Checkpoints(copy) as checkpoints:
        before = contents(copy)
        checkpoints.save(20, make_state(99), None)
        checkpoints.save(20, make_state(99), 0.75)
        checkpoints.wait()
        assert contents(copy) == before
        checkpoints.save(30, make_state(30), None)
        checkpoints.save(30, make_state(30), NAN)
        checkpoints.wait()
        assert stored_metric(copy, 30) is None
        checkpoints.save(30, make_state(30), 0.9)
        assert (stored_metric(copy, 30), checkpoints.best()) == (0.9, 30)
        assert_same_bits(checkpoints.restore(30, make_state()), make_state(30))


def test_an_older_step_is_refused(copy: Path):
    with Checkpoints(copy) as checkpoints:
        with pytest.raises(CheckpointError, match=r"has step 20 already; expected to save a later one, got step 15"):
            checkpoints.save(15, make_state(), None)
        assert checkpoints.steps() == [10, 20]


def test_a_step_that_is_not_there_is_named(two_steps: Path, tmp_path: Path):
    with Checkpoints(two_steps, read_only=True) as checkpoints:
        for read in (checkpoints.variables_digest, lambda step: checkpoints.restore(step, make_state())):
            with pytest.raises(CheckpointError, match=r"no checkpoint of step 15.*it has 10, 20"):
                read(15)
    with Checkpoints(tmp_path / "absent", read_only=True) as checkpoints:
        with pytest.raises(CheckpointError, match=r"no checkpoint of step 15.*it has none"):
            checkpoints.restore(15, make_state())
        assert checkpoints.steps() == []
    assert not (tmp_path / "absent").exists()


def test_read_only_changes_nothing(copy: Path):
    # What a training run in another process has under way must survive, too.
    (copy / "30.orbax-checkpoint-tmp").mkdir()
    (copy / "30").mkdir()
    (copy / "30.json.tmp").write_text("{")
    before = contents(copy)
    with Checkpoints(copy, read_only=True) as checkpoints:
        assert (checkpoints.steps(), checkpoints.latest(), checkpoints.best()) == ([10, 20], 20, 10)
        checkpoints.restore(10, make_state())
        checkpoints.restore_variables(20, variables(make_state()))
        with pytest.raises(ValueError, match="read only"):
            checkpoints.save(40, make_state(), None)
    assert contents(copy) == before


# Another network


def other_names() -> State:
    params = {"enc0": make_state().params["enc0"], "zoom": {"a": jnp.zeros(2), "b": jnp.zeros(2)}}
    return make_state().replace(params=params)


@pytest.mark.parametrize(
    ("like", "expected"),
    [
        (
            make_state(width=4),
            r"^params/enc0/conv1/bias: checkpoint has \(3,\), this configuration expects \(4,\), and \d+ more differ",
        ),
        (
            make_state().replace(batch_stats={"norm0": {"mean": jnp.zeros(3), "var": jnp.arange(3)}}),
            r"^batch_stats/norm0/var: checkpoint has float32, this configuration expects int32 \(",
        ),
        (
            other_names(),
            r"lacks 2 of \d+ arrays \(first params/zoom/a\) and has 1 .* expected \(first params/head/kernel\)",
        ),
    ],
    ids=["shape", "dtype", "names"],
)
def test_what_another_network_expects_is_named_with_what_is_there(two_steps: Path, like: State, expected: str):
    with Checkpoints(two_steps, read_only=True) as checkpoints:
        with pytest.raises(CheckpointError, match=expected):
            checkpoints.restore_variables(10, variables(like))
        with pytest.raises(CheckpointError, match=expected):
            checkpoints.restore(10, like)


# Manners


def test_no_thread_is_left_after_closing(tmp_path: Path):
    before = set(threading.enumerate())
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(), 0.5)
        checkpoints.restore(1, make_state())
        checkpoints.save(2, make_state(), 0.5)
    checkpoints.close()
    assert set(threading.enumerate()) <= before


def test_orbax_is_silent_and_others_are_not(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch, capfd):
    caplog.set_level(logging.INFO, "absl")
    before = list(logging.getLogger("absl").filters)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(), 0.5)
        checkpoints.restore(1, make_state())
        logging.getLogger("absl").info("from elsewhere")
    assert [record.message for record in caplog.records] == ["from elsewhere"]
    assert capfd.readouterr().out == ""
    assert logging.getLogger("absl").filters == before
    # Without the filter there is something to hear.
    monkeypatch.setattr(checkpoint, "_quiet_orbax", contextlib.nullcontext)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.restore(1, make_state())
    assert any(f"{os.sep}orbax{os.sep}" in record.pathname for record in caplog.records)
