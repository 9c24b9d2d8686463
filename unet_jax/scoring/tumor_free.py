"""Figures of slices without a tumour: how often and how much is predicted where there is nothing. NumPy."""

from typing import Any

import numpy as np
from jaxtyping import Float64

SPECK = 0.001
"""Part of the picture up to which a prediction is a speck: 262 pixels of 512 x 512."""


def tumor_free_figures(areas: Float64[np.ndarray, " n"]) -> dict[str, Any]:
    """Summarise what was predicted in slices without a tumour.

    Args:
        areas: part of each picture that is predicted, 0 to 1.

    Returns:
        n_slices, and as fractions `any` (slices with any pixel predicted), `over_0.1_percent` (slices with more than
        SPECK of the picture) and `mean_area`; these are None where there are no slices.
    """
    figures = {"any": areas > 0, "over_0.1_percent": areas > SPECK, "mean_area": areas}
    return {"n_slices": len(areas)} | {
        name: float(values.mean()) if len(areas) else None for name, values in figures.items()
    }
