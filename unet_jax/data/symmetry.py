"""Midlines of symmetric heads: where a slice's tumour lies in one half, the other half is that of a healthy head.

Axial and coronal slices are nearly their own mirror images, sagittal ones are not. NumPy and SciPy.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Shaped
from scipy import ndimage

from unet_jax.data.converted.arrays import Arrays
from unet_jax.imaging.resize import percentiles, resize
from unet_jax.shared.progress import track

GRID = 64
"""Rows that a slice is compared at; lengths below are in a GRIDth of the picture's side: 3 pixels of 192."""
AIR = 0.08
"""Largest intensity of air, of a slice whose 1st and 99th percentile are 0 and 1."""
LEAST_OVERLAP, LEAST_LIKENESS, LEAST_DETAIL = 0.88, 0.5, 0.4
"""Least IoU of a head and its mirror image, and least correlations of the two: of intensities, and of what stands out
from them within the skull. Of the Figshare slices with a tumour on one side of what might be a midline, a few sagittal
ones reach one or two of the three; of the 430 that reach all, at 192 px, none was seen that is sagittal."""
OFF_CENTRE = 0.08
"""Largest distance of the midline from the middle of the head, in widths of the head."""
MARGIN = 1.0
"""Least distance of the tumour from the midline."""


def midline(image: Shaped[np.ndarray, "h w"], mask: Shaped[np.ndarray, "h w"]) -> float:
    """Find the vertical midline of a symmetric head whose tumour lies on one side of it.

    Args:
        image: intensities of any real dtype, at the network's size.
        mask: 0 and 1.

    Returns:
        Position c in pixels, a multiple of one half: column j is the mirror image of column 2c - j. It is c where the
        columns right of c are free of tumour, -c where the left ones are, and 0.0 where there is no tumour, the head is
        not symmetric, or the tumour is within MARGIN of the midline.
    """
    low, high = percentiles(image)
    tumor = np.flatnonzero(mask.any(axis=0))
    if not tumor.size or high <= low:
        return 0.0
    rows, width = min(GRID, image.shape[0]), image.shape[1]
    unit = np.array([rows, width]) / GRID
    x = np.clip((resize(image, (rows, width)).astype(np.float64) - low) / (high - low), 0, 1)
    head = _head(ndimage.gaussian_filter(x, unit))
    if head is None:
        return 0.0
    # What is at the tumour's edge is left out of the comparison with it, as is the mirror image of both.
    kept = ndimage.maximum_filter(resize(mask, (rows, width)), _box(2 * unit)) == 0
    inside = ndimage.minimum_filter(head.astype(np.uint8), _box(4 * unit)) > 0
    detail = _blurred(x, kept, 0.7 * unit) - _blurred(x, kept, 4 * unit)

    whole = head.astype(np.float64)
    common = _convolved(whole, whole)
    overlap = common / (2 * whole.sum() - common)
    likeness = _correlations(_blurred(x, kept, unit), (head & kept).astype(np.float64))
    details = _correlations(detail, (inside & kept).astype(np.float64))
    columns = np.flatnonzero(head.any(axis=0))
    middle, reach = (columns[0] + columns[-1]) / 2, OFF_CENTRE * len(columns)
    twice = np.arange(max(0, int(np.ceil(2 * (middle - reach)))), int(2 * (middle + reach)) + 1)
    best = twice[np.argmax((overlap + likeness / 2 + details / 2)[twice])]
    if overlap[best] < LEAST_OVERLAP or likeness[best] < LEAST_LIKENESS or details[best] < LEAST_DETAIL:
        return 0.0
    position, margin = float(best) / 2, MARGIN * unit[1]
    if tumor[-1] <= position - margin:
        return position
    return -position if tumor[0] >= position + margin else 0.0


def midlines(arrays: Arrays, rows: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, " n"]:
    """Find the midline of the slices in some rows of a dataset; 0 in all others."""
    found = np.zeros(len(arrays), np.float32)
    for row in track(rows.tolist(), len(rows), "midlines"):
        found[row] = midline(arrays.images[row], arrays.masks[row])
    return found


def without_tumor(image: Shaped[np.ndarray, "h w"], midline: float) -> Shaped[np.ndarray, "h w"]:
    """Replace the half of a slice that has the tumour by the mirror image of the other half.

    Args:
        image: of any dtype, which stays.
        midline: as the function of that name returns it, not 0.

    Returns:
        The slice. Where the healthy half is the narrower one, its outermost column is repeated.
    """
    columns, position = np.arange(image.shape[1]), abs(midline)
    ill = columns < position if midline > 0 else columns > position
    source = np.where(ill, 2 * position - columns, columns).clip(0, image.shape[1] - 1)
    return image[:, source.astype(int)]


def _head(smooth: Float64[np.ndarray, "h w"]) -> np.ndarray | None:
    """Find the largest connected part that is no air, holes filled."""
    labels = np.zeros(smooth.shape, np.int32)
    ndimage.label(smooth > AIR, output=labels)
    sizes = np.bincount(labels.ravel())
    if len(sizes) == 1:
        return None
    return np.asarray(ndimage.binary_fill_holes(labels == 1 + np.argmax(sizes[1:])))


def _blurred(
    x: Float64[np.ndarray, "h w"], known: Bool[np.ndarray, "h w"], sigma: Float64[np.ndarray, " 2"]
) -> Float64[np.ndarray, "h w"]:
    """Average by a Gaussian over the known pixels alone; far from any the value means nothing."""
    weight = ndimage.gaussian_filter(known.astype(np.float64), sigma)
    return ndimage.gaussian_filter(x * known, sigma) / np.maximum(weight, 1e-3)


def _box(radii: Float64[np.ndarray, " 2"]) -> tuple[int, int]:
    """Give the sides of a box of pixels that reaches at least so far from its middle."""
    down, across = 2 * np.ceil(radii).astype(int) + 1
    return int(down), int(across)


def _convolved(a: Float64[np.ndarray, "h w"], b: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, " k"]:
    """Compute for every sum k of two columns, 0 to 2w - 2, the sum over rows and columns of a[:, j] * b[:, k - j]."""
    length = 2 * a.shape[1]
    spectrum = np.fft.rfft(a, length) * np.fft.rfft(b, length)
    return np.fft.irfft(spectrum.sum(axis=0), length)[:-1]


def _correlations(x: Float64[np.ndarray, "h w"], weight: Float64[np.ndarray, "h w"]) -> Float64[np.ndarray, " k"]:
    """Correlate a picture with its mirror image about every midline k / 2.

    Pearson's coefficient over the pixels whose own weight and whose mirror image's are 1, as ratios of convolutions:
    sums over j of w[j] w[k - j] times 1, x[j], x[j]^2 and x[j] x[k - j]. 0 where there is none, or no contrast.
    """
    count = _convolved(weight, weight)
    some = count > 0.5  # but for rounding it is a whole number
    divisor = np.where(some, count, 1)
    mean = _convolved(weight * x, weight) / divisor
    variance = _convolved(weight * x * x, weight) / divisor - mean**2
    covariance = _convolved(weight * x, weight * x) / divisor - mean**2
    contrast = some & (variance > 1e-9)
    return np.where(contrast, covariance / np.where(contrast, variance, 1), 0)
