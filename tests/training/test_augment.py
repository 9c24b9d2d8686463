from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_jax.config import AugmentConfig
from unet_jax.training.augment import augment_geometry, augment_intensity, table


def test_image_and_mask_flip_together_half_of_the_time():
    n = 400
    images = jnp.tile(jnp.arange(4, dtype=jnp.int16), (n, 2, 1))
    masks = (images > 1).astype(jnp.uint8)
    got, got_masks = augment_geometry(jax.random.key(0), images, masks, AugmentConfig())
    assert got.dtype == jnp.int16 and got_masks.dtype == jnp.uint8
    np.testing.assert_array_equal(got_masks, got > 1)
    flipped = int((got[:, 0, 0] == 3).sum())
    assert 150 < flipped < 250  # five standard deviations
    again, _ = augment_geometry(jax.random.key(0), images, masks, AugmentConfig())
    np.testing.assert_array_equal(got, again)


def test_off_changes_nothing():
    images = jnp.arange(24.0).reshape(2, 3, 4)
    got, masks = augment_geometry(jax.random.key(0), images, images, AugmentConfig(horizontal_flip=False))
    np.testing.assert_array_equal(got, images)
    np.testing.assert_array_equal(masks, images)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 99))
def test_every_slice_is_itself_or_its_mirror_image_with_its_mask(seed, key):
    rng = np.random.default_rng(seed)
    images = rng.integers(-5, 5, (3, 4, 5)).astype(np.int16)
    masks = (images > 0).astype(np.uint8)
    got, got_masks = augment_geometry(jax.random.key(key), jnp.asarray(images), jnp.asarray(masks), AugmentConfig())
    for before, after, mask in zip(images, np.asarray(got), np.asarray(got_masks), strict=True):
        assert np.array_equal(after, before) or np.array_equal(after, before[:, ::-1])
        np.testing.assert_array_equal(mask, after > 0)


# The doors for further augmentations


@dataclass(frozen=True)
class ToyConfig(AugmentConfig):
    upside_down: bool = True
    gain: float = 0.2


def upside_down(key, images, masks, config):
    flip = jax.random.bernoulli(key, 0.5, (len(images), 1, 1))
    return jnp.where(flip, images[:, ::-1], images), jnp.where(flip, masks[:, ::-1], masks)


def gain(key, x, config):
    return x * jax.random.uniform(key, (len(x), 1, 1, 1), minval=1 - config.gain, maxval=1 + config.gain)


def test_toy_augmentations_are_functions_and_rows(monkeypatch):
    key = jax.random.key(3)
    images = jnp.arange(64 * 6, dtype=jnp.int16).reshape(64, 2, 3)
    masks = (images % 2).astype(jnp.uint8)
    plain, _ = augment_geometry(key, images, masks, AugmentConfig())
    monkeypatch.setitem(table.GEOMETRY, "upside_down", upside_down)
    monkeypatch.setitem(table.INTENSITY, "gain", gain)
    got, got_masks = augment_geometry(key, images, masks, ToyConfig())
    np.testing.assert_array_equal(got_masks, got % 2)
    turned = np.asarray((got != plain).any((1, 2)))
    assert 10 < turned.sum() < 54
    # Rows exchanged and nothing else: the flip left and right draws as it did without the new one.
    np.testing.assert_array_equal(np.asarray(got)[turned][:, ::-1], np.asarray(plain)[turned])
    x = jnp.ones((64, 2, 2, 1))
    factors = np.asarray(augment_intensity(key, x, ToyConfig()))[:, 0, 0, 0]
    assert 0.8 <= factors.min() < 0.85 and 1.15 < factors.max() <= 1.2
    np.testing.assert_array_equal(augment_intensity(key, x, ToyConfig(gain=0.0)), x)
