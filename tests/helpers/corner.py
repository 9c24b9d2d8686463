"""A slice with bright discs, and a network that finds those above the diagonal."""

from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from unet_jax.inference.network import Network
from unet_jax.inference.predictor import Predictor

SIDE = 64


def corner_predictor() -> Predictor:
    """Predict what is bright above the diagonal from the upper left to the lower right corner, at SIDE pixels."""
    above = np.triu(np.ones((SIDE, SIDE), bool), 1)

    def probabilities(images, p1, p99, *, tta):
        low, span = p1[:, None, None], (p99 - p1)[:, None, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.where(span > 0, np.clip((images - low) / span, 0, 1), 0)
        return np.where(above, scaled, 0).astype(np.float32)

    return Predictor(
        [Network("corner", None, SIDE, probabilities, None, 7, "", 0.5, None, "NumPy", "float32", None)], 0.5
    )


def head() -> np.ndarray:
    """Three bright discs in a dark one, the first of them above the diagonal; as a slice is looked at."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.where(inside(), 300, 0)
    image[wanted()] = 2000
    image[(y - 24) ** 2 + (x - 12) ** 2 < 5**2] = 2000  # above it, too, in a slice of narrower pixels
    image[(y - 52) ** 2 + (x - 40) ** 2 < 5**2] = 2000  # in one of lower pixels
    return image.astype(np.int16)


def inside() -> np.ndarray:
    """Mark the dark disc of `head`."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - 32) ** 2 + (x - 32) ** 2 < 30**2


def wanted() -> np.ndarray:
    """Mark the disc of `head` that is above the diagonal."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - 20) ** 2 + (x - 42) ** 2 < 9**2


def mask_of(job, name: str) -> np.ndarray:
    """Read a mask that a job has written."""
    path: Path = job.out / name
    return np.asarray(nib.load(path).dataobj) > 0 if name.endswith("gz") else np.asarray(Image.open(path)) > 0


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the Dice coefficient of two masks."""
    return 2 * (a & b).sum() / (a.sum() + b.sum())
