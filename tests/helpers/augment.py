"""Slices to augment, and a configuration with every augmentation on."""

import jax
import jax.numpy as jnp
import numpy as np

from unet_jax.config import AugmentConfig

GEOMETRY = ("rotation", "zoom", "stretch", "shear", "shift", "elastic")
INTENSITY = ("blur", "low_resolution", "bias_field", "contrast", "brightness", "gamma", "noise")

STRONG = AugmentConfig(
    vertical_flip=True,
    rotation=30.0,
    zoom=0.25,
    stretch=0.15,
    shear=10.0,
    shift=0.08,
    elastic=0.05,
    blur=1.5,
    low_resolution=1.0,
    bias_field=0.3,
    contrast=0.25,
    brightness=0.1,
    gamma=0.4,
    noise=0.05,
)


def blobs(b: int, h: int, w: int) -> tuple[jax.Array, jax.Array]:
    """Smooth bright ellipses off the centre, x (b, h, w, 1) from 0 to 1, and masks (b, h, w): where x is above half."""
    y, x = np.mgrid[:h, :w].astype(np.float32)
    one = np.exp(-(((y - 0.4 * h) / (0.25 * h)) ** 2) - ((x - 0.45 * w) / (0.15 * w)) ** 2)
    image = jnp.asarray(np.tile(one, (b, 1, 1)))
    return image[..., None], (image > 0.5).astype(jnp.uint8)
