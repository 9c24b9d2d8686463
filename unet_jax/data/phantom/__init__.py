"""The phantom: MRI-like slices of invented patients, made from a seed alone."""

from unet_jax.data.phantom.make import write_phantom

__all__ = ["write_phantom"]
