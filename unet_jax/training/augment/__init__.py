"""Augmentation: random changes of training slices, inside the compiled step."""

from unet_jax.training.augment.table import augment_geometry, augment_intensity
