"""Binary cross-entropy plus Dice loss, as sums that merge."""

from typing import Any

import flax.struct
import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.config import LossConfig


@flax.struct.dataclass
class LossSums:
    """What the loss of a set of slices is made of, per class: shape (c,), float32. `a + b` merges two sets."""

    cross_entropy: Any
    pixels: Any
    overlap: Any
    """Sum of probability times target."""
    total: Any
    """Sum of probabilities plus sum of targets."""

    def __add__(self, other: "LossSums") -> "LossSums":
        return LossSums(
            self.cross_entropy + other.cross_entropy,
            self.pixels + other.pixels,
            self.overlap + other.overlap,
            self.total + other.total,
        )


def loss_sums(logits: Float[Array, "b h w c"], target: Float[Array, "b h w c"], valid: Float[Array, " b"]) -> LossSums:
    """The sums of one batch.

    Args:
        logits: any real numbers.
        target: 0 or 1.
        valid: 1 for slices that count, 0 for padding.
    """
    v = valid.reshape(-1, 1, 1, 1)
    probs = jnp.exp(-jnp.logaddexp(0.0, -logits))
    # -log p of the target's side: log(1 + e^x) - x y, without overflow.
    cross_entropy = jnp.logaddexp(0.0, logits) - logits * target
    axes = (0, 1, 2)
    return LossSums(
        cross_entropy=(cross_entropy * v).sum(axes),
        pixels=(jnp.ones_like(logits) * v).sum(axes),
        overlap=(probs * target * v).sum(axes),
        total=((probs + target) * v).sum(axes),
    )


def loss_value(sums: LossSums, config: LossConfig) -> Float[Array, ""]:
    """The loss of all slices in `sums` together.

    Mean cross-entropy over pixels and classes, plus 1 - (2 overlap + s) / (total + s) with smoothing s, averaged over
    the classes; each part times its weight. The Dice part sees the whole set as one image.

    Source: Dice loss, Milletari et al., "V-Net", arXiv:1606.04797, equation 1, without its squares.
    """
    cross_entropy = sums.cross_entropy.sum() / sums.pixels.sum()
    dice = (2 * sums.overlap + config.smoothing) / (sums.total + config.smoothing)
    return config.bce * cross_entropy + config.dice * (1 - dice.mean())
