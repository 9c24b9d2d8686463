"""The U-Net's expanding path: transposed convolutions, and skip connections of the same size."""

from collections.abc import Sequence

from jaxtyping import Array, Float

from unet_jax.models.layers import Layers


def decode(features: Sequence[Float[Array, "b _ _ _"]], layers: Layers) -> Float[Array, "b h w o"]:
    """Join features, which are as `encoders.table` says, from the bottom up to one map of the first one's size."""
    *skips, x = features
    for level in reversed(range(len(skips))):
        width = layers.config.upward_widths[level]
        x = layers.upsample(width, f"transpose{level}")(x)
        x = layers.block(width, f"up{level}")(layers.dropout(x), layers.dropout(skips[level]))
    return x
