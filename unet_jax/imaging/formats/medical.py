"""Scaling of stored values, which DICOM and NIfTI share."""

import numpy as np
from jaxtyping import Shaped


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
