"""Terms of the loss against other definitions of them: values by hand, and NumPy in float64, gradients included."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.config import LossConfig
from unet_jax.training.losses import TERMS, loss_sums, loss_value, merge

PARAMETERS = {"smoothing": 0.5, "tversky_alpha": 0.4, "tversky_beta": 0.9, "focal_gamma": 1.5}


def only(name, weight=1.0, **parameters):
    """The loss of one term alone."""
    return LossConfig(**{**dict.fromkeys(LossConfig().weights, 0.0), name: weight, **parameters})


def loss(logits, target, config, valid=None):
    valid = jnp.ones(len(logits)) if valid is None else jnp.asarray(valid)
    return loss_value(loss_sums(jnp.asarray(logits), jnp.asarray(target), valid, config), config)


def some_slices(n=3, h=4, w=5, c=2):
    """Logits and targets; the last class of the first slice has no tumour."""
    rng = np.random.default_rng(3)
    target = rng.integers(0, 2, (n, h, w, c)).astype(np.float32)
    target[0, :, :, -1] = 0
    return rng.normal(0, 2, target.shape).astype(np.float32), target


# Other definitions: float64, and of one class; the term is the mean over classes


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def bce(x, y, config):
    p = sigmoid(x)
    return -np.log(np.where(y == 1, p, 1 - p)).mean()


def dice(x, y, config):
    p, s = sigmoid(x), config.smoothing
    return 1 - (2 * (p * y).sum() + s) / (p.sum() + y.sum() + s)


def slice_dice(x, y, config):
    return np.mean([dice(*one, config) for one in zip(x, y, strict=True)])


def jaccard(x, y, config):
    """With the union as the sum of p + y - p y over pixels."""
    p, s = sigmoid(x), config.smoothing
    return 1 - ((p * y).sum() + s) / ((p + y - p * y).sum() + s)


def tversky(x, y, config):
    p, s = sigmoid(x), config.smoothing
    tumor, other = p[y == 1], p[y == 0]
    errors = config.tversky_alpha * other.sum() + config.tversky_beta * (1 - tumor).sum()
    return 1 - (tumor.sum() + s) / (tumor.sum() + errors + s)


def focal(x, y, config):
    p = sigmoid(x)
    right = np.where(y == 1, p, 1 - p)
    return -((1 - right) ** config.focal_gamma * np.log(right)).mean()


def lovasz(x, y, config):
    """The Lovász extension as an integral: of 1 - IoU over the heights t, the pixels with an error of t or more wrong.

    No pixel's share and no order of pixels is in it. Source: Bach, "Learning with submodular functions",
    arXiv:1111.6453, definition of the Lovász extension by level sets.
    """
    losses = []
    for logits, target in zip(x, y == 1, strict=True):
        error = np.maximum(np.where(target, 1 - logits, 1 + logits), 0)
        heights = np.unique([0.0, *error.ravel()])
        integral = 0.0
        for low, high in itertools.pairwise(heights):
            predicted = target ^ (error >= high)
            integral += (high - low) * (1 - (predicted & target).sum() / (predicted | target).sum())
        losses.append(integral)
    return np.mean(losses)


REFERENCES = {
    "bce": bce,
    "dice": dice,
    "slice_dice": slice_dice,
    "jaccard": jaccard,
    "tversky": tversky,
    "focal": focal,
    "lovasz": lovasz,
}
each_term = pytest.mark.parametrize("name", REFERENCES)


def reference(name, logits, target, config):
    classes = range(logits.shape[-1])
    x, y = np.float64(logits), np.float64(target)
    return np.mean([REFERENCES[name](x[..., c], y[..., c], config) for c in classes])


def test_each_weight_has_a_term_and_each_term_a_reference():
    assert set(LossConfig().weights) == set(TERMS) == set(REFERENCES)


@each_term
def test_value_and_gradient_are_those_of_the_definition(name):
    logits, target = some_slices()
    config = only(name, 0.7, **PARAMETERS)
    value, grad = jax.value_and_grad(loss)(logits, target, config)
    assert value.dtype == grad.dtype == jnp.float32
    assert float(value) == pytest.approx(0.7 * reference(name, logits, target, config), rel=1e-5)
    numeric, x, step = np.zeros(logits.shape), np.float64(logits), 1e-6
    for i in np.ndindex(*logits.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        numeric[i] = reference(name, up, target, config) - reference(name, down, target, config)
    np.testing.assert_allclose(grad, 0.7 * numeric / (2 * step), rtol=1e-5, atol=1e-7)
    assert np.abs(grad).max() > 1e-3


@each_term
def test_padding_does_not_count(name):
    logits, target = some_slices()
    config = only(name, **PARAMETERS)
    value, grad = jax.value_and_grad(loss)(logits, target, config, [1.0, 0.0, 1.0])
    assert float(value) == pytest.approx(float(loss(logits[::2], target[::2], config)), rel=1e-6)
    assert np.abs(grad[1]).max() == 0 < np.abs(grad[::2]).max()


@each_term
def test_sums_of_two_batches_are_those_of_both(name):
    logits, target = map(jnp.asarray, some_slices(n=4))
    config = only(name, **PARAMETERS)
    parts = [loss_sums(logits[i], target[i], jnp.ones(2), config) for i in (slice(0, 2), slice(2, 4))]
    got = loss_value(merge(*parts), config)
    assert float(got) == pytest.approx(float(loss(logits, target, config)), rel=1e-6)


@each_term
def test_huge_logits_of_any_target_give_finite_values_and_gradients(name):
    """Right, wrong, and at random; in a slice with tumour, one without, one that is all tumour."""
    target = np.stack([some_slices(n=1, c=1)[1][0], np.zeros((4, 5, 1), np.float32), np.ones((4, 5, 1), np.float32)])
    signs = np.where(np.random.default_rng(0).random(target.shape) < 0.5, -1, 1)
    for logits in (1e4 * (2 * target - 1), -1e4 * (2 * target - 1), 1e4 * signs):
        value, grad = jax.value_and_grad(loss)(np.float32(logits), target, only(name))
        assert np.isfinite(value) and np.isfinite(grad).all()


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (only("jaccard"), 1 - 1.8 / 2.4),
        (only("tversky"), 1 - 1.8 / (0.8 + 0.3 * 0.4 + 0.7 * 0.2 + 1)),
        (only("slice_dice", smoothing=0.5), 1 - 2.1 / 2.7),
        (only("focal"), -(0.2**2 * np.log(0.8) + 0.4**2 * np.log(0.6)) / 2),
        (only("focal", focal_gamma=0.0), -(np.log(0.8) + np.log(0.6)) / 2),  # the cross-entropy
        # The errors are 1 - log 4, which is below 0 and counts nothing, and 1 + log(2 / 3), half of which counts.
        (only("lovasz"), (1 + np.log(2 / 3)) / 2),
    ],
)
def test_by_hand(config, expected):
    """Two pixels, probabilities 0.8 and 0.4, targets 1 and 0."""
    logits = np.log([4, 2 / 3]).reshape(1, 1, 2, 1).astype(np.float32)
    target = np.float32([1, 0]).reshape(1, 1, 2, 1)
    assert float(loss(logits, target, config)) == pytest.approx(expected, abs=1e-6)


def test_tversky_is_jaccard_and_dice_at_its_corners():
    logits, target = some_slices()
    corner = loss(logits, target, only("tversky", tversky_alpha=1.0, tversky_beta=1.0))
    assert float(corner) == pytest.approx(float(loss(logits, target, only("jaccard"))), rel=1e-6)
    corner = loss(logits, target, only("tversky", tversky_alpha=0.5, tversky_beta=0.5))
    assert float(corner) == pytest.approx(float(loss(logits, target, only("dice", smoothing=2.0))), rel=1e-6)


def test_slices_without_tumor():
    """Lovász: one plus the largest logit, if above 0. Dice of a slice: p / (p + s), p the sum of probabilities."""
    empty = np.zeros((1, 1, 3, 1), np.float32)
    logits = np.float32([-3, 0.5, -0.5]).reshape(empty.shape)
    value, grad = jax.value_and_grad(loss)(logits, empty, only("lovasz"))
    assert float(value) == 1.5
    np.testing.assert_array_equal(grad.ravel(), [0, 1, 0])
    assert float(loss(logits - 2, empty, only("lovasz"))) == 0
    p = sigmoid(logits).sum()
    assert float(loss(logits, empty, only("slice_dice", smoothing=0.5))) == pytest.approx(p / (p + 0.5), rel=1e-6)
    assert float(loss(logits - 100, empty, only("slice_dice"))) == 0


def test_lovasz_of_a_slice_of_many_pixels_keeps_its_digits():
    """A confident network, wrong in one corner: each pixel's gradient, about 1e-5, has five right digits."""
    h = w = 192
    target = np.zeros((1, h, w, 1), np.float32)
    target[0, :100, :100] = 1
    logits = np.full(target.shape, 3, np.float32) * (2 * target - 1)
    logits[0, :100, 100:110] = np.linspace(1, 2, 1000, dtype=np.float32).reshape(100, 10, 1)
    grad = jax.grad(loss)(logits, target, only("lovasz"))[0, :100, 100:110, 0].ravel()
    k = np.arange(1000, 0, -1)  # the k-th wrong pixel takes the IoU from 10000 / (9999 + k) to 10000 / (10000 + k)
    np.testing.assert_allclose(grad, 10000 / (9999 + k) - 10000 / (10000 + k), rtol=1e-5)
