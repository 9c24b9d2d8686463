"""Slices made tumour-free within the training step."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from unet_jax.config import AugmentConfig, Config, LoaderConfig, ModelConfig
from unet_jax.data.converted.arrays import open_arrays
from unet_jax.data.symmetry import midlines, without_tumor
from unet_jax.training.augment.healthy import healthy
from unet_jax.training.batches import Batch
from unet_jax.training.steps import Trainer, train_input

MIDLINES = np.array([0.0, 3.5, -3.5, 4.0, -3.0], np.float32)


def slices():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (5, 6, 8))
    return jnp.asarray(rng.random((5, 6, 8, 1)), jnp.float32), jnp.asarray(masks, jnp.uint8)


def test_slices_with_a_midline_are_mirrored_and_their_masks_emptied():
    x, masks = slices()
    got, got_masks = jax.jit(healthy, static_argnums=4)(
        jax.random.key(0), x, masks, jnp.asarray(MIDLINES), AugmentConfig(healthy=1.0)
    )
    assert got.dtype == jnp.float32 and got_masks.dtype == jnp.uint8
    np.testing.assert_array_equal(got[0], x[0])
    np.testing.assert_array_equal(got_masks[0], masks[0])
    assert not got_masks[1:].any()
    for i in range(1, 5):
        np.testing.assert_array_equal(got[i, ..., 0], without_tumor(np.asarray(x[i, ..., 0]), float(MIDLINES[i])))
    # Exactly symmetric, and the healthy half is as it was.
    for i, kept in ((1, np.s_[:, 4:]), (2, np.s_[:, :4])):
        np.testing.assert_array_equal(got[i], got[i, :, ::-1])
        np.testing.assert_array_equal(got[i][kept], x[i][kept])


def test_off_changes_nothing():
    x, masks = slices()
    got, got_masks = healthy(jax.random.key(0), x, masks, jnp.asarray(MIDLINES), AugmentConfig())
    assert got is x and got_masks is masks


@pytest.mark.parametrize("p", [0.25, 0.75])
def test_so_many_slices_are_changed(p):
    n = 600
    masks = jnp.ones((n, 1, 2), jnp.uint8)
    x = jnp.tile(jnp.array([0.25, 0.75]).reshape(1, 1, 2, 1), (n, 1, 1, 1))
    got, got_masks = healthy(jax.random.key(1), x, masks, jnp.full(n, 0.5), AugmentConfig(healthy=p))
    changed = np.asarray(got_masks == 0).all((1, 2))
    np.testing.assert_array_equal(np.asarray(got[:, 0, 0, 0]) == 0.75, changed)
    assert abs(changed.mean() - p) < 0.09  # five standard deviations


def test_midlines_are_those_of_slices_before_they_are_flipped():
    images = np.tile(np.array([0, 10, 20, 30], np.int16), (64, 1, 1))
    ones = np.ones(64, np.float32)
    batch = Batch(
        images, np.ones_like(images, np.uint8), np.ones(64, np.int32), 0 * ones, 30 * ones, ones > 0, -2 * ones
    )
    x, masks = train_input(jax.random.key(0), jax.device_put(batch), Config(augment=AugmentConfig(healthy=1.0)))
    assert not masks.any()
    expected = np.array([0, 10, 20, 10], np.float32) / 30
    rows = np.asarray(x[:, 0, :, 0])
    turned = rows[:, 0] > 0
    np.testing.assert_allclose(np.where(turned[:, None], rows[:, ::-1], rows), np.tile(expected, (64, 1)))
    assert 10 < turned.sum() < 54


def test_a_trainer_looks_for_midlines_of_training_slices_where_they_are_wanted(tiny_data):
    arrays, train_rows = open_arrays(tiny_data), np.arange(12)
    small = Config(model=ModelConfig(width=2, levels=1), loader=LoaderConfig(batch_size=4, pipeline="device"))
    plain = Trainer(small, arrays, train_rows, np.arange(12, 16))
    assert plain.midlines is None and plain.notes == []
    trainer = Trainer(replace(small, augment=AugmentConfig(healthy=0.5)), arrays, train_rows, np.arange(12, 16))
    np.testing.assert_array_equal(trainer.midlines, midlines(arrays, train_rows))
    assert trainer.notes == [f"{(trainer.midlines != 0).sum()} of 12 training slices have a healthy half."]
