"""Random changes of a batch of training slices, image and mask alike."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped

from unet_jax.config import AugmentConfig


def augment(
    key: Array, images: Shaped[Array, "b h w"], masks: Shaped[Array, "b h w"], config: AugmentConfig
) -> tuple[Shaped[Array, "b h w"], Shaped[Array, "b h w"]]:
    """Draw for the whole batch from one key; dtypes stay."""
    if config.horizontal_flip:
        flip = jax.random.bernoulli(key, 0.5, (images.shape[0],))
        images, masks = mirror(images, flip), mirror(masks, flip)
    return images, masks


def mirror(x: Shaped[Array, "b h w"], flip: Bool[Array, " b"]) -> Shaped[Array, "b h w"]:
    """Left and right exchanged in the slices where `flip` is true."""
    return jnp.where(flip.reshape(-1, 1, 1), x[:, :, ::-1], x)
