"""Masks, probabilities, spreads and overlays to files; an existing file is replaced once the new one is whole."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8
from PIL import Image

from unet_jax.scoring.components import erode
from unet_jax.shared.files import replacing

PNG_LEVEL = 3
"""Level of compression; the default, 6, takes twice the time, for a larger overlay."""
OVERLAY_COLOUR = (230, 159, 0)
"""The orange of Okabe and Ito's palette, which colour-blind people tell from grey and from the other seven."""
OVERLAY_OPACITY = 0.3
LARGEST_SPREAD = 0.5
"""Largest standard deviation of probabilities: half of them 0, half of them 1."""


def write_mask(path: Path, mask: Bool[np.ndarray, "h w"] | UInt8[np.ndarray, "h w"]) -> None:
    """Write a mask, True or nonzero where there is tumour, as an 8-bit PNG of 0 and 255."""
    _write_png(path, (mask != 0) * np.uint8(255))


def write_probs(path: Path, probs: Float[np.ndarray, "h w"]) -> None:
    """Write probabilities, 0 to 1, as a float16 `.npy`."""
    # Into a file NumPy would write by itself, and not notice that the disk is full.
    content = io.BytesIO()
    np.lib.format.write_array(content, probs.astype(np.float16), allow_pickle=False)
    with replacing(path) as f:
        f.write(content.getbuffer())


def write_spread(path: Path, spread: Float[np.ndarray, "h w"]) -> None:
    """Write the spread of probabilities, 0 to LARGEST_SPREAD, as an 8-bit PNG of 0 to 255."""
    grey = np.rint(np.clip(spread * np.float32(255 / LARGEST_SPREAD), 0, 255)).astype(np.uint8)
    _write_png(path, grey)


def write_overlay(path: Path, grey: UInt8[np.ndarray, "h w"], mask: Shaped[np.ndarray, "h w"]) -> None:
    """Write a slice, as `to_display` gives it, with the outline of a mask drawn and the inside tinted, as a PNG."""
    mask = mask.astype(bool)
    colour = np.array(OVERLAY_COLOUR, np.float32)
    greys = np.arange(256, dtype=np.float32)[:, None]
    tinted = np.rint((1 - OVERLAY_OPACITY) * greys + OVERLAY_OPACITY * colour).astype(np.uint8)
    inside = mask
    for _ in range(max(1, round(min(mask.shape) / 256))):
        inside = erode(inside)
    canvas = np.repeat(grey[..., None], 3, axis=2)
    canvas[inside] = tinted[grey[inside]]
    canvas[mask & ~inside] = OVERLAY_COLOUR
    _write_png(path, canvas)


def _write_png(path: Path, pixels: UInt8[np.ndarray, "h w *channels"]) -> None:
    with replacing(path) as f:
        Image.fromarray(pixels).save(f, "PNG", compress_level=PNG_LEVEL)
