"""Losses: a weighted sum of terms, each of sums that merge over batches."""

from unet_jax.training.losses.table import TERMS, loss_sums, loss_value, merge
from unet_jax.training.losses.term import Term
