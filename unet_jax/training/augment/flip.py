"""Mirror slices left and right."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped

from unet_jax.config import AugmentConfig


def horizontal_flip(
    key: Array, images: Shaped[Array, "b h w"], masks: Shaped[Array, "b h w"], config: AugmentConfig
) -> tuple[Shaped[Array, "b h w"], Shaped[Array, "b h w"]]:
    """Mirror each slice and its mask with probability one half."""
    flip = jax.random.bernoulli(key, 0.5, (images.shape[0],))
    return mirror(images, flip), mirror(masks, flip)


def mirror(x: Shaped[Array, "b h w"], flip: Bool[Array, " b"]) -> Shaped[Array, "b h w"]:
    """Exchange left and right in the slices where `flip` is true."""
    return jnp.where(flip.reshape(-1, 1, 1), x[:, :, ::-1], x)
