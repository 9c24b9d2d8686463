"""Scaling of stored values and turning of slices, which DICOM and NIfTI share."""

import numpy as np
from jaxtyping import Float, Shaped

from unet_jax.imaging.scan import Turn

_LEAST_VOLUME = 0.1
"""Least volume that three directions of length 1 span; at right angles it is 1."""


def rescaled(stored: Shaped[np.ndarray, "*shape"], slope: float, intercept: float) -> Shaped[np.ndarray, "*shape"]:
    """Compute slope * stored + intercept: whole numbers where all three are and have over 8 bits, else float32.

    8-bit values that are scaled are taken for measurements, which `to_network` does not round.
    """
    if slope == 1 and intercept == 0:
        return stored
    if stored.dtype.kind in "iu" and stored.dtype.itemsize > 1 and slope.is_integer() and intercept.is_integer():
        info = np.iinfo(stored.dtype)
        reach = max(-info.min, info.max) * abs(slope) + abs(intercept)
        if reach < 2**63:
            kind = np.int32 if reach < 2**31 else np.int64
            return stored.astype(kind) * kind(slope) + kind(intercept)
    with np.errstate(over="ignore"):
        return (stored.astype(np.float64) * slope + intercept).astype(np.float32)


def upright(directions: Float[np.ndarray, "3 3"]) -> Turn | None:
    """Find how to look at a slice upright.

    Of the patient's axes, right to left, posterior to anterior and inferior to superior in this order, the later one of
    a slice runs up and the other to the left, whatever the slice: in axial slices anterior is up, in coronal and
    sagittal ones superior; the patient's right is on the left, in sagittal ones anterior.

    Args:
        directions: in its columns, of any length, the ways from one row of the slice as stored to the next, from one
            column to the next, and from one slice to the next: towards right, anterior and superior.

    Returns:
        None where the directions are no three.
    """
    axes = nearest_axes(directions)
    if axes is None:
        return None
    rows, columns, _ = axes
    transposed = rows[0] < columns[0]
    down, across = (columns, rows) if transposed else (rows, columns)
    return Turn(transposed, (-down[1], -across[1]))


def nearest_axes(directions: Float[np.ndarray, "3 3"]) -> list[tuple[int, int]] | None:
    """Call each direction, a column, by the patient's axis nearest to it: 0 to 2, and 1 or -1 for which way.

    No two get the same; None where they are no three directions.
    """
    lengths = np.linalg.norm(directions, axis=0)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        return None
    cosines = directions / lengths
    if abs(np.linalg.det(cosines)) < _LEAST_VOLUME:
        return None
    left, axes = np.abs(cosines), [(0, 0)] * 3
    for _ in range(3):
        axis, column = divmod(int(left.argmax()), 3)
        axes[column] = (axis, 1 if cosines[axis, column] > 0 else -1)
        left[axis], left[:, column] = -1, -1
    return axes
