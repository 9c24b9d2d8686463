"""Tversky loss of a set of slices taken as one image: Dice with a price for each kind of error."""

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float

from unet_jax.config import LossConfig
from unet_jax.training.losses.term import Term


class Sums(NamedTuple):
    """Soft counts of a set of slices, per class: shape (c,), float32."""

    tp: Any
    """Sum of probability times target."""
    fp: Any
    """Sum of probability where the target is 0."""
    fn: Any
    """Sum of 1 - probability where the target is 1."""


def sums(
    logits: Float[Array, "b h w c"], target: Float[Array, "b h w c"], valid: Float[Array, " b"], config: LossConfig
) -> Sums:
    """Sum soft true positives, false positives and false negatives of valid slices; arguments as in `Term`."""
    v = valid.reshape(-1, 1, 1, 1)
    probs = jax.nn.sigmoid(logits)
    return Sums(
        tp=(probs * target * v).sum((0, 1, 2)),
        fp=(probs * (1 - target) * v).sum((0, 1, 2)),
        fn=((1 - probs) * target * v).sum((0, 1, 2)),
    )


def value(sums: Sums, config: LossConfig) -> Float[Array, ""]:
    """Compute 1 - (tp + s) / (tp + alpha fp + beta fn + s) with smoothing s, averaged over the classes.

    With alpha = beta = 1 it is the Jaccard loss; with 0.5 each it is the Dice loss of twice the smoothing.
    Probabilities 0.8 and 0.4 of targets 1 and 0 give, with alpha 0.3, beta 0.7 and smoothing 1,
    1 - 1.8 / (0.8 + 0.3 * 0.4 + 0.7 * 0.2 + 1) = 0.126.

    Source: Salehi et al., "Tversky loss function for image segmentation using 3D fully convolutional deep networks",
    arXiv:1706.05721, here with smoothing.
    """
    errors = config.tversky_alpha * sums.fp + config.tversky_beta * sums.fn
    tversky = (sums.tp + config.smoothing) / (sums.tp + errors + config.smoothing)
    return 1 - tversky.mean()


TVERSKY = Term(sums, value)
