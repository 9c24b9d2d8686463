"""Pixel counts on a device: `scoring.metrics.Counts` of uint32, good for 2**32 pixels (4,096 slices of 1024x1024).

Longer sums belong on the host, in NumPy int64 or Python integers.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Shaped

from unet_jax.scoring.metrics import Counts, outcomes


def zero_counts() -> Counts:
    """Make counts of nothing, on the default device."""
    # Four arrays, not one four times: a donated state must not hold the same buffer twice.
    return Counts(*(jnp.zeros((), jnp.uint32) for _ in Counts._fields))


def count(pred: Shaped[Array, "b h w"], mask: Shaped[Array, "b h w"], valid: Bool[Array, " b"]) -> Counts:
    """Count the pixels of the valid slices of a batch, together.

    Args:
        pred: predicted tumour, bool or 0/1.
        mask: true tumour, likewise.
        valid: False for slices that only fill the batch.

    Returns:
        Counts of shape (), uint32.
    """
    chosen = valid[:, None, None]
    return Counts(*((kind & chosen).sum(dtype=jnp.uint32) for kind in outcomes(pred, mask)))
