"""Layers of the U-Net: exact, and written for speed on CPU and GPU."""

import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, UInt32

from unet_jax.config import ModelConfig
from unet_jax.models.batch_norm import BatchNorm
from unet_jax.models.convolution import add_bias, convolve


class Conv(nn.Module):
    """3x3 convolution of one or several arrays side by side: `nn.Conv` of their concatenation along the channels.

    Each part is convolved with its own share of the kernel, and the results are added; so the concatenation, a copy of
    the largest arrays of the network, is never made.
    """

    features: int
    dtype: jnp.dtype
    """Type of the computation; parameters are float32."""

    @nn.compact
    def __call__(self, *parts: Float[Array, "b h w _"]) -> Float[Array, "b h w o"]:
        channels = sum(x.shape[-1] for x in parts)
        kernel = self.param("kernel", nn.initializers.he_normal(), (3, 3, channels, self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        ends = list(itertools.accumulate(x.shape[-1] for x in parts))
        shares = (kernel[:, :, end - x.shape[-1] : end] for x, end in zip(parts, ends, strict=True))
        y, *more = (convolve(x, share, self.dtype, ((1, 1), (1, 1))) for x, share in zip(parts, shares, strict=True))
        return add_bias(sum(more, y), bias)


class Pointwise(nn.Module):
    """1x1 convolution: the parameters and the result of `nn.Conv`."""

    features: int
    dtype: jnp.dtype
    """Type of the computation; parameters are float32."""
    kernel_init: nn.initializers.Initializer
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h w o"]:
        kernel = self.param("kernel", self.kernel_init, (1, 1, x.shape[-1], self.features))
        y = convolve(x, kernel, self.dtype, ((0, 0), (0, 0)))
        return add_bias(y, self.param("bias", nn.initializers.zeros_init(), (self.features,))) if self.use_bias else y


class ConvTranspose(nn.Module):
    """3x3 transposed convolution with stride 2: the parameters and the result of `nn.ConvTranspose`.

    An output pixel at an even position along an axis sees two inputs, one at an odd position sees one. So even rows
    are one convolution of the input, odd rows another, each with the even and the odd columns as channels, which lie in
    memory as the columns of the result do. XLA's own form convolves an input stretched with zeros instead.

    Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", arXiv:1609.07009.
    """

    features: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        b, h, w, i = x.shape
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (3, 3, i, self.features))
        # Along an axis, even outputs are x[n-1] k[0] + x[n] k[2], odd ones x[n] k[1].
        odd_columns = jnp.pad(kernel[:, 1:2], ((0, 0), (1, 0), (0, 0), (0, 0)))
        taps = jnp.stack([kernel[:, 0::2], odd_columns], axis=3).reshape(3, 2, i, 2 * self.features)
        even = convolve(x, taps[0::2], self.dtype, ((1, 0), (1, 0)))
        odd = convolve(x, taps[1:2], self.dtype, ((0, 0), (1, 0)))
        rows = [y.reshape(b, h, 2 * w, self.features) for y in (even, odd)]
        y = jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, self.features)
        return add_bias(y, self.param("bias", nn.initializers.zeros_init(), (self.features,)))


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with ReLU, each optionally batch-normalised before the ReLU."""

    features: int
    norm_momentum: float | None
    """Momentum of the batch normalisation; None for none."""
    dtype: jnp.dtype
    """Type of the computation; parameters and statistics are float32."""
    train: bool
    """Normalise by the batch, or by the running statistics. Not an argument of the call, so that the block can be
    rematerialised."""

    @nn.compact
    def __call__(self, *parts: Float[Array, "b h w _"]) -> Float[Array, "b h w o"]:
        """Take the parts side by side as the input, as `Conv` does."""
        for i in range(2):
            x = Conv(self.features, self.dtype, name=f"conv{i}")(*parts)
            if self.norm_momentum is not None:
                x = BatchNorm(self.norm_momentum, self.dtype, self.train, name=f"norm{i}")(x)
            parts = (nn.relu(x),)
        return parts[0]


class Dropout(nn.Module):
    """Values set to zero with probability `rate`, the others scaled by 1 / (1 - rate), as in `nn.Dropout`.

    Which ones is a hash of the rng "dropout" and of the value's position in the whole batch. The hash is a few
    multiplications and shifts that compile into the loop of the layer itself, where drawing random numbers costs a CPU
    as much as the convolution behind it. It does not depend on the backend, nor on how a batch is spread over devices.
    """

    rate: float

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], *, train: bool) -> Float[Array, "b h w c"]:
        if not train or self.rate == 0:
            return x
        keep = position_hash(self.make_rng("dropout"), x.shape) >= np.uint32(round(self.rate * 2**32))
        return jnp.where(keep, x / (1 - self.rate), 0)


@dataclass(frozen=True)
class Layers:
    """Maker of the layers of one call of a network, as its configuration has them."""

    config: ModelConfig
    dropping: Dropout
    """The one dropout of the network: its calls draw one after the other."""
    train: bool
    """Normalise by the batch, or by the running statistics."""
    drop: bool
    """Drop values."""

    @property
    def dtype(self) -> jnp.dtype:
        """Type that is computed in."""
        return jnp.dtype(self.config.precision)

    def block(self, features: int, name: str) -> ConvBlock:
        """Make two convolutions with ReLU, rematerialised and normalised as the configuration has them."""
        kind = nn.remat(ConvBlock) if self.config.remat else ConvBlock
        momentum = self.config.norm_momentum if self.config.norm == "conv" else None
        return kind(features, norm_momentum=momentum, dtype=self.dtype, train=self.train, name=name)

    def upsample(self, features: int, name: str) -> ConvTranspose:
        """Make a transposed convolution that doubles both sides."""
        return ConvTranspose(features, self.dtype, name=name)

    def norm(self, name: str) -> BatchNorm:
        """Make a batch normalisation."""
        return BatchNorm(self.config.norm_momentum, self.dtype, self.train, name=name)

    def dropout(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Drop values if values are dropped in this call."""
        return self.dropping(x, train=self.drop)


def position_hash(key: Array, shape: tuple[int, ...]) -> UInt32[Array, "*shape"]:
    """Numbers spread evenly over 0 to 2**32 - 1, each a function of the key and of its position alone.

    For dropout, not for cryptography. Positions repeat after 2**32 of them.

    Source: the multipliers and shifts are those of lowbias32, which Chris Wellons found by search ("Prospecting for
    hash functions", 2018); the key enters before each multiplication.
    """
    words = jax.random.key_data(key)
    position = jnp.zeros((1,) * len(shape), jnp.uint32)
    for axis, size in enumerate(shape):
        position = position * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    x = position ^ words[0]
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15) ^ words[1]) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """2x2 maximum with stride 2 of even sides, the result of `nn.max_pool`.

    Where values of a window tie, they share the gradient, while `nn.max_pool` gives all of it to the first.
    """
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
