"""The segmentation network: an encoder, a decoder and a head, joined."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from unet_jax.config import ModelConfig, UserError
from unet_jax.models.decoders.unet import decode
from unet_jax.models.encoders.table import ENCODERS
from unet_jax.models.heads import classify
from unet_jax.models.layers import Dropout, Layers

Variables = dict[str, Any]
"""`params` and `batch_stats` of a network, as `flax.linen` nests them."""


class UNet(nn.Module):
    """U-Net with transposed convolutions, and the contracting path that the configuration names.

    Level l of the plain one has `width * 2**l` channels; the bottom has those of the last level. With the default
    configuration this is the network of the original Keras notebook, 22,718,529 values. Weights of 3x3 convolutions
    start he_normal; those of transposed and 1x1 convolutions glorot_uniform, Keras' default.

    Source: Ronneberger et al., "U-Net: convolutional networks for biomedical image segmentation", arXiv:1505.04597.
    """

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], *, train: bool, sample: bool = False) -> Float[Array, "b h w c"]:
        """Compute the logits of a batch.

        Args:
            x: network input; both sides multiples of `config.stride`.
            train: normalise by the batch and drop values (needs the rng "dropout"), or use the running statistics.
            sample: drop values without `train` too, for Monte-Carlo dropout (Gal & Ghahramani, arXiv:1506.02142).

        Returns:
            Logits, one channel a class, float32.

        Raises:
            UserError: a side is no multiple of the stride.
        """
        check_size(x.shape[1], x.shape[2], self.config)
        # The parts are functions, not modules, so that their layers' names and draws of dropout are the network's own.
        layers = Layers(self.config, Dropout(self.config.dropout), train=train, drop=train or sample)
        features = ENCODERS[self.config.encoder](x, layers)
        return classify(decode(features, layers), layers)


def check_size(h: Any, w: Any, config: ModelConfig) -> None:
    """Raise UserError unless both sides are multiples of the network's stride.

    Args:
        h, w: numbers, or what stands for any multiple of a number when a network is exported.
        config: of the network.
    """
    if h % config.stride or w % config.stride or not (h and w):
        other = "levels" if config.encoder == "plain" else "encoder"
        raise UserError(
            f"image is {h}x{w}; both sides must be multiples of {config.stride} for {config.levels} levels. "
            f"Convert at another --size, or choose another --model.{other}."
        )


def abstract_variables(model: ModelConfig) -> Variables:
    """Give shapes and dtypes of the network's variables, without computing them."""
    net = UNet(replace(model, precision="float32"))  # variables are, whatever is computed in
    x = jax.ShapeDtypeStruct((1, model.stride, model.stride, 1), jnp.float32)
    shapes = jax.eval_shape(lambda x: net.init(jax.random.key(0), x, train=False), x)
    return {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}


def in_encoder(layer: str) -> bool:
    """Tell whether a layer, named as in the network's variables, belongs to the encoder."""
    return not layer.startswith(("transpose", "up", "output"))
