"""The phantom: MRI-like slices of invented patients, made from a seed alone.

The pictures imitate contrast-enhanced T1-weighted MRI. `make` invents the patients: `heads` draws them plane by plane
from the shapes of `atlas.toml` and the tissues of `anatomy`, `tumors` grow in them, and the `scanner` adds texture, an
uneven coil, limited resolution and noise. Vessels, fat and choroid plexus are as bright as tumours, as in a real slice.
"""

from unet_jax.data.phantom.make import write_phantom

__all__ = ["write_phantom"]
