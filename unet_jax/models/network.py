"""The U-Net, from a ModelConfig."""

import functools

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from unet_jax.config import ModelConfig, UserError
from unet_jax.models.layers import ConvBlock, ConvTranspose, Dropout, batch_norm, max_pool


class UNet(nn.Module):
    """U-Net with transposed convolutions.

    Level l of the contracting path has `width * 2**l` channels; the bottom has those of the last level. With the
    default configuration this is the network of the original Keras notebook, 22,718,529 values. Weights of 3x3
    convolutions start he_normal; those of transposed and 1x1 convolutions glorot_uniform, Keras' default.

    Source: Ronneberger et al., "U-Net: convolutional networks for biomedical image segmentation", arXiv:1505.04597.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], *, train: bool, sample: bool = False) -> Float[Array, "b h w c"]:
        """
        Args:
            x: network input; both sides multiples of `config.stride`.
            train: normalise by the batch and drop values (needs the rng "dropout"), or use the running statistics.
            sample: drop values without `train` too, for Monte-Carlo dropout (Gal & Ghahramani, arXiv:1506.02142).

        Returns:
            Logits, one channel a class, float32.

        Raises:
            UserError: a side is no multiple of the stride.
        """
        c = self.config
        check_size(x.shape[1], x.shape[2], c)
        dtype = jnp.dtype(c.precision)
        momentum = c.norm_momentum if c.norm == "conv" else None
        block_type = nn.remat(ConvBlock) if c.remat else ConvBlock
        block = functools.partial(block_type, norm_momentum=momentum, dtype=dtype, train=train)
        dropout = functools.partial(Dropout(c.dropout), train=train or sample)
        widths = [c.width * 2**level for level in range(c.levels)]

        skips = []
        for level, width in enumerate(widths):
            x = block(width, name=f"down{level}")(x)
            skips.append(x)
            x = max_pool(x)
            if c.norm == "pool":
                x = batch_norm(c.norm_momentum, dtype, f"norm{level}")(x, use_running_average=not train)
            x = dropout(x)
        x = block(widths[-1], name="bottom")(x)
        for level, width in reversed(list(enumerate(widths))):
            x = ConvTranspose(width, dtype, name=f"transpose{level}")(x)
            x = block(width, name=f"up{level}")(dropout(x), dropout(skips[level]))
        x = nn.Conv(c.classes, (1, 1), kernel_init=nn.initializers.glorot_uniform(), dtype=dtype, name="output")(x)
        return x.astype(jnp.float32)


def check_size(h: int, w: int, config: ModelConfig) -> None:
    """Raise UserError unless both sides are multiples of the network's stride."""
    if h % config.stride or w % config.stride or not (h and w):
        raise UserError(
            f"image is {h}x{w}; both sides must be multiples of {config.stride} for {config.levels} levels. "
            f"Convert at another --size, or choose another --model.levels."
        )
