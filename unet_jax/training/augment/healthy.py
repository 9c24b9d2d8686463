"""Make slices without a tumour: the healthy half of a symmetric head takes the place of the other one."""

import zlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from unet_jax.config import AugmentConfig


def healthy(
    key: Array,
    x: Float[Array, "b h w 1"],
    masks: Shaped[Array, "b h w"],
    midline: Float[Array, " b"],
    config: AugmentConfig,
) -> tuple[Float[Array, "b h w 1"], Shaped[Array, "b h w"]]:
    """Mirror the healthy half over the midline, and empty the mask, with probability `config.healthy`.

    The rest of the slices stay as they are, and all without a midline. With probability 0 nothing is computed.

    Args:
        key: of the step; this operation draws from one of its own.
        x: the network's input.
        masks: 0 or 1, of any type, which stays.
        midline: position c in pixels, a multiple of one half, of a slice whose columns right of c are healthy; -c where
            the left ones are; 0 where there is none.
        config: probability.
    """
    if not config.healthy:
        return x, masks
    b, _, w, _ = x.shape
    own_key = jax.random.fold_in(key, zlib.crc32(b"healthy"))
    chosen = jax.random.bernoulli(own_key, config.healthy, (b,)) & (midline != 0)
    columns, c = jnp.arange(w, dtype=jnp.float32)[None], jnp.abs(midline)[:, None]
    ill = jnp.where(midline[:, None] > 0, columns < c, columns > c) & chosen[:, None]
    # As `data.symmetry.without_tumor`: beyond the edge of the healthy half its outermost column is repeated.
    source = jnp.where(ill, 2 * c - columns, columns).clip(0, w - 1).astype(jnp.int32)
    mirrored = jnp.take_along_axis(x, source[:, None, :, None], axis=2)
    return mirrored, jnp.where(chosen[:, None, None], jnp.zeros_like(masks), masks)
