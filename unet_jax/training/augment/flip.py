"""Mirror slices: an exact reversal of rows or columns."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped


def flip_half(
    key: Array, axis: int, x: Shaped[Array, "b h w 1"], masks: Shaped[Array, "b h w"]
) -> tuple[Shaped[Array, "b h w 1"], Shaped[Array, "b h w"]]:
    """Mirror each slice and its mask along an axis with probability one half.

    Args:
        key: of this flip.
        axis: 1 exchanges above and below, 2 left and right.
        x, masks: of any type.
    """
    chosen = jax.random.bernoulli(key, 0.5, (masks.shape[0],)).reshape(-1, 1, 1)
    masks = jnp.where(chosen, jnp.flip(masks, axis), masks)
    return jnp.where(chosen[..., None], jnp.flip(x, axis), x), masks
