"""The stages of augmentation: what is on, how often, with which key, and the doors for further operations."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tests.helpers.augment import GEOMETRY, INTENSITY, STRONG, blobs
from unet_jax.config import AugmentConfig, Config
from unet_jax.models.preprocess import preprocess
from unet_jax.training.augment import augment_geometry, augment_intensity, table
from unet_jax.training.batches import Batch
from unet_jax.training.steps import train_input

OFF = AugmentConfig(horizontal_flip=False)


# Flips


def test_image_and_mask_flip_together_half_of_the_time():
    n = 400
    x = jnp.tile(jnp.arange(4.0), (n, 2, 1))[..., None]
    masks = (x[..., 0] > 1).astype(jnp.uint8)
    got, got_masks = augment_geometry(jax.random.key(0), x, masks, AugmentConfig())
    assert got.dtype == jnp.float32 and got_masks.dtype == jnp.uint8
    np.testing.assert_array_equal(got_masks, got[..., 0] > 1)
    flipped = int((got[:, 0, 0, 0] == 3).sum())
    assert 150 < flipped < 250  # five standard deviations
    again, _ = augment_geometry(jax.random.key(0), x, masks, AugmentConfig())
    np.testing.assert_array_equal(got, again)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 99))
def test_every_slice_is_one_of_its_mirror_images_with_its_mask(seed, key):
    rng = np.random.default_rng(seed)
    x = rng.random((3, 4, 5), np.float32)
    masks = (x > 0.5).astype(np.uint8)
    config = AugmentConfig(vertical_flip=True)
    got, got_masks = augment_geometry(jax.random.key(key), jnp.asarray(x[..., None]), jnp.asarray(masks), config)
    for before, after, mask in zip(x, np.asarray(got[..., 0]), np.asarray(got_masks), strict=True):
        images = (before, before[:, ::-1], before[::-1], before[::-1, ::-1])
        assert any(np.array_equal(after, image) for image in images)
        np.testing.assert_array_equal(mask, after > 0.5)


def a_batch(n=32, side=16):
    rng = np.random.default_rng(0)
    images = rng.integers(-50, 2000, (n, side, side)).astype(np.int16)
    p1, p99 = np.percentile(images, (1, 99), axis=(1, 2)).astype(np.float32)
    masks = (images > 900).astype(np.uint8)
    return Batch(images, masks, np.ones(n, np.int32), p1, p99, np.ones(n, bool), np.zeros(n, np.float32))


def test_flipping_after_normalisation_gives_the_bits_of_flipping_before():
    batch, key, config = jax.device_put(a_batch()), jax.random.key(5), Config()

    def raw_first(key, batch):
        flip = jax.random.bernoulli(key, 0.5, (32,)).reshape(-1, 1, 1)
        images, masks = (jnp.where(flip, a[:, :, ::-1], a) for a in (batch.images, batch.masks))
        return preprocess(images, batch.p1, batch.p99, config.preprocess), masks

    expected = jax.jit(raw_first)(key, batch)
    got = jax.jit(lambda key, batch: train_input(key, batch, config))(key, batch)
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    assert (np.asarray(got[1]) != batch.masks).any()


# On and off


@pytest.mark.parametrize(
    "config",
    [OFF, dataclasses.replace(STRONG, **{f"{name}_p": 0.0 for name in GEOMETRY + INTENSITY})],
    ids=["strengths of 0", "probabilities of 0"],
)
def test_off_changes_nothing_and_computes_nothing(config):
    config = dataclasses.replace(config, horizontal_flip=False, vertical_flip=False)
    x, masks = blobs(2, 24, 32)
    got, got_masks = augment_geometry(jax.random.key(0), x, masks, config)
    got = augment_intensity(jax.random.key(0), got, config)
    assert got is x and got_masks is masks


@pytest.mark.parametrize("name", GEOMETRY + INTENSITY)
def test_each_changes_as_many_slices_as_it_should_and_the_others_stay(name):
    x, masks = blobs(200, 16, 16)
    config = dataclasses.replace(OFF, **{name: getattr(STRONG, name), f"{name}_p": 0.3})

    def both(key):
        moved, moved_masks = augment_geometry(key, x, masks, config)
        return augment_intensity(key, moved, config), moved_masks

    got, got_masks = jax.jit(both)(jax.random.key(1))
    assert got.shape == x.shape and got.dtype == jnp.float32 and got_masks.dtype == jnp.uint8
    assert float(got.min()) >= 0 and float(got.max()) <= 1
    # The draw of a slice that is changed may be too small to be seen: 1e-5 is rounding.
    changed = (np.abs(np.asarray(got - x)) > 1e-5).any((1, 2, 3))
    assert 28 < changed.sum() < 92  # five standard deviations
    np.testing.assert_array_equal(np.asarray(got_masks)[~changed], np.asarray(masks)[~changed])
    if name in INTENSITY:
        np.testing.assert_array_equal(got_masks, masks)
    again, _ = jax.jit(both)(jax.random.key(1))
    np.testing.assert_array_equal(again, got)
    other, _ = jax.jit(both)(jax.random.key(2))
    assert (other != got).any()


@pytest.mark.parametrize("rows", [table.AFFINE, table.FIELDS, table.INTENSITY], ids=["affine", "fields", "intensity"])
def test_turning_one_on_changes_no_draw_of_another(rows):
    def draws(config):
        drawing = table._drawing(rows, jax.random.key(0), 8, config)
        return {name: (jax.random.key_data(key).tolist(), chosen.tolist()) for name, key, chosen in drawing}

    few = draws(dataclasses.replace(OFF, rotation=10.0, shift=0.1, elastic=0.02, gamma=0.2, noise=0.1))
    every = draws(STRONG)
    assert few and len(every) == len(rows)
    assert few == {name: every[name] for name in few}
    assert len({str(key) for key, _ in every.values()}) == len(rows)


@pytest.mark.parametrize("shape", [(48, 64), (64, 40)])
def test_mask_and_image_move_together(shape):
    x, masks = blobs(16, *shape)
    strong = dataclasses.replace(STRONG, **{f"{name}_p": 1.0 for name in GEOMETRY})
    got, got_masks = jax.jit(augment_geometry, static_argnums=3)(jax.random.key(0), x, masks, strong)
    assert set(np.unique(got_masks)) == {0, 1}
    bright, mask = np.asarray(got[..., 0]) > 0.5, np.asarray(got_masks) > 0
    overlap = (bright & mask).sum((1, 2)) / (bright | mask).sum((1, 2))
    before = np.asarray(masks) > 0
    still = (before & mask).sum((1, 2)) / (before | mask).sum((1, 2))
    assert overlap.min() > 0.85 and np.median(still) < 0.7


# The doors for further augmentations


@dataclasses.dataclass(frozen=True)
class ToyConfig(AugmentConfig):
    turn: float = 1.0
    turn_p: float = 1.0
    double: float = 1.0
    double_p: float = 1.0
    slide: float = 0.0
    slide_p: float = 1.0
    gain: float = 0.0
    gain_p: float = 1.0


TURN = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
DOUBLE = np.array([[0.5, 0, 1.25], [0, 0.5, -2], [0, 0, 1]], np.float32)


def turn(key, shape, quarters):
    return jnp.tile(jnp.linalg.matrix_power(jnp.asarray(TURN), int(quarters)), (shape[0], 1, 1))


def double(key, shape, strength):
    return jnp.tile(jnp.asarray(DOUBLE), (shape[0], 1, 1))


def slide(key, shape, pixels):
    b, h, w = shape
    down = jax.random.bernoulli(key, 0.5, (b, 1, 1, 1)) * pixels
    return jnp.broadcast_to(jnp.concatenate([down, jnp.zeros_like(down)], 1), (b, 2, h, w))


def gain(key, x, strength):
    return x * jax.random.uniform(key, (len(x), 1, 1, 1), minval=1 - strength, maxval=1 + strength)


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setitem(table.AFFINE, "turn", turn)
    monkeypatch.setitem(table.AFFINE, "double", double)
    monkeypatch.setitem(table.FIELDS, "slide", slide)
    monkeypatch.setitem(table.INTENSITY, "gain", gain)


def test_toy_geometry_is_composed_and_sampled_once(toys):
    rng = np.random.default_rng(0)
    x, masks = rng.random((3, 14, 11, 1), np.float32), (rng.random((3, 14, 11)) > 0.5).astype(np.uint8)
    config = ToyConfig(horizontal_flip=False)
    got, got_masks = augment_geometry(jax.random.key(0), jnp.asarray(x), jnp.asarray(masks), config)
    # SciPy takes places from the corner; the turn comes first, so that its matrix is the one next to the image.
    matrix, centre = TURN @ DOUBLE, np.array([6.5, 5.0])
    offset = matrix[:2, 2] + centre - matrix[:2, :2] @ centre

    def expected(image):
        return ndimage.affine_transform(image.astype(float), matrix[:2, :2], offset, order=1, mode="grid-constant")

    for image, mask, after, mask_after in zip(x[..., 0], masks, got[..., 0], got_masks, strict=True):
        np.testing.assert_allclose(after, expected(image), atol=1e-5)
        np.testing.assert_array_equal(mask_after, expected(mask) >= 0.5)


def test_toy_fields_and_intensities_are_functions_and_rows(toys):
    key = jax.random.key(3)
    x = jnp.arange(1, 64 * 6 + 1, dtype=jnp.float32).reshape(64, 2, 3, 1)
    masks = (x[..., 0] % 2).astype(jnp.uint8)
    plain, _ = augment_geometry(key, x, masks, ToyConfig(turn=0.0, double=0.0))
    got, got_masks = augment_geometry(key, x, masks, ToyConfig(turn=0.0, double=0.0, slide=1.0))
    np.testing.assert_array_equal(got_masks, got[..., 0] % 2)
    moved = np.asarray((got != plain).any((1, 2, 3)))
    assert 10 < moved.sum() < 54
    # The row below has come up and nothing else: the flip left and right draws as it did without the new one.
    np.testing.assert_array_equal(np.asarray(got)[moved][:, 0], np.asarray(plain)[moved][:, 1])
    assert not np.asarray(got)[moved][:, 1].any()
    half = jnp.full((64, 2, 2, 1), 0.5)
    factors = np.asarray(augment_intensity(key, half, ToyConfig(gain=0.2)))[:, 0, 0, 0] * 2
    assert 0.8 <= factors.min() < 0.85 and 1.15 < factors.max() <= 1.2
    np.testing.assert_array_equal(augment_intensity(key, half, ToyConfig()), half)
