"""Binary cross-entropy, a mean over pixels and classes."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.config import LossConfig
from unet_jax.training.losses.term import Term


class Sums(NamedTuple):
    """Sums of a set of slices, per class: shape (c,), float32."""

    cross_entropy: Any
    pixels: Any


def sums(
    logits: Float[Array, "b h w c"], target: Float[Array, "b h w c"], valid: Float[Array, " b"], config: LossConfig
) -> Sums:
    """Sum the cross-entropy over the pixels of valid slices; arguments as in `Term`."""
    v = valid.reshape(-1, 1, 1, 1)
    # -log p of the target's side: log(1 + e^x) - x y, without overflow.
    cross_entropy = jnp.logaddexp(0.0, logits) - logits * target
    return Sums((cross_entropy * v).sum((0, 1, 2)), (jnp.ones_like(logits) * v).sum((0, 1, 2)))


def value(sums: Sums, config: LossConfig) -> Float[Array, ""]:
    """Average over pixels and classes: -(y log p + (1 - y) log(1 - p))."""
    return sums.cross_entropy.sum() / sums.pixels.sum()


BCE = Term(sums, value)
