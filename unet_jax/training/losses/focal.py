"""Focal loss, a cross-entropy in which pixels that are nearly right count little."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.config import LossConfig
from unet_jax.training.losses.term import Mean, Term, mean


def sums(
    logits: Float[Array, "b h w c"], target: Float[Array, "b h w c"], valid: Float[Array, " b"], config: LossConfig
) -> Mean:
    """Sum -(1 - p)^gamma log p over pixels and classes, p the probability of the target's side.

    Arguments are as in `Term`; gamma is `config.focal_gamma`. With gamma 2, a pixel of p = 0.9 counts a hundredth of
    its cross-entropy: 0.01 * 0.105.

    Source: Lin et al., "Focal loss for dense object detection", arXiv:1708.02002, equation 4.
    """
    v = valid.reshape(-1, 1, 1, 1)
    right = logits * (2 * target - 1)
    # Both factors from logarithms, -log p and log(1 - p), which are finite for any logit.
    cross_entropy = jnp.logaddexp(0.0, -right)
    modulation = jnp.exp(-config.focal_gamma * jnp.logaddexp(0.0, right))
    return Mean((modulation * cross_entropy * v).sum(), (jnp.ones_like(logits) * v).sum())


FOCAL = Term(sums, mean)
