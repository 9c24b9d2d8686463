import contextlib
import logging
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from unet_jax.training.checkpoints import store as checkpoint
from unet_jax.training.checkpoints.store import CheckpointError, Checkpoints


@flax.struct.dataclass
class State:
    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any
    sums: Any


def make_state(seed: int = 0, width: int = 3) -> State:
    rng = np.random.default_rng(seed)
    kernel, head = rng.normal(size=(3, 3, 1, width)), rng.normal(size=(width, 700))
    params = {
        "enc0": {"conv1": {"kernel": jnp.asarray(kernel, jnp.float32), "bias": jnp.zeros(width)}},
        "head": {"kernel": jnp.asarray(head, jnp.bfloat16)},
    }
    # Negative zero, a subnormal number and a NaN with a payload: bits are to be equal, not values.
    odd = jnp.asarray(np.array([1 << 31, 1, 0x7FC01234], np.uint32).view(np.float32))
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    return State(
        step=jnp.int32(7 + seed),
        params=params,
        batch_stats={"norm0": {"mean": odd, "var": jnp.arange(3.0)}},
        opt_state=tx.init(params),
        sums={
            "loss": jnp.float32(0.1),
            "key": jnp.array([seed, 2**32 - 1], jnp.uint32),
            "counts": (jnp.zeros((), jnp.int32), None),
        },
    )


def variables(state: State) -> dict[str, Any]:
    return {"params": state.params, "batch_stats": state.batch_stats}


def assert_same_bits(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, jax.Array)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def write(directory: Path, metrics: dict[int, float | None]) -> None:
    with Checkpoints(directory) as checkpoints:
        for step, metric in metrics.items():
            checkpoints.save(step, make_state(step), metric)


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [directory, *directory.rglob("*")]
    }


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Steps 10 and 20, the first the better; to be copied, not changed."""
    directory = tmp_path_factory.mktemp("two") / "checkpoints"
    write(directory, {10: 0.5, 20: 0.25})
    return directory


@pytest.fixture
def copy(two_steps: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_steps, tmp_path / "copy"))


def test_round_trip_gives_the_same_bits_and_classes(tmp_path: Path):
    state = make_state()
    with Checkpoints(tmp_path / "new" / "folder") as checkpoints:
        checkpoints.save(7, state, 0.5)
        assert_same_bits(checkpoints.restore(7, jax.eval_shape(lambda: state)), state)
    with Checkpoints(tmp_path / "new" / "folder", read_only=True) as checkpoints:
        restored = checkpoints.restore(7, make_state(seed=1))
        assert_same_bits(restored, state)
        assert type(restored.opt_state[1][0]) is optax.ScaleByAdamState
        assert_same_bits(checkpoints.restore_variables(7, variables(make_state(seed=1))), variables(state))


def test_restored_arrays_take_the_sharding_asked_for(two_steps: Path):
    sharding = jax.sharding.NamedSharding(jax.make_mesh((1,), ("data",)), jax.sharding.PartitionSpec())
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), variables(make_state()))
    with Checkpoints(two_steps, read_only=True) as checkpoints:
        asked = checkpoints.restore_variables(10, like)
        default = checkpoints.restore_variables(10, jax.eval_shape(lambda: variables(make_state())))
    assert all(x.sharding == sharding for x in jax.tree.leaves(asked))
    assert all(x.sharding == jnp.zeros(()).sharding for x in jax.tree.leaves(default))


def test_empty_batch_stats_are_kept(tmp_path: Path):
    state = make_state().replace(batch_stats={})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, None)
        assert_same_bits(checkpoints.restore(1, state), state)
        assert_same_bits(checkpoints.restore_variables(1, variables(state)), variables(state))


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
            assert [checkpoints.metric(step) for step in kept] == [finite[step - 1] for step in kept]
    names = {str(step) for step in kept} | {f"{step}.json" for step in kept}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_training_goes_on_after_reopening(copy: Path):
    write(copy, {30: 0.1, 40: 0.3})
    with Checkpoints(copy) as checkpoints:
        assert checkpoints.steps() == [10, 30, 40]
        assert checkpoints.best() == 10
        assert_same_bits(checkpoints.restore(40, make_state()), make_state(40))


def test_wait_argument_returns_when_the_step_is_whole(tmp_path: Path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state(), None, wait=True)
        assert (tmp_path / "1.json").exists()


def test_the_same_step_again_is_no_error_and_may_add_its_metric(copy: Path):
    with Checkpoints(copy) as checkpoints:
        before = contents(copy)
        checkpoints.save(20, make_state(99), None)
        checkpoints.save(20, make_state(99), 0.75)
        checkpoints.wait()
        assert contents(copy) == before
        checkpoints.save(30, make_state(30), None)
        checkpoints.save(30, make_state(30), NAN)
        assert checkpoints.metric(30) is None
        checkpoints.save(30, make_state(30), 0.9)
        assert (checkpoints.metric(30), checkpoints.best()) == (0.9, 30)
        assert_same_bits(checkpoints.restore(30, make_state()), make_state(30))


def test_an_older_step_is_refused(copy: Path):
    with Checkpoints(copy) as checkpoints:
        with pytest.raises(CheckpointError, match=r"has step 20 already; expected to save a later one, got step 15"):
            checkpoints.save(15, make_state(), None)
        assert checkpoints.steps() == [10, 20]


def test_a_step_that_is_not_there_is_named(two_steps: Path, tmp_path: Path):
    with Checkpoints(two_steps, read_only=True) as checkpoints:
        for read in (checkpoints.metric, lambda step: checkpoints.restore(step, make_state())):
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


def test_another_shape_is_named_with_both_shapes(two_steps: Path):
    expected = r"^params/enc0/conv1/bias: checkpoint has \(3,\), this configuration expects \(4,\), and \d+ more differ"
    with Checkpoints(two_steps, read_only=True) as checkpoints:
        with pytest.raises(CheckpointError, match=expected):
            checkpoints.restore(10, make_state(width=4))
        with pytest.raises(CheckpointError, match=expected):
            checkpoints.restore_variables(10, variables(make_state(width=4)))


def test_another_dtype_is_named(two_steps: Path):
    like = make_state()
    like = like.replace(step=jax.ShapeDtypeStruct((), jnp.uint32))
    expected = r"^step: checkpoint has int32, this configuration expects uint32 \("
    with Checkpoints(two_steps, read_only=True) as checkpoints, pytest.raises(CheckpointError, match=expected):
        checkpoints.restore(10, like)


def test_other_names_are_counted_and_the_first_one_named(two_steps: Path):
    like = variables(make_state())
    like["params"] = {"enc0": like["params"]["enc0"], "zoom": {"a": jnp.zeros(2), "b": jnp.zeros(2)}}
    expected = (
        r"it lacks 2 of 6 arrays \(first params/zoom/a\) and has 1 that are not expected \(first params/head/kernel\)"
    )
    with Checkpoints(two_steps, read_only=True) as checkpoints, pytest.raises(CheckpointError, match=expected):
        checkpoints.restore_variables(10, like)


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
