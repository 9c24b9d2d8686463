"""EfficientNet-Lite0 without its head, as a contracting path: inverted residuals with depthwise convolutions.

Its weights, which `models.pretrained` reads, were learnt with padding SAME as TensorFlow has it, on three channels that
are 2 x - 1 for a brightness x of 0 to 1. Layers are named as in timm (`tf_efficientnet_lite0`), a block by its
stage and its place in it, from 0.

Sources: Tan & Le, "EfficientNet: rethinking model scaling for convolutional neural networks", arXiv:1905.11946, table
1. The Lite variant (no squeeze-and-excitation, ReLU6, stem of fixed width) is that of github.com/tensorflow/tpu,
models/official/efficientnet/lite.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from unet_jax.models.batch_norm import BatchNorm
from unet_jax.models.depthwise import depthwise, same_padding
from unet_jax.models.layers import Layers, Pointwise

STEM = 32
"""Channels of the first convolution."""

LEVELS = 5
"""Number of times that the side is halved."""

PREFIX = "encoder_"
"""Beginning of the names of the encoder's parameters, among those of the network."""


@dataclass(frozen=True)
class Stage:
    """Blocks of one width; the first of them has the stride."""

    repeats: int
    size: int
    """Side of the depthwise kernels."""
    stride: int
    expansion: int
    """Channels inside a block for each channel of its input; at 1 the block does not widen it first."""
    features: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
LAST_OF_SIZE = (0, 1, 2, 4, 6)
"""Stages after which the side is halved, and the last one: their results are features."""


def encode(x: Float[Array, "b h w i"], layers: Layers) -> list[Float[Array, "b _ _ _"]]:
    """Compute x itself, then 16, 24, 40, 112 and 320 channels, as `encoders.table` says."""
    features = [x]
    remat = nn.remat if layers.config.remat else lambda kind: kind
    momentum = layers.config.norm_momentum
    x = remat(Stem)(momentum, layers.dtype, layers.train, name=f"{PREFIX}stem")(2 * x - 1)
    for number, stage in enumerate(STAGES):
        for place in range(stage.repeats):
            stride = stage.stride if place == 0 else 1
            block = remat(Block)(
                stage, stride, momentum, layers.dtype, layers.train, name=f"{PREFIX}block{number}_{place}"
            )
            x = block(x)
        if number in LAST_OF_SIZE:
            features.append(x)
    return features


class Stem(nn.Module):
    """3x3 convolution with stride 2."""

    momentum: float
    dtype: jnp.dtype
    train: bool

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        padding = [same_padding(side, 3, 2) for side in x.shape[1:3]]
        conv = nn.Conv(
            STEM, (3, 3), 2, padding, use_bias=False, dtype=self.dtype, kernel_init=FAN_OUT, name="conv_stem"
        )
        return nn.relu6(BatchNorm(self.momentum, self.dtype, self.train, name="bn1")(conv(x)))


class Block(nn.Module):
    """Inverted residual: widen each pixel, convolve each channel, narrow each pixel, and add the input where it fits.

    Source: Sandler et al., "MobileNetV2: inverted residuals and linear bottlenecks", arXiv:1801.04381.
    """

    stage: Stage
    stride: int
    momentum: float
    dtype: jnp.dtype
    """Type of the computation; parameters and statistics are float32."""
    train: bool
    """Normalise by the batch, or by the running statistics."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        i, inside = x.shape[-1], self.stage.expansion * x.shape[-1]
        widens = self.stage.expansion > 1
        norms = iter(BatchNorm(self.momentum, self.dtype, self.train, name=f"bn{n}") for n in (1, 2, 3))
        y = x
        if widens:
            y = nn.relu6(next(norms)(self._pointwise("conv_pw", inside)(y)))
        y = nn.relu6(next(norms)(Depthwise(self.stage.size, self.stride, self.dtype, name="conv_dw")(y)))
        y = next(norms)(self._pointwise("conv_pwl" if widens else "conv_pw", self.stage.features)(y))
        return x + y if self.stride == 1 and i == self.stage.features else y

    def _pointwise(self, name: str, features: int) -> Pointwise:
        return Pointwise(features, self.dtype, FAN_OUT, name=name)


class Depthwise(nn.Module):
    """Depthwise convolution with padding SAME."""

    size: int
    stride: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        # Each channel sees and is seen by size**2 weights: the kernel's fan in.
        kernel = self.param("kernel", nn.initializers.he_normal(), (self.size, self.size, 1, x.shape[-1]))
        return depthwise(x.astype(self.dtype), kernel, self.stride)


FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
"""He et al.'s initial weights, which keep the variance of gradients."""
