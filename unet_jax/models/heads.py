"""From the network's output to logits of tumour."""

from jaxtyping import Array, Float


def tumor_logits(logits: Float[Array, "b h w c"]) -> Float[Array, "b h w"]:
    """The logit of "tumour of whatever type": the largest over the classes."""
    return logits.max(axis=-1)
