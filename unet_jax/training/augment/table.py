"""The tables of augmentations, and their two stages: geometry on image and mask, intensity on the image alone.

An operation has the name of the field of AugmentConfig that says how strong it is, beside NAME_p, the probability that
a slice is changed by it; it is left out where either is zero. A new one is a function, a row here and those two fields.
Both stages work on the network's input: normalising a pixel and moving it can be done in either order.
"""

import functools
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Shaped

from unet_jax.config import AugmentConfig
from unet_jax.training.augment.affine import rotation, shear, shift, stretch, zoom
from unet_jax.training.augment.elastic import elastic
from unet_jax.training.augment.flip import flip_half
from unet_jax.training.augment.intensity import bias_field, brightness, contrast, gamma, noise
from unet_jax.training.augment.resolution import blur, low_resolution
from unet_jax.training.augment.warp import warp

FLIPS = {"horizontal_flip": 2, "vertical_flip": 1}
"""Axis of (b, h, w) that is reversed with probability one half: exactly, never resampled."""

AFFINE: dict[str, Callable[..., Any]] = {
    "zoom": zoom,
    "stretch": stretch,
    "shear": shear,
    "rotation": rotation,
    "shift": shift,
}
"""`(key, (b, h, w), strength) -> (b, 3, 3)`: for each slice the matrix from places of the changed slice to those of the
original, (y, x, 1) in pixels from the centre. They change a slice in this order."""

FIELDS: dict[str, Callable[..., Any]] = {"elastic": elastic}
"""`(key, (b, h, w), strength) -> (b, 2, h, w)`: for each pixel of the changed slice, (y, x) in pixels of the original,
how far the place that is seen there lies from the one that the matrices give."""

INTENSITY: dict[str, Callable[..., Any]] = {
    "blur": blur,
    "low_resolution": low_resolution,
    "bias_field": bias_field,
    "contrast": contrast,
    "brightness": brightness,
    "gamma": gamma,
    "noise": noise,
}
"""`(key, x, strength) -> x`, float32 (b, h, w, 1), 0 to 1 before the first of them. After the last one it is clipped
to 0 to 1, as the network's input always is."""


def augment_geometry(
    key: Array, x: Float[Array, "b h w 1"], masks: Shaped[Array, "b h w"], config: AugmentConfig
) -> tuple[Float[Array, "b h w 1"], Shaped[Array, "b h w"]]:
    """Mirror, move, turn and bend the slices of a training batch, masks with them.

    Args:
        key: of the step.
        x: the network's input, in which 0 is background.
        masks: 0 or 1, of any type, which stays.
        config: what is on.
    """
    for name, axis in FLIPS.items():
        if getattr(config, name):
            # The flip left and right is older than the others, and draws as it did when it was alone.
            own_key = key if name == "horizontal_flip" else jax.random.fold_in(key, _word(name))
            x, masks = flip_half(own_key, axis, x, masks)
    b, h, w = masks.shape
    matrices, fields = [], []
    for name, own_key, chosen in _drawing(AFFINE, key, b, config):
        matrix = AFFINE[name](own_key, (b, h, w), getattr(config, name))
        matrices.append(jnp.where(chosen.reshape(b, 1, 1), matrix, jnp.eye(3)[None]))
    for name, own_key, chosen in _drawing(FIELDS, key, b, config):
        field = FIELDS[name](own_key, (b, h, w), getattr(config, name))
        fields.append(jnp.where(chosen.reshape(b, 1, 1, 1), field, 0.0))
    if not matrices and not fields:
        return x, masks
    matrix = functools.reduce(_product, matrices or [jnp.tile(jnp.eye(3), (b, 1, 1))])
    return warp(x, masks, matrix, functools.reduce(jnp.add, fields) if fields else None)


def augment_intensity(key: Array, x: Float[Array, "b h w 1"], config: AugmentConfig) -> Float[Array, "b h w 1"]:
    """Change the intensities of a training batch; arguments as in `augment_geometry`."""
    drawing = _drawing(INTENSITY, key, x.shape[0], config)
    for name, own_key, chosen in drawing:
        x = jnp.where(chosen.reshape(-1, 1, 1, 1), INTENSITY[name](own_key, x, getattr(config, name)), x)
    return jnp.clip(x, 0.0, 1.0) if drawing else x


def _drawing(
    table: Iterable[str], key: Array, b: int, config: AugmentConfig
) -> list[tuple[str, Array, Bool[Array, " b"]]]:
    """Give the operations that are on, each with a key for its own draws and the slices that it is to change."""
    names = [name for name in table if getattr(config, name) and getattr(config, f"{name}_p")]
    if not names:
        return []
    # All together, because each drawing of random numbers costs the compiler 60 ms.
    words = np.array([_word(name) for name in names], np.uint32)
    keys = jax.vmap(lambda word: jax.random.split(jax.random.fold_in(key, word)))(words)
    p = np.array([getattr(config, f"{name}_p") for name in names], np.float32)
    chosen = jax.vmap(lambda key, p: jax.random.bernoulli(key, p, (b,)))(keys[:, 0], p)
    return list(zip(names, keys[:, 1], chosen, strict=True))


def _word(name: str) -> int:
    """Number that is folded into the step's key for an operation, so that adding one changes no draw of another."""
    return zlib.crc32(name.encode())


def _product(first: Float[Array, "b 3 3"], then: Float[Array, "b 3 3"]) -> Float[Array, "b 3 3"]:
    return jnp.matmul(first, then, precision="highest")  # some accelerators would round to 10 bits
