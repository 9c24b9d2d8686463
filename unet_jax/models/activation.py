"""Activations whose gradients need their results alone.

Flax's own keep what they were given for the gradient, beside the result, which the next layer keeps. So on a CPU a
convolution's result would be written, read again and written a second time; this way oneDNN applies a ReLU as it
writes.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_vjp
def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Give max(x, 0); its gradient is 0 where x is not above 0."""
    return jnp.maximum(x, 0)


@jax.custom_vjp
def relu6(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Give min(max(x, 0), 6); its gradient is 0 where x is not between 0 and 6."""
    return jnp.clip(x, 0, 6)


relu.defvjp(lambda x: (relu(x), relu(x)), lambda y, g: (jnp.where(y > 0, g, 0),))
relu6.defvjp(lambda x: (relu6(x), relu6(x)), lambda y, g: (jnp.where((y > 0) & (y < 6), g, 0),))
