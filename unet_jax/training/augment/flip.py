"""Mirror slices left and right."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from unet_jax.config import AugmentConfig


def horizontal_flip(
    key: Array, images: Shaped[Array, "b h w"], masks: Shaped[Array, "b h w"], config: AugmentConfig
) -> tuple[Shaped[Array, "b h w"], Shaped[Array, "b h w"]]:
    """Mirror each slice and its mask with probability one half."""
    flip = jax.random.bernoulli(key, 0.5, (images.shape[0],)).reshape(-1, 1, 1)
    return jnp.where(flip, images[:, :, ::-1], images), jnp.where(flip, masks[:, :, ::-1], masks)
