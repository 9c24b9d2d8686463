"""AdamW, the encoder's own pace, and the running average of the weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.training.test_steps import SMALL, a_batch
from unet_jax.config import OptimConfig
from unet_jax.training.optimizer import learning_rate, make_optimizer
from unet_jax.training.state import init_state
from unet_jax.training.steps import make_train_step

PARAMS = {
    "down0": {"conv0": {"kernel": jnp.array([2.0]), "bias": jnp.array([2.0])}},
    "up0": {"conv0": {"kernel": jnp.array([2.0]), "bias": jnp.array([2.0])}},
}
GRADS = jax.tree.map(lambda x: -x, PARAMS)  # Adam's first steps are the learning rate, upwards


def updates(optim, steps=1, steps_per_epoch=2):
    """The last of some steps: (encoder's kernel, its bias), (decoder's kernel, its bias), in learning rates of 1e-3."""
    tx = make_optimizer(dataclasses.replace(optim, schedule="constant"), steps_per_epoch)
    state = tx.init(PARAMS)
    for _ in range(steps):
        step, state = tx.update(GRADS, state, PARAMS)
    parts = [step[layer]["conv0"] for layer in PARAMS]
    return [[float(part[name][0]) / 1e-3 for name in ("kernel", "bias")] for part in parts]


@pytest.mark.parametrize("clip_norm", [0.0, 100.0])
@pytest.mark.parametrize(
    ("optim", "steps", "expected"),
    [
        (OptimConfig(), 1, [[1, 1], [1, 1]]),
        (OptimConfig(weight_decay=0.25), 1, [[1 - 0.25 * 2, 1], [1 - 0.25 * 2, 1]]),
        (OptimConfig(weight_decay=0.25, encoder_lr_scale=0.5), 1, [[0.25, 0.5], [0.5, 1]]),
        (OptimConfig(encoder_lr_scale=0.0), 1, [[0, 0], [1, 1]]),
        # Three steps of 1.5 epochs are frozen.
        (OptimConfig(freeze_encoder_epochs=1.5, encoder_lr_scale=0.5), 3, [[0, 0], [1, 1]]),
        (OptimConfig(freeze_encoder_epochs=1.5, encoder_lr_scale=0.5), 4, [[0.5, 0.5], [1, 1]]),
        (OptimConfig(freeze_encoder_epochs=0.5), 2, [[1, 1], [1, 1]]),
    ],
)
def test_updates_by_part(optim, steps, expected, clip_norm):
    got = updates(dataclasses.replace(optim, clip_norm=clip_norm), steps)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [16, 16, 16, 16, 8, 8, 8, 8, 2, 2]),
        ("exponential", [16, 8, 4, 2, 8, 8 * 0.125**0.25, 8 * 0.125**0.5, 8 * 0.125**0.75, 2, 2 * 0.5**0.5]),
        # Down to 1 along half a cosine: at 0, 45, 90 and 135 degrees, and in the last stretch at 0 and 90.
        ("cosine", [16, 13.803301, 8.5, 3.196699, 8, 6.974874, 4.5, 2.025126, 2, 1.5]),
    ],
)
def test_schedule_begins_anew_in_each_stretch(schedule, expected):
    optim = OptimConfig(
        epochs=5, schedule=schedule, learning_rate=16.0, final_learning_rate=1.0, stretches=((2, 8.0), (4, 2.0))
    )
    rate = learning_rate(optim, 2)
    np.testing.assert_allclose([rate(step) for step in range(10)], expected, rtol=1e-6)
    # Only the first stretch warms up.
    warm = learning_rate(dataclasses.replace(optim, warmup_epochs=0.5), 2)
    assert warm(0) == 0 and float(warm(1)) == 16
    np.testing.assert_allclose([warm(step) for step in range(4, 10)], expected[4:], rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "beginning"),
    [("constant", [1, 1]), ("exponential", [1, 4]), ("cosine", [1, 8.5])],  # up to 16, where that is asked for
)
def test_a_later_stretch_never_rises(schedule, beginning):
    stretches = ((1, 2.0), (2, 16.0), (3, 20.0))
    optim = OptimConfig(epochs=4, schedule=schedule, learning_rate=1.0, final_learning_rate=16.0, stretches=stretches)
    last = {"constant": 20.0, "exponential": 20 * 0.8**0.5, "cosine": 18.0}[schedule]
    rate = learning_rate(optim, 2)
    np.testing.assert_allclose([rate(step) for step in range(8)], [*beginning, 2, 2, 16, 16, 20, last], rtol=1e-6)


def run(optim, steps=3, frozen=0):
    """States before the first step and after each."""
    config = dataclasses.replace(SMALL, optim=optim)
    tx = make_optimizer(optim, 50)
    step, batch = jax.jit(make_train_step(config, tx, frozen)), a_batch()
    states = [init_state(config, 8, tx)]
    for _ in range(steps):
        states.append(step(states[-1], batch, jax.random.key(0))[0])
    return states


def test_frozen_steps_leave_the_encoders_weights_and_statistics():
    optim = dataclasses.replace(SMALL.optim, freeze_encoder_epochs=2 / 50)
    first, *_, second, third = run(optim, frozen=2)
    for layer in ("down0", "bottom"):
        jax.tree.map(np.testing.assert_array_equal, second.params[layer], first.params[layer])
    np.testing.assert_array_equal(second.batch_stats["norm0"]["mean"], first.batch_stats["norm0"]["mean"])
    assert not np.array_equal(second.params["up0"]["conv0"]["kernel"], first.params["up0"]["conv0"]["kernel"])
    assert not np.array_equal(third.params["down0"]["conv0"]["kernel"], first.params["down0"]["conv0"]["kernel"])
    assert not np.array_equal(third.batch_stats["norm0"]["mean"], first.batch_stats["norm0"]["mean"])


def test_average_of_weights_and_statistics():
    """Decay is the smaller one of 0.15 and (1 + t) / (10 + t): 0.1, 0.15, 0.15; what is trained is as without it."""
    plain = run(SMALL.optim)
    averaged = run(dataclasses.replace(SMALL.optim, ema_decay=0.15))

    def variables(state):
        return {"params": state.params, "batch_stats": state.batch_stats}

    expected = variables(plain[0])
    for decay, before, after in zip((0.1, 0.15, 0.15), plain[1:], averaged[1:], strict=True):
        jax.tree.map(np.testing.assert_array_equal, after.trained, variables(before))
        expected = jax.tree.map(lambda mean, new, d=decay: d * mean + (1 - d) * new, expected, variables(before))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), variables(after), expected)
    assert plain[-1].trained is None
