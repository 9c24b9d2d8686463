"""Variables and images to probabilities."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from unet_jax.config import ModelConfig, PreprocessConfig
from unet_jax.models.compiler import compiler_options
from unet_jax.models.preprocess import preprocess
from unet_jax.models.unet import UNet

Variables = dict[str, Any]
"""`params` and `batch_stats`."""


def tumor_logits(logits: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
    """The logit of "tumour of whatever type": the largest over the classes."""
    return logits.max(axis=-1)


def make_predict(model: ModelConfig, prep: PreprocessConfig) -> Callable[..., Float[Array, "b h w"]]:
    """A jitted function `(variables, images, p1, p99) -> probabilities`.

    Its arguments: variables as `UNet.init` makes them; images (b, h, w) raw intensities at the network's size;
    p1, p99 (b,) as in `preprocess`. It returns float32 (b, h, w) in [0, 1].
    """
    net = UNet(model)

    @functools.partial(jax.jit, compiler_options=compiler_options())
    def predict(
        variables: Variables, images: Shaped[Array, "b h w"], p1: Float[Array, " b"], p99: Float[Array, " b"]
    ) -> Float[Array, "b h w"]:
        logits = net.apply(variables, preprocess(images, p1, p99, prep), train=False)
        return jax.nn.sigmoid(tumor_logits(jnp.asarray(logits)))

    return predict


def abstract_variables(model: ModelConfig) -> Variables:
    """Shapes and dtypes of the network's variables, without computing them."""
    net = UNet(model)
    x = jax.ShapeDtypeStruct((1, model.stride, model.stride, 1), jnp.float32)
    shapes = jax.eval_shape(lambda k, x: net.init(k, x, train=False), jax.random.key(0), x)
    return {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
