"""The tables of augmentations, and their two stages: geometry on image and mask, intensity on the normalised image.

An operation has the name of the field of AugmentConfig that turns it on: it is left out where that is false or zero.
A new one is a file, a row here and a field there.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
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
    """Move, turn and bend the slices of a training batch, masks with them; arguments as in GEOMETRY, masks 0 or 1."""
    for operation, own_key in _drawing(GEOMETRY, key, config):
        images, masks = operation(own_key, images, masks, config)
    return images, masks


def augment_intensity(key: Array, x: Float[Array, "b h w 1"], config: AugmentConfig) -> Float[Array, "b h w 1"]:
    """Change the intensities of a training batch; arguments as in INTENSITY."""
    for operation, own_key in _drawing(INTENSITY, key, config):
        x = operation(own_key, x, config)
    return x


def _drawing(
    table: Mapping[str, Callable[..., Any]], key: Array, config: AugmentConfig
) -> Iterator[tuple[Callable[..., Any], Array]]:
    """Give the operations that are on, each with a key of its own, so that adding one changes the draws of no other."""
    for name, operation in table.items():
        if getattr(config, name):
            # The flip is older than the others, and draws as it did when it was alone.
            yield operation, key if name == "horizontal_flip" else jax.random.fold_in(key, zlib.crc32(name.encode()))
