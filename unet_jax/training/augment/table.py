"""The tables of augmentations, and their two stages: geometry on image and mask, intensity on the normalised image.

An operation has the name of the field of AugmentConfig that turns it on: it is left out where that is false or zero.
A new one is a file, a row here and a field there.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jaxtyping import Array, Float, Shaped

from unet_jax.config import AugmentConfig
from unet_jax.training.augment.flip import horizontal_flip

GEOMETRY: dict[str, Callable[..., Any]] = {"horizontal_flip": horizontal_flip}
"""`(key, images, masks, config) -> (images, masks)`, both (b, h, w) of any dtype, which stays; images are raw."""

INTENSITY: dict[str, Callable[..., Any]] = {}
"""`(key, x, config) -> x`, the network's input, float32 (b, h, w, 1), 0 to 1 before the first of them."""


def augment_geometry(
    key: Array, images: Shaped[Array, "b h w"], masks: Shaped[Array, "b h w"], config: AugmentConfig
) -> tuple[Shaped[Array, "b h w"], Shaped[Array, "b h w"]]:
    """Move, turn and bend the slices of a training batch, masks with them.

    Args:
        key: of the step; every operation draws from a key of its own.
        images: raw intensities.
        masks: 0 or 1.
        config: which operations, and how much.
    """
    for name, operation in _on(GEOMETRY, config).items():
        images, masks = operation(_own_key(key, name), images, masks, config)
    return images, masks


def augment_intensity(key: Array, x: Float[Array, "b h w 1"], config: AugmentConfig) -> Float[Array, "b h w 1"]:
    """Change the intensities of a training batch; arguments as in INTENSITY."""
    for name, operation in _on(INTENSITY, config).items():
        x = operation(_own_key(key, name), x, config)
    return x


def _on(table: Mapping[str, Callable[..., Any]], config: AugmentConfig) -> dict[str, Callable[..., Any]]:
    return {name: operation for name, operation in table.items() if getattr(config, name)}


def _own_key(key: Array, name: str) -> Array:
    """Give an operation its key, so that adding one changes the draws of no other."""
    # The flip is older than the others, and draws as it did when it was alone.
    return key if name == "horizontal_flip" else jax.random.fold_in(key, zlib.crc32(name.encode()))
