"""The scanner: texture of the tissues, an uneven coil, limited resolution and noise."""

from functools import cache

import numpy as np
from jaxtyping import Float32
from scipy import ndimage

from unet_jax.data.phantom.draw import SIDE, Picture


class Scanner:
    """Scanner with its coil, noise level and texture, which all slices of a stack share."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._gain = np.exp(0.16 * _field(rng, 5)) * np.float32(rng.uniform(0.9, 1.0))
        self._sigma, self._seed = np.float32(rng.uniform(1.5, 3.5)), int(rng.integers(0, 2**32))
        self._fine, self._coarse, self._patches = (_field(rng, knots) for knots in (110, 40, 12))

    def texture(self, i: int) -> tuple[Picture, Picture, Picture]:
        """Compute the texture of slice i: the stack's own, shifted, for no tissue repeats itself from slice to slice.

        Returns:
            Factors near 1 for what lies outside the brain, for the brain, and for a tumour; float32 (h, w) each.
        """
        fine, coarse = (np.roll(f, (61 * i, 37 * i), (0, 1)) for f in (self._fine, self._coarse))
        outside = 1 + 0.075 * fine + 0.035 * coarse
        brain = 1 + 0.025 * fine + 0.02 * coarse + 0.03 * self._patches
        return outside, brain, 1 + 0.07 * fine + 0.1 * coarse

    def scan(self, picture: Picture, i: int) -> Picture:
        """Blur slice i to the scanner's resolution; apply the coil's gain and Rician noise."""
        signal = ndimage.gaussian_filter(picture, 0.85, truncate=3) * self._gain
        noise = np.random.default_rng([self._seed, i]).standard_normal((SIDE, SIDE + 1), np.float32)
        real = (noise[:, 1:] + noise[:, :-1]) * (self._sigma / np.float32(2**0.5))
        imaginary = np.roll(real, (97, 171), (0, 1))  # far enough away to be independent to the eye, at half the cost
        return np.sqrt((signal + real) ** 2 + imaginary**2)


def _field(rng: np.random.Generator, knots: int) -> Picture:
    """Compute smooth noise of unit variance: `knots` random values a side, joined by cubic B-splines."""
    weights = _spline_weights(knots)
    grid = rng.standard_normal((weights.shape[1],) * 2, dtype=np.float32)
    return weights @ grid @ weights.T


@cache
def _spline_weights(knots: int) -> Float32[np.ndarray, "h k"]:
    """Compute the weights of the random values in each pixel of a row."""
    at = np.linspace(0, knots - 1, SIDE)
    d = np.abs(at[:, None] + 1 - np.arange(knots + 2)[None])
    w = np.where(d < 1, 2 / 3 - d**2 + d**3 / 2, np.where(d < 2, (2 - d) ** 3 / 6, 0))
    return (w / np.sqrt((w**2).sum(1, keepdims=True))).astype(np.float32)
