"""Distances between two outlines: 95th percentile and mean, and the fraction within a tolerance.

NumPy and SciPy on the host. The definitions and their pitfalls: Maier-Hein and Reinke et al., Metrics reloaded, Nature
Methods 21, 2024.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.spatial import KDTree

from unet_jax.scoring.components import bounding_box, erode


@dataclass(frozen=True)
class SurfaceScore:
    """Distances between the true and the predicted outline of one slice, in the unit of its spacing."""

    hd95: float
    """95th percentile of the Hausdorff distance; 0 at best, the image's diagonal at worst."""
    assd: float
    """Average symmetric surface distance; 0 at best, the image's diagonal at worst."""
    nsd: float
    """Normalised surface Dice, 0 to 1: the fraction of the outlines that is within the tolerance of each other."""


def surface_scores(
    pred: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"], spacing: float = 1.0, *, tolerance: float
) -> SurfaceScore:
    """Compare the outlines of a prediction and of the truth; the two may be exchanged.

    An outline is the mask's pixels with a neighbour (of four) outside the mask or the image. From each of its pixels
    the distance to the nearest one of the other outline is taken. As in MedPy 0.5, hd95 is the 95th percentile and
    assd the mean of both directions' distances together. nsd is that of Nikolov et al. 2018 (arXiv:1809.04430),
    counted in pixels of outline.

    Args:
        pred, mask: predicted and true tumour.
        spacing: side of a pixel: 1 for distances in pixels, or in mm.
        tolerance: how far apart outlines may be and still count as one, in the unit of `spacing`.

    Returns:
        The scores. By `metrics.EMPTY_RULE` 0, 0, 1 where both masks are empty; the image's diagonal twice, and 0,
        where one is.
    """
    box = bounding_box(pred | mask)
    if box is None:
        return SurfaceScore(0.0, 0.0, 1.0)
    if not (pred.any() and mask.any()):
        diagonal = math.hypot(*mask.shape) * spacing
        return SurfaceScore(diagonal, diagonal, 0.0)
    ours, theirs = (np.argwhere(each & ~erode(each)) for each in (pred[box], mask[box]))
    # A tree of the few hundred pixels of an outline is several times as fast as a distance transform of the box, and
    # as exact: squares of whole numbers are added.
    both = np.concatenate([KDTree(theirs).query(ours)[0], KDTree(ours).query(theirs)[0]]) * spacing
    # A distance that equals the tolerance must not miss it by the rounding of pixels times mm.
    within = both <= tolerance * (1 + 1e-9)
    return SurfaceScore(
        hd95=float(np.percentile(both, 95)),
        assd=float(both.mean()),
        nsd=float(within.mean()),
    )
