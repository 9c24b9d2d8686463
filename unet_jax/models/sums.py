"""Sums over all pixels of a batch, channel by channel, in a form that suits the backend."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def channel_sums(*arrays: Float[Array, "b h w c"]) -> list[Float[Array, " c"]]:
    """Sum arrays of one shape over batch and image, in float32.

    XLA computes a reduction of one operand in a CPU's slow form (3 to 10 times), after it has written the operand; one
    of several is a loop that takes in what makes the operands. So several arrays are summed together, row by row, and
    of one array its two halves are.
    """
    wide = [x.astype(jnp.float32) for x in arrays]
    width = wide[0].shape[2]
    if jax.default_backend() != "cpu" or (len(wide) == 1 and width % 2):
        return [x.sum((0, 1, 2)) for x in wide]
    if len(wide) == 1:
        left, right = _row_sums([wide[0][:, :, : width // 2], wide[0][:, :, width // 2 :]])
        return [(left + right).sum((0, 1))]
    return [x.sum((0, 1)) for x in _row_sums(wide)]


def _row_sums(operands: list[Array]) -> list[Array]:
    def add(sums: list[Array], more: list[Array]) -> list[Array]:
        return [a + b for a, b in zip(sums, more, strict=True)]

    return list(jax.lax.reduce(operands, [jnp.zeros((), jnp.float32)] * len(operands), add, (2,)))
