"""Layers of the U-Net: exact, and written for speed on CPU and GPU."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

Initializer = Callable[..., Array]


class ConvTranspose(nn.Module):
    """3x3 transposed convolution with stride 2: the parameters and the result of `nn.ConvTranspose`.

    An output pixel at an even position along an axis sees two inputs, one at an odd position sees one. So the four
    kinds of output pixel (sub-pixel phases) are four 2x2 convolutions of the input, here the channels of one
    convolution, interleaved afterwards. XLA's own form convolves an input stretched with zeros instead.

    Source: Shi et al., "Is the deconvolution layer the same as a convolutional layer?", arXiv:1609.07009.
    """

    features: int
    kernel_init: Initializer = nn.initializers.glorot_uniform()

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"]) -> Float[Array, "b h2 w2 o"]:
        b, h, w, i = x.shape
        kernel = self.param("kernel", self.kernel_init, (3, 3, i, self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        # Along an axis, even outputs are x[n-1] k[0] + x[n] k[2], odd ones x[n] k[1].
        taps = jnp.stack([kernel[0::2], jnp.pad(kernel[1:2], ((1, 0), (0, 0), (0, 0), (0, 0)))])
        taps = jnp.stack([taps[:, :, 0::2], jnp.pad(taps[:, :, 1:2], ((0, 0), (0, 0), (1, 0), (0, 0), (0, 0)))])
        phases = taps.transpose(2, 3, 4, 1, 0, 5).reshape(2, 2, i, 4 * self.features)
        y = jax.lax.conv_general_dilated(
            x, phases, (1, 1), ((1, 0), (1, 0)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = y.reshape(b, h, w, 2, 2, self.features).transpose(0, 1, 3, 2, 4, 5)
        return y.reshape(b, 2 * h, 2 * w, self.features) + bias.reshape(1, 1, 1, -1)


def max_pool(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """2x2 maximum with stride 2, the result of `nn.max_pool`.

    Where values of a window tie, they share the gradient, while `nn.max_pool` gives all of it to the first.

    Args:
        x: both sides even.
    """
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with ReLU, each optionally batch-normalised before the ReLU."""

    features: int
    norm_momentum: float | None
    """Momentum of the batch normalisation; None for none."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w i"], *, train: bool) -> Float[Array, "b h w o"]:
        for i in range(2):
            x = nn.Conv(self.features, (3, 3), kernel_init=nn.initializers.he_normal(), name=f"conv{i}")(x)
            if self.norm_momentum is not None:
                x = batch_norm(self.norm_momentum, f"norm{i}")(x, use_running_average=not train)
            x = nn.relu(x)
        return x


def batch_norm(momentum: float, name: str) -> nn.BatchNorm:
    """Batch normalisation with Keras' epsilon."""
    return nn.BatchNorm(momentum=momentum, epsilon=1e-3, name=name)
