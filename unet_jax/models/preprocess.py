"""Raw intensities at the network's size to network input: the same function for train, eval and predict."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from unet_jax.config import PreprocessConfig


def preprocess(
    images: Shaped[Array, "b h w"], p1: Float[Array, " b"], p99: Float[Array, " b"], config: PreprocessConfig
) -> Float[Array, "b h w 1"]:
    """Scale intensities to the range 0 to 1 and clip.

    Args:
        images: raw intensities, any integer or float dtype.
        p1, p99: 1st and 99th percentile of each slice at its native size.

    Returns:
        float32 in [0, 1]. Under `percentile`, a slice whose percentiles agree becomes zeros.
    """
    x = images.astype(jnp.float32)
    if config.kind == "fixed":
        x = x / config.scale
    else:
        low, high = p1.reshape(-1, 1, 1), p99.reshape(-1, 1, 1)
        span = high - low
        x = jnp.where(span > 0, (x - low) / jnp.where(span > 0, span, 1.0), 0.0)
    return jnp.clip(x, 0.0, 1.0)[..., None]
