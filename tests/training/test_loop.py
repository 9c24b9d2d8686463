"""Steps in a row: which are done together, what is told of them, and that stopping loses nothing."""

import functools
import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from unet_jax.config import Config, ModelConfig, OptimConfig
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.training.batches import Order, feed
from unet_jax.training.loop import IN_FLIGHT, compile_steps, portions, run_steps, steps_per_dispatch
from unet_jax.training.mesh import data_mesh, replicated
from unet_jax.training.optimizer import make_optimizer
from unet_jax.training.state import Sums, TrainState, init_state
from unet_jax.training.steps import make_train_steps

CONFIG = Config(model=ModelConfig(width=2, levels=2), optim=OptimConfig(epochs=3, learning_rate=0.01))


@pytest.mark.parametrize(
    ("steps", "most", "expected"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 8, [2]), (3, 1, [1, 1, 1]), (0, 4, [])]
)
def test_portions(steps, most, expected):
    assert list(portions(steps, most)) == expected


def test_a_cpu_does_one_step_at_a_time(monkeypatch):
    assert steps_per_dispatch() == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert steps_per_dispatch() > 1


# The loop, with steps that only count


class Counter:
    """Compiles to steps that write down what they are asked."""

    def __init__(self):
        self.asked = []

    def lower(self, state, source, key, *, count):
        def steps(state, source, key):
            self.asked.append((count, source))
            return state.replace(step=state.step + count), np.arange(count) + float(state.step)

        return SimpleNamespace(compile=lambda: steps)


def at(step: int) -> TrainState:
    return TrainState(step=step, params={}, batch_stats={}, opt_state=(), sums=Sums.zeros())


@pytest.mark.parametrize(
    ("start", "length", "most", "sizes"),
    [(0, 9, 4, [1, 4]), (0, 8, 4, [4]), (0, 3, 4, [3]), (2, 9, 4, [1, 3, 4]), (13, 9, 4, [1, 4]), (5, 9, 1, [1])],
)
def test_compiled_is_what_the_dispatches_need(start, length, most, sizes):
    assert list(compile_steps(Counter(), at(start), "", None, start, length, most)) == sizes


def test_losses_are_told_in_order_while_two_dispatches_are_under_way():
    counter, told = Counter(), []
    compiled = compile_steps(counter, at(0), "", None, 0, 9, 4)

    def settled(step, losses):
        told.append((step, losses.tolist(), len(counter.asked)))

    state = run_steps(compiled, at(0), iter([("a", 8), ("b", 1), ("c", 9)]), 18, None, settled)
    assert state.step == 18
    assert counter.asked == [(4, "a"), (4, "a"), (1, "b"), (4, "c"), (4, "c"), (1, "c")]
    assert [step for step, *_ in told] == [0, 4, 8, 9, 13, 17]
    assert [loss for _, losses, _ in told for loss in losses] == list(range(18))
    assert [asked for *_, asked in told] == [1 + IN_FLIGHT, 4, 5, 6, 6, 6]


def test_a_stop_ends_between_dispatches_with_all_losses_told():
    counter, told = Counter(), []
    compiled = compile_steps(counter, at(0), "", None, 0, 9, 2)

    def settled(step, losses):
        told.append(step)

    pieces = iter([("a", 8), ("b", 1)])
    state = run_steps(compiled, at(0), pieces, 9, None, settled, stopping=lambda step: len(counter.asked) == 3)
    assert (state.step, told) == (6, [0, 2, 4])


def test_what_is_raised_about_a_loss_ends_the_loop():
    counter = Counter()
    compiled = compile_steps(counter, at(0), "", None, 0, 9, 1)

    def settled(step, losses):
        raise ValueError(f"step {step}")

    with pytest.raises(ValueError, match="step 0"):
        run_steps(compiled, at(0), iter([("a", 9)]), 9, None, settled)
    assert len(counter.asked) == 1 + IN_FLIGHT


# Real steps: 24 slices in batches of 4, so an epoch has six steps


def train(data, pipeline, *legs):
    """The state and the losses after two epochs.

    A leg is the number of steps that it does at a time, and how often before it is stopped; the next one goes on from
    there with a new feed and a new loop. The last is not stopped.
    """
    arrays = open_arrays(data)
    order = Order(np.arange(24), 4, seed=1)
    mesh, _ = data_mesh(4)
    tx = make_optimizer(CONFIG.optim, order.steps_per_epoch)
    state, key = jax.device_put((init_state(CONFIG, arrays.size, tx), jax.random.key(5)), replicated(mesh))
    train_steps = make_train_steps(CONFIG, tx, mesh)
    losses = []

    def settled(step, new):
        assert step == len(losses)
        losses.extend(new.tolist())

    for most, times in legs:
        asked, start = itertools.count(), int(state.step)
        pieces = feed(arrays, order, start, 12, pipeline, mesh, most)
        piece = next(pieces)
        pieces = itertools.chain([piece], pieces)
        compiled = compile_steps(train_steps, state, piece[0], key, start, order.steps_per_epoch, most)
        # Asked before each dispatch: `times` of them are done.
        most_often = np.inf if times is None else times
        stopped = functools.partial(lambda asked, most, step: next(asked) >= most, asked, most_often)
        state = run_steps(compiled, state, pieces, 12, key, settled, stopped)
    assert int(state.step) == len(losses) == 12
    return jax.device_get(state), losses


@pytest.mark.parametrize("most", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_both_pipelines_train_the_same_parameters(tiny_data, most):
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed, as on Python 3.14 and newer")
    streamed, held = (train(tiny_data, pipeline, (most, None)) for pipeline in ("tfdata", "device"))
    jax.tree.map(np.testing.assert_array_equal, streamed, held)


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 3])
def test_training_resumed_within_an_epoch_is_the_same_to_the_bit(tiny_data, most):
    whole, resumed = train(tiny_data, "device", (most, None)), train(tiny_data, "device", (most, 1), (most, None))
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)


@pytest.mark.slow
def test_steps_done_at_a_time_do_not_matter(tiny_data):
    """One at a time, three at a time, and three at a time from within an epoch: 1, 1, 1, 1, then 2, 3, 3."""
    alone, losses = train(tiny_data, "device", (1, None))
    for legs in ([(3, None)], [(1, 4), (3, None)]):
        together, other_losses = train(tiny_data, "device", *legs)
        np.testing.assert_allclose(losses, other_losses, rtol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), alone, together)
