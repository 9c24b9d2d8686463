"""Random numbers of a batch, one a slice.

All are drawn in the shape of the whole batch, so that they do not depend on how it is divided among devices.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def draw_within(key: Array, b: int, reach: float) -> Float[Array, " b"]:
    """Draw numbers evenly from -reach to reach."""
    return jax.random.uniform(key, (b,), minval=-reach, maxval=reach)


def draw_factors(key: Array, b: int, more: float) -> Float[Array, " b"]:
    """Draw factors from 1 / (1 + more) to 1 + more, evenly on a logarithmic scale: f is as likely as 1 / f."""
    return jnp.exp(draw_within(key, b, 1.0) * jnp.log1p(more))
