"""From the decoder's features to logits, and from logits of classes to those of tumour."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from unet_jax.models.layers import Layers, Pointwise


def classify(x: Float[Array, "b h w i"], layers: Layers) -> Float[Array, "b h w c"]:
    """Compute a logit a class for each pixel, float32, by a 1x1 convolution."""
    kernel_init = nn.initializers.glorot_uniform()
    output = Pointwise(layers.config.classes, layers.dtype, kernel_init, use_bias=True, name="output")
    return output(x).astype(jnp.float32)


def tumor_logits(logits: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
    """Give the logit of tumour of whatever type: the largest over the classes."""
    return logits.max(axis=-1)
