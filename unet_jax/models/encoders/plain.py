"""The original notebook's contracting path: two convolutions a level, then pooling."""

from jaxtyping import Array, Float

from unet_jax.models.layers import Layers, max_pool


def encode(x: Float[Array, "b h w i"], layers: Layers) -> list[Float[Array, "b _ _ _"]]:
    """Compute the features of each level, from full size down to the bottom, as `encoders.table` says."""
    config, features = layers.config, []
    for level, width in enumerate(config.widths):
        x = layers.block(width, f"down{level}")(x)
        features.append(x)
        x = max_pool(x)
        if config.norm == "pool":
            x = layers.norm(f"norm{level}")(x)
        x = layers.dropout(x)
    return [*features, layers.block(config.widths[-1], "bottom")(x)]
