"""Compiled programs from variables and images to probabilities: the only jax of this room."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from unet_jax.config import ModelConfig, PreprocessConfig
from unet_jax.models.compiler import compiler_options
from unet_jax.models.heads import tumor_logits
from unet_jax.models.network import UNet, Variables
from unet_jax.models.preprocess import preprocess


@functools.cache
def make_predict(
    model: ModelConfig, prep: PreprocessConfig, *, tta: bool = False, onednn: bool = True
) -> Callable[..., Any]:
    """Compile `(variables, images, p1, p99) -> probabilities`, the same function for equal arguments.

    Its arguments: variables as `UNet.init` makes them; images (b, h, w) raw intensities at the network's size;
    p1, p99 (b,) as in `preprocess`. It returns float32 (b, h, w) in [0, 1]: under `tta` the average for a slice and
    for its mirror image (left and right exchanged).

    With `onednn` convolutions are oneDNN's, on a CPU where it is there: faster, but every process compiles them anew.
    """
    net = UNet(model)

    @functools.partial(jax.jit, compiler_options=compiler_options(onednn=onednn))
    def predict(
        variables: Variables, images: Shaped[Array, "b h w"], p1: Float[Array, " b"], p99: Float[Array, " b"]
    ) -> Float[Array, "b h w"]:
        def probabilities(x: Float[Array, "b h w 1"]) -> Float[Array, "b h w"]:
            return jax.nn.sigmoid(tumor_logits(jnp.asarray(net.apply(variables, x, train=False))))

        x = preprocess(images, p1, p99, prep)
        if not tta:
            return probabilities(x)
        return (probabilities(x) + probabilities(x[:, :, ::-1])[:, :, ::-1]) / 2

    return predict


@functools.cache
def make_dropout_spread(
    model: ModelConfig, prep: PreprocessConfig, samples: int, *, onednn: bool = True
) -> Callable[..., Any]:
    """Compile `(variables, image, p1, p99) -> spread` of one slice, by Monte-Carlo dropout.

    Its arguments: variables as `UNet.init` makes them; image (h, w); p1, p99 (). It returns float32 (h, w), the
    standard deviation of the probability over `samples` passes with dropout, 0 to 0.5. What is dropped is the same for
    every slice, so that a slice's spread depends on nothing but the slice. `onednn` is as in `make_predict`.

    Source: Gal & Ghahramani, "Dropout as a Bayesian approximation", arXiv:1506.02142.
    """
    net = UNet(model)

    @functools.partial(jax.jit, compiler_options=compiler_options(onednn=onednn))
    def spread(
        variables: Variables, image: Shaped[Array, "h w"], p1: Float[Array, ""], p99: Float[Array, ""]
    ) -> Float[Array, "h w"]:
        x = preprocess(image[None], p1[None], p99[None], prep)
        x = jnp.broadcast_to(x, (samples, *x.shape[1:]))
        logits = net.apply(variables, x, train=False, sample=True, rngs={"dropout": jax.random.key(0)})
        return jax.nn.sigmoid(tumor_logits(jnp.asarray(logits))).std(axis=0)

    return spread


@jax.jit
def mean_and_spread(each: list[Float[Array, "b h w"]]) -> tuple[Float[Array, "b h w"], Float[Array, "b h w"]]:
    """Average several networks' probabilities of a batch, and give their standard deviation."""
    stacked = jnp.stack(each)
    return stacked.mean(axis=0), stacked.std(axis=0)
