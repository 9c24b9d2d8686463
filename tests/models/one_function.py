"""The U-Net as one function from input to logits: what the network was before it was divided into parts."""

import functools

import jax.numpy as jnp
from flax import linen as nn

from unet_jax.config import ModelConfig
from unet_jax.models.batch_norm import BatchNorm
from unet_jax.models.layers import ConvBlock, ConvTranspose, Dropout, Pointwise, max_pool


class OneFunction(nn.Module):
    """The same layers by the same names, in the same order."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x, *, train):
        c = self.config
        dtype = jnp.dtype(c.precision)
        momentum = c.norm_momentum if c.norm == "conv" else None
        block_type = nn.remat(ConvBlock) if c.remat else ConvBlock
        block = functools.partial(block_type, norm_momentum=momentum, dtype=dtype, train=train)
        dropout = functools.partial(Dropout(c.dropout), train=train)
        widths = [c.width * 2**level for level in range(c.levels)]
        skips = []
        for level, width in enumerate(widths):
            x = block(width, name=f"down{level}")(x)
            skips.append(x)
            x = max_pool(x)
            if c.norm == "pool":
                x = BatchNorm(c.norm_momentum, dtype, train, name=f"norm{level}")(x)
            x = dropout(x)
        x = block(widths[-1], name="bottom")(x)
        for level, width in reversed(list(enumerate(widths))):
            x = ConvTranspose(width, dtype, name=f"transpose{level}")(x)
            x = block(width, name=f"up{level}")(dropout(x), dropout(skips[level]))
        output = Pointwise(c.classes, dtype, nn.initializers.glorot_uniform(), use_bias=True, name="output")
        return output(x).astype(jnp.float32)
