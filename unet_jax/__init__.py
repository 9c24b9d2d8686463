"""U-Net segmentation of brain tumours in MRI slices. Research software, not a medical device."""

from typing import Any

__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """`load`, which is imported when it is first asked for, because NumPy and jax take a second."""
    if name == "load":
        from unet_jax.runs.load import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
