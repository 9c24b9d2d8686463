"""Dice loss of each slice, a mean over slices and classes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.config import LossConfig
from unet_jax.training.losses.term import Mean, Term, mean


def sums(
    logits: Float[Array, "b h w c"], target: Float[Array, "b h w c"], valid: Float[Array, " b"], config: LossConfig
) -> Mean:
    """Sum 1 - (2 overlap + s) / (total + s) with smoothing s over valid slices and their classes.

    Arguments are as in `Term`. Where a slice has no tumour of a class, it is 1 - s / (sum of probabilities + s): 0 if
    nothing is predicted, and the nearer to 1 the more is. A small tumour counts as much as a large one.

    Source: Milletari et al., "V-Net", arXiv:1606.04797, equation 1, without its squares.
    """
    probs = jax.nn.sigmoid(logits)
    overlap, total = (probs * target).sum((1, 2)), (probs + target).sum((1, 2))
    loss = 1 - (2 * overlap + config.smoothing) / (total + config.smoothing)
    v = valid.reshape(-1, 1)
    return Mean((loss * v).sum(), (jnp.ones_like(loss) * v).sum())


SLICE_DICE = Term(sums, mean)
