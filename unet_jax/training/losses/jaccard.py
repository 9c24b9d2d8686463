"""Jaccard loss of a set of slices taken as one image."""

from jaxtyping import Array, Float

from unet_jax.config import LossConfig
from unet_jax.training.losses import dice
from unet_jax.training.losses.term import Term


def value(sums: dice.Sums, config: LossConfig) -> Float[Array, ""]:
    """Compute 1 - (overlap + s) / (total - overlap + s) with smoothing s, averaged over the classes.

    The sums are those of Dice. Probabilities 0.8 and 0.4 of targets 1 and 0 give, with smoothing 1,
    1 - (0.8 + 1) / (2.2 - 0.8 + 1) = 0.25.

    Source: Rahman and Wang, "Optimizing intersection-over-union in deep neural networks for image segmentation",
    ISVC 2016, doi:10.1007/978-3-319-50835-1_22, here with smoothing.
    """
    union = sums.total - sums.overlap
    jaccard = (sums.overlap + config.smoothing) / (union + config.smoothing)
    return 1 - jaccard.mean()


JACCARD = Term(dice.sums, value)
