"""Dice loss of a set of slices taken as one image."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.config import LossConfig
from unet_jax.training.losses.term import Term


class Sums(NamedTuple):
    """Sums of a set of slices, per class: shape (c,), float32."""

    overlap: Any
    """Sum of probability times target."""
    total: Any
    """Sum of probabilities plus sum of targets."""


def sums(
    logits: Float[Array, "b h w c"], target: Float[Array, "b h w c"], valid: Float[Array, " b"], config: LossConfig
) -> Sums:
    """Sum overlap and total over the pixels of valid slices; arguments as in `Term`."""
    v = valid.reshape(-1, 1, 1, 1)
    probs = jnp.exp(-jnp.logaddexp(0.0, -logits))
    return Sums((probs * target * v).sum((0, 1, 2)), ((probs + target) * v).sum((0, 1, 2)))


def value(sums: Sums, config: LossConfig) -> Float[Array, ""]:
    """Compute 1 - (2 overlap + s) / (total + s) with smoothing s, averaged over the classes.

    Source: Milletari et al., "V-Net", arXiv:1606.04797, equation 1, without its squares.
    """
    dice = (2 * sums.overlap + config.smoothing) / (sums.total + config.smoothing)
    return 1 - dice.mean()


DICE = Term(sums, value)
