"""The table of loss terms, and their weighted sum."""

import functools
import operator
from typing import Any, TypeVar

import jax
from jaxtyping import Array, Float

from unet_jax.config import LossConfig
from unet_jax.training.losses.bce import BCE
from unet_jax.training.losses.dice import DICE
from unet_jax.training.losses.focal import FOCAL
from unet_jax.training.losses.jaccard import JACCARD
from unet_jax.training.losses.lovasz import LOVASZ
from unet_jax.training.losses.slice_dice import SLICE_DICE
from unet_jax.training.losses.term import Term
from unet_jax.training.losses.tversky import TVERSKY

T = TypeVar("T")

TERMS: dict[str, Term] = {
    "dice": DICE,
    "bce": BCE,
    "lovasz": LOVASZ,
    "slice_dice": SLICE_DICE,
    "jaccard": JACCARD,
    "tversky": TVERSKY,
    "focal": FOCAL,
}
"""Terms by the field of LossConfig that weights them. A new one is a file, a row here and a field there."""


def loss_sums(
    logits: Float[Array, "b h w c"], target: Float[Array, "b h w c"], valid: Float[Array, " b"], config: LossConfig
) -> dict[str, Any]:
    """Compute the sums of one batch for each term that has a weight; arguments as in `Term`."""
    return {name: TERMS[name].sums(logits, target, valid, config) for name in _weights(config)}


def merge(a: T, b: T) -> T:
    """Add two pytrees leaf by leaf, such as the sums of two sets of slices."""
    return jax.tree.map(operator.add, a, b)


def loss_value(sums: dict[str, Any], config: LossConfig) -> Float[Array, ""]:
    """Compute the loss of all slices in `sums` together: the terms' values times their weights."""
    values = [weight * TERMS[name].value(sums[name], config) for name, weight in _weights(config).items()]
    return functools.reduce(operator.add, values)


def _weights(config: LossConfig) -> dict[str, float]:
    """Weights that are not zero, by term, in the order of the table."""
    weights = {name: getattr(config, name) for name in TERMS}
    return {name: weight for name, weight in weights.items() if weight}
