"""The schedule, the optimizer and the compiled steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.config import AugmentConfig, Config, ModelConfig, OptimConfig
from unet_jax.models.compiler import compiler_options
from unet_jax.scoring.metrics import Counts
from unet_jax.training.batches import Batch
from unet_jax.training.losses import loss_value
from unet_jax.training.mesh import data_mesh
from unet_jax.training.optimizer import learning_rate, make_optimizer
from unet_jax.training.state import Sums, all_finite, init_state
from unet_jax.training.steps import class_targets, make_eval_step, make_train_step

SMALL = Config(model=ModelConfig(width=2, levels=1), optim=OptimConfig(epochs=2, learning_rate=0.01))


def a_batch(n=4, size=8, seed=0):
    rng = np.random.default_rng(seed)
    masks = np.zeros((n, size, size), np.uint8)
    masks[:, 2:5, 1:4] = 1
    images = (rng.integers(0, 200, masks.shape) + 600 * masks.astype(int)).astype(np.int16)
    p1, p99 = np.zeros(n, np.float32), np.full(n, 800, np.float32)
    return jax.device_put(
        Batch(images, masks, np.ones(n, np.int32), p1, p99, np.ones(n, bool), np.zeros(n, np.float32))
    )


@pytest.mark.parametrize(
    ("optim", "expected"),
    [
        (OptimConfig(epochs=10), {0: 1e-3, 25: 1e-3 * 10**-0.5, 50: 1e-4}),
        (OptimConfig(epochs=10, schedule="cosine"), {0: 1e-3, 25: 5.5e-4, 50: 1e-4}),
        (OptimConfig(epochs=10, schedule="constant"), {0: 1e-3, 50: 1e-3}),
        # The warm-up rises linearly, and the rest decays over what is left: at least one step.
        (OptimConfig(epochs=10, warmup_epochs=2.0), {0: 0, 5: 5e-4, 10: 1e-3, 30: 1e-3 * 10**-0.5, 50: 1e-4}),
        (OptimConfig(epochs=1, warmup_epochs=0.99), {0: 0, 4: 1e-3, 5: 1e-4}),
        (OptimConfig(epochs=1, warmup_epochs=0.99, schedule="cosine"), {0: 0, 4: 1e-3, 5: 1e-4}),
    ],
)
def test_schedules_of_five_steps_an_epoch(optim, expected):
    rate = learning_rate(optim, 5)
    assert [float(rate(t)) for t in expected] == pytest.approx(list(expected.values()), rel=1e-5)


def test_first_adam_step_is_the_learning_rate_times_the_sign():
    tx = make_optimizer(OptimConfig(), 5)
    params, grads = {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([0.5, -3.0])}
    updates, _ = tx.update(grads, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], [-1e-3, 1e-3], rtol=1e-4)


def test_clipping_bounds_the_global_norm():
    """Adam forgets a constant factor, so the moments tell: (1 - 0.9) times the clipped gradient (3, 4) / 5."""
    tx = make_optimizer(OptimConfig(clip_norm=1.0), 5)
    params = {"w": jnp.zeros(2)}
    _, state = tx.update({"w": jnp.array([3.0, 4.0])}, tx.init(params), params)
    mu = next(x for x in jax.tree.leaves(state) if x.shape == (2,))
    np.testing.assert_allclose(mu, [0.06, 0.08], rtol=1e-5)


def test_class_targets():
    masks = jnp.array([[[1, 0]], [[1, 1]]], jnp.uint8)
    labels = jnp.array([2, 3], jnp.int32)
    np.testing.assert_array_equal(class_targets(masks, labels, 1)[..., 0], masks)
    three = class_targets(masks, labels, 3)
    np.testing.assert_array_equal(three[0, 0], [[0, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(three[1, 0], [[0, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize("classes", [1, 3])
def test_training_learns_a_bright_square(classes):
    config = Config(model=ModelConfig(width=4, levels=1, classes=classes), optim=SMALL.optim)
    tx = make_optimizer(config.optim, 50)
    state, step, batch = init_state(config, 8, tx), jax.jit(make_train_step(config, tx), donate_argnums=0), a_batch()
    losses = []
    for _ in range(60):
        state, loss = step(state, batch, jax.random.key(0))
        losses.append(float(loss))
    assert losses[-1] < 0.6 * losses[0]
    assert int(state.step) == int(state.sums.steps) == 60
    assert float(state.sums.loss) == pytest.approx(sum(losses), rel=1e-4)
    counts = state.sums.counts
    assert int(counts.tp + counts.fn) == 60 * 4 * 9
    assert int(counts.tp + counts.fp + counts.fn + counts.tn) == 60 * 4 * 64


def test_a_step_depends_on_state_and_key_alone():
    tx = make_optimizer(SMALL.optim, 50)
    step, batch = jax.jit(make_train_step(SMALL, tx), donate_argnums=0), a_batch()

    def run(seed):
        state = init_state(SMALL, 8, tx)
        for _ in range(3):
            state, loss = step(state, batch, jax.random.key(seed))
        return float(loss), jax.device_get(state.params)

    loss, params = run(0)
    again, params_again = run(0)
    assert loss == again
    jax.tree.map(np.testing.assert_array_equal, params, params_again)
    assert run(1)[0] != loss


def test_dropout_and_flips_differ_from_step_to_step():
    config = Config(model=ModelConfig(width=2, levels=1, norm="none"), augment=AugmentConfig(horizontal_flip=False))
    frozen = OptimConfig(learning_rate=1e-30, schedule="constant", final_learning_rate=1e-30)
    tx = make_optimizer(frozen, 50)
    state, step, batch = init_state(config, 8, tx), jax.jit(make_train_step(config, tx), donate_argnums=0), a_batch()
    losses = set()
    for _ in range(4):
        state, loss = step(state, batch, jax.random.key(0))
        losses.add(float(loss))
    assert len(losses) == 4


def test_eval_step_ignores_padding_and_changes_nothing():
    tx = make_optimizer(SMALL.optim, 50)
    state, evaluate, batch = init_state(SMALL, 8, tx), make_eval_step(SMALL, data_mesh(1)[0]), a_batch(4)
    padded = batch._replace(valid=jnp.array([True, True, False, False]))
    alone = Batch(*(x[:2] for x in batch))
    sums, counts = evaluate(state.params, state.batch_stats, padded)
    expected, expected_counts = evaluate(state.params, state.batch_stats, alone)
    np.testing.assert_allclose(loss_value(sums, SMALL.loss), loss_value(expected, SMALL.loss), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, counts, expected_counts)
    assert int(counts.tp + counts.fn) == 2 * 9


def test_sums_start_at_nothing():
    sums = Sums.zeros()
    assert isinstance(sums.counts, Counts)
    assert all(float(x) == 0 for x in jax.tree.leaves(sums))


def test_all_finite():
    assert bool(all_finite({"a": jnp.ones(3), "b": jnp.zeros((2, 2))}))
    assert not bool(all_finite({"a": jnp.ones(3), "b": jnp.array([1.0, jnp.nan])}))
    assert not bool(all_finite({"a": jnp.array(jnp.inf)}))


@pytest.mark.slow
def test_rematerialisation_needs_less_memory_for_the_same_step():
    tx = make_optimizer(SMALL.optim, 50)
    batch, needed, results = a_batch(2, size=64), {}, {}
    for remat in (False, True):
        config = dataclasses.replace(SMALL, model=ModelConfig(width=8, levels=2, remat=remat))
        state = init_state(config, 64, tx)
        step = jax.jit(make_train_step(config, tx), compiler_options=compiler_options(barriers=remat))
        program = step.lower(state, batch, jax.random.key(0)).compile()
        needed[remat] = program.memory_analysis().temp_size_in_bytes
        results[remat] = program(state, batch, jax.random.key(0))
    assert needed[True] < 0.85 * needed[False]
    (state, loss), (same, again) = results[False], results[True]
    assert float(again) == pytest.approx(float(loss), rel=1e-6)
    # Adam's first step is the learning rate times the gradient's sign, nearly: 0.01.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), same.params, state.params)
