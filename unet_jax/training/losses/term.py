"""The form of a loss: what is summed over slices, and how the sums become a number."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from unet_jax.config import LossConfig


class Term(NamedTuple):
    """One term of the loss.

    What is summed may be anything that adds up over slices: sums over pixels, as of Dice over a batch as one image, or
    (total, count) of values of each slice, as a loss per slice needs.
    """

    sums: Callable[..., Any]
    """`(logits, target, valid, config) -> sums`: logits (b, h, w, c), any real numbers; target (b, h, w, c), 0 or 1;
    valid (b,), 1 for slices that count and 0 for padding; config, a LossConfig. The result is a pytree of arrays, of
    which those of two batches are added leaf by leaf."""
    value: Callable[..., Any]
    """`(sums, config) -> loss`, a scalar, the lower the better."""


class Mean(NamedTuple):
    """Sums of a mean: over slices, or over pixels."""

    total: Any
    """Sum of the values, float32."""
    count: Any
    """Number of values, float32."""


def mean(sums: Mean, config: LossConfig) -> Float[Array, ""]:
    """Divide the sum of the values by their number: the `value` of a term that is a mean."""
    return sums.total / sums.count
