"""Lovász hinge of each slice, a mean over slices and classes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from unet_jax.config import LossConfig
from unet_jax.training.losses.term import Mean, Term, mean


def sums(
    logits: Float[Array, "b h w c"], target: Float[Array, "b h w c"], valid: Float[Array, " b"], config: LossConfig
) -> Mean:
    """Sum the Lovász extension of 1 - IoU, at the hinge errors of pixels, over valid slices and their classes.

    A pixel of logit x has the error m = 1 - x where the target is 1 and 1 + x where it is 0, and counts where m > 0.
    With the errors in falling order, m_1 to m_n, the loss is the sum of max(m_k, 0) g_k, where g_k is by how much
    1 - IoU grows when the k-th pixel is wrong too. Logits 0.5 and 1 of targets 1 and 0 have the errors 0.5 and 2; the
    second pixel being wrong makes 1 - IoU 1/2, and both 1: the loss is 2 * 1/2 + 0.5 * 1/2 = 1.25.

    Where a slice has no tumour of a class, 1 - IoU is 1 as soon as any pixel is wrong. There the loss is the largest
    error alone, max(1 + largest logit, 0), and the gradient is that of one pixel.

    Arguments are as in `Term`. The sort is what it costs.

    Source: Berman et al., "The Lovász-softmax loss", arXiv:1705.08790, equations 6, 8 and 9 with the hinge of its
    section 3, and algorithm 1.
    """
    b, h, w, c = logits.shape
    errors = (1 - logits * (2 * target - 1)).reshape(b, h * w, c)
    # Both are sorted by the first, which takes less time than sorting positions and gathering by them. The sort is
    # stable, so that pixels that tie share the gradient in the same way on every backend.
    negative, falling_target = jax.lax.sort((-errors, target.reshape(b, h * w, c)), dimension=1, num_keys=1)
    hinge = jnp.maximum(-negative, 0.0)
    loss = (hinge * _increments(falling_target)).sum(1)
    v = valid.reshape(-1, 1)
    return Mean((loss * v).sum(), (jnp.ones_like(loss) * v).sum())


def _increments(target: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
    """Compute by how much 1 - IoU grows with each pixel that is wrong, in their order along axis 1.

    Of the IoU i / u after a pixel, i + 1 and u were before it if it is tumour, else i and u - 1. The difference is
    written out, since that of two ratios near to each other would have few right digits.
    """
    intersection = target.sum(1, keepdims=True) - jnp.cumsum(target, axis=1)
    union = target.sum(1, keepdims=True) + jnp.cumsum(1 - target, axis=1)
    tumor = 1 / union
    # The union before the first pixel is empty where there is no tumour, and the IoU then 1 by definition.
    other = jnp.where(union > 1, intersection / jnp.maximum(union * (union - 1), 1.0), 1.0)
    return jnp.where(target > 0, tumor, other)


LOVASZ = Term(sums, mean)
