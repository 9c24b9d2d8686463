"""Resampling of slices and masks by matrices and displacements: once, however many changes there are."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Shaped


def warp(
    x: Float[Array, "b h w 1"],
    masks: Shaped[Array, "b h w"],
    matrix: Float[Array, "b 3 3"],
    displacement: Float[Array, "b 2 h w"] | None = None,
) -> tuple[Float[Array, "b h w 1"], Shaped[Array, "b h w"]]:
    """Sample each slice and its mask bilinearly at matrix @ place + displacement; what lies outside is 0.

    Args:
        x: network input, at least 0.
        masks: 0 or 1.
        matrix: from a place (y, x, 1) of the result to that of `x` which is seen there, in pixels from the centre.
        displacement: added to the latter, (y, x) in pixels.

    Returns:
        The slices, and the masks in their type: 1 where the sampled mask is at least one half.
    """
    b, h, w = masks.shape
    pixels = np.indices((h, w), np.float32).reshape(2, h * w)
    centre = np.array([[h - 1], [w - 1]], np.float32) / 2
    from_centre = jnp.asarray(np.concatenate([pixels - centre, np.ones((1, h * w), np.float32)]))
    # A product of matrices, because XLA computes it once on a CPU, and sums of products anew wherever they are used.
    places = jnp.matmul(matrix[:, :2], from_centre[None], precision="highest") + centre[None]
    if displacement is not None:
        places = places + displacement.reshape(b, 2, h * w)
    # The mask goes along as the sign, so that one number is fetched for both; -0.0 is a number, too.
    signed = jnp.where(masks[..., None] > 0, -x, x)[..., 0]
    # A border of zeros stands for all that is outside: a pixel before the first, and two behind the last.
    flat = jnp.pad(signed, ((0, 0), (1, 2), (1, 2))).reshape(b, -1)
    y, x_ = jnp.clip(places[:, 0] + 1, 0, h + 1), jnp.clip(places[:, 1] + 1, 0, w + 1)
    top, left = jnp.floor(y), jnp.floor(x_)
    first = top.astype(jnp.int32) * (w + 3) + left.astype(jnp.int32)
    corners = [_take(flat, first + step) for step in (0, 1, w + 3, w + 4)]
    down, right = y - top, x_ - left
    sampled = _between([jnp.abs(corner) for corner in corners], down, right)
    share = _between([jnp.signbit(corner).astype(jnp.float32) for corner in corners], down, right)
    return sampled.reshape(x.shape), (share >= 0.5).astype(masks.dtype).reshape(b, h, w)


def _take(flat: Float[Array, "b i"], index: Int32[Array, "b n"]) -> Float[Array, "b n"]:
    """Fetch pixels, each slice's for itself, so that a batch divided among devices stays where it is."""
    return jnp.take_along_axis(flat, index, axis=1, mode="promise_in_bounds")


def _between(
    corners: list[Float[Array, "b n"]], down: Float[Array, "b n"], right: Float[Array, "b n"]
) -> Float[Array, "b n"]:
    """Interpolate between four pixels, above and below, each left and right."""
    above = corners[0] * (1 - right) + corners[1] * right
    below = corners[2] * (1 - right) + corners[3] * right
    return above * (1 - down) + below * down
