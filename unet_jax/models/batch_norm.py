"""Batch normalisation: the parameters, statistics and results of `nn.BatchNorm`, with a gradient written by hand."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from unet_jax.models.sums import channel_sums

EPSILON = 1e-3
"""Number added to variances, Keras' own."""


class BatchNorm(nn.Module):
    """Normalise each channel by the batch's mean and variance, or by the running ones; then scale and shift it.

    Statistics are computed and kept in float32, whatever the type of the computation.

    Source: Ioffe & Szegedy, "Batch normalization", arXiv:1502.03167.
    """

    momentum: float
    """Part of the running statistics that a batch leaves as they were."""
    dtype: jnp.dtype
    """Type of the result."""
    train: bool
    """Normalise by the batch, and update the running statistics where they may be changed."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        shape = x.shape[-1:]
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones_init(), shape)
        bias = self.param("bias", nn.initializers.zeros_init(), shape)
        if not self.train:
            return _normalised(x, mean.value, var.value, scale, bias).astype(self.dtype)
        normalised: Any = normalise(x, scale, bias, self.dtype)
        y, (of_batch, spread) = normalised
        if not self.is_initializing():
            mean.value = self.momentum * mean.value + (1 - self.momentum) * of_batch
            var.value = self.momentum * var.value + (1 - self.momentum) * spread
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    x: Float[Array, "b h w c"], scale: Float[Array, " c"], bias: Float[Array, " c"], dtype: jnp.dtype
) -> tuple[Float[Array, "b h w c"], tuple[Float[Array, " c"], Float[Array, " c"]]]:
    """Normalise by the batch; give the result, and mean and variance, through which no gradient flows."""
    return _forward(x, scale, bias, dtype)[0]


_Result = tuple[Array, tuple[Array, Array]]
"""Normalised values; mean and variance."""


def _forward(x: Array, scale: Array, bias: Array, dtype: jnp.dtype) -> tuple[_Result, tuple[Array, ...]]:
    count = x.size // x.shape[-1]
    wide = x.astype(jnp.float32)
    mean, squares = (total / count for total in channel_sums(wide, wide * wide))
    var = jnp.maximum(squares - mean * mean, 0)
    y = _normalised(x, mean, var, scale, bias).astype(dtype)
    return (y, (mean, var)), (x, mean, var, scale)


def _backward(dtype: jnp.dtype, kept: tuple[Array, ...], gradients: _Result) -> tuple[Array, Array, Array]:
    (x, mean, var, scale), g = kept, gradients[0].astype(jnp.float32)
    count, factor = x.size // x.shape[-1], jax.lax.rsqrt(var + EPSILON)
    normal = (x - _wide(mean)) * _wide(factor)
    of_bias, of_scale = channel_sums(g, g * normal)
    of_x = (g - _wide(of_bias / count) - normal * _wide(of_scale / count)) * _wide(factor * scale)
    return of_x.astype(x.dtype), of_scale, of_bias


normalise.defvjp(_forward, _backward)


def _normalised(x: Array, mean: Array, var: Array, scale: Array, bias: Array) -> Float[Array, "b h w c"]:
    return (x - _wide(mean)) * _wide(jax.lax.rsqrt(var + EPSILON) * scale) + _wide(bias)


def _wide(values: Float[Array, " c"]) -> Float[Array, "1 1 1 c"]:
    return values.reshape(1, 1, 1, -1)
