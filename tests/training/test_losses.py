"""Losses: values by hand, and the original notebook's definitions."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from unet_jax.config import LossConfig
from unet_jax.training.losses import TERMS, Term, loss_value, merge
from unet_jax.training.losses import loss_sums as term_sums

ONES = jnp.ones(2)


def loss_sums(logits, target, valid, config=LossConfig()):  # noqa: B008  frozen
    return term_sums(logits, target, valid, config)


def logit(p):
    return jnp.log(jnp.asarray(p)) - jnp.log1p(-jnp.asarray(p))


def test_by_hand():
    """Two pixels, probabilities 0.8 and 0.4, targets 1 and 0."""
    probs = jnp.array([0.8, 0.4]).reshape(1, 1, 2, 1)
    target = jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    sums = loss_sums(logit(probs), target, jnp.ones(1))
    bce = -(np.log(0.8) + np.log(0.6)) / 2  # 0.366985
    dice = 1 - (2 * 0.8 + 1) / (1.2 + 1 + 1)  # 0.1875
    assert float(loss_value(sums, LossConfig())) == pytest.approx(bce + dice, abs=1e-6)
    assert float(loss_value(sums, LossConfig(bce=2.0, dice=0.0))) == pytest.approx(2 * bce, abs=1e-6)
    assert float(loss_value(sums, LossConfig(bce=0.0, dice=3.0, smoothing=0.5))) == pytest.approx(
        3 * (1 - 2.1 / 2.7), abs=1e-6
    )


def test_the_original_notebooks_definition_on_a_batch():
    """Mean cross-entropy over pixels, and one Dice over the flattened batch with smoothing 1."""
    rng = np.random.default_rng(0)
    probs, target = rng.uniform(0.01, 0.99, (2, 4, 5, 1)), rng.integers(0, 2, (2, 4, 5, 1))
    p, y = probs.ravel(), target.ravel()
    expected = log_loss(y, p) + 1 - (2 * (y * p).sum() + 1) / (y.sum() + p.sum() + 1)
    got = loss_value(loss_sums(logit(probs), jnp.float32(target), ONES), LossConfig())
    assert float(got) == pytest.approx(expected, abs=1e-5)


def test_sums_of_two_batches_are_those_of_both():
    key = jax.random.key(0)
    logits = jax.random.normal(key, (4, 3, 3, 2))
    target = jnp.float32(jax.random.bernoulli(key, 0.3, logits.shape))
    both = loss_sums(logits, target, jnp.ones(4))
    parts = merge(loss_sums(logits[:2], target[:2], ONES), loss_sums(logits[2:], target[2:], ONES))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), both, parts)


def test_padding_does_not_count():
    logits = jax.random.normal(jax.random.key(0), (2, 3, 3, 1))
    target = jnp.zeros_like(logits)
    padded = loss_sums(logits.at[1].set(50.0), target, jnp.array([1.0, 0.0]))
    alone = loss_sums(logits[:1], target[:1], jnp.ones(1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), padded, alone)


def test_large_logits_stay_finite_with_gradients():
    logits = jnp.array([300.0, -300.0]).reshape(1, 1, 2, 1)
    target = jnp.array([0.0, 1.0]).reshape(1, 1, 2, 1)

    def loss(x):
        return loss_value(loss_sums(x, target, jnp.ones(1)), LossConfig())

    value, grad = jax.value_and_grad(loss)(logits)
    assert float(value) == pytest.approx(300 + 1 - 1 / 3, rel=1e-5)
    np.testing.assert_allclose(grad.ravel(), [0.5, -0.5], atol=1e-5)


def test_dice_is_averaged_over_classes():
    probs = jnp.array([[0.5, 0.25]]).reshape(1, 1, 1, 2)
    target = jnp.array([[1.0, 0.0]]).reshape(1, 1, 1, 2)
    got = loss_value(loss_sums(logit(probs), target, jnp.ones(1)), LossConfig(bce=0.0))
    assert float(got) == pytest.approx(1 - (2 / 2.5 + 1 / 1.25) / 2, abs=1e-6)


# The door for further losses


@dataclass(frozen=True)
class ToyConfig(LossConfig):
    absolute: float = 0.5


def absolute_sums(logits, target, valid, config):
    """(total, count) of a value of each slice, as a loss per slice has them."""
    each = jnp.abs(jax.nn.sigmoid(logits) - target).mean((1, 2, 3))
    return (each * valid).sum(), valid.sum()


def test_a_toy_loss_is_a_term_and_a_row(monkeypatch):
    """Mean absolute error, of each slice and then over slices; weighted beside the others, merged over batches."""
    config = ToyConfig(bce=0.0, dice=1.0)
    logits = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
    target = jnp.float32(logits > 0.3)
    valid = jnp.array([1.0, 1.0, 0.0])
    plain = LossConfig(bce=0.0)
    alone = loss_value(loss_sums(logits[:2], target[:2], ONES, plain), plain)
    monkeypatch.setitem(TERMS, "absolute", Term(absolute_sums, lambda sums, config: sums[0] / sums[1]))
    batches = [loss_sums(logits[i : i + 1], target[i : i + 1], valid[i : i + 1], config) for i in range(3)]
    got = loss_value(functools.reduce(merge, batches), config)
    error = np.abs(1 / (1 + np.exp(-np.asarray(logits[:2], np.float64))) - np.asarray(target[:2])).mean()
    assert float(got) == pytest.approx(float(alone) + 0.5 * error, rel=1e-5)
    assert set(batches[0]) == {"dice", "absolute"}  # what has no weight is not computed
