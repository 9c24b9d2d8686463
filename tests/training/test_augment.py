import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_jax.config import AugmentConfig
from unet_jax.training.augment import augment_geometry
from unet_jax.training.augment.flip import mirror


def test_mirror_exchanges_left_and_right_where_asked():
    x = jnp.array([[[1, 2, 3], [4, 5, 6]]] * 2)
    y = mirror(x, jnp.array([True, False]))
    np.testing.assert_array_equal(y[0], [[3, 2, 1], [6, 5, 4]])
    np.testing.assert_array_equal(y[1], x[1])


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
